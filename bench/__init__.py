"""Benchmark image-classification architectures: accuracy, speed and size, with honest uncertainty.

Importing this package imports nothing heavy; TensorFlow is loaded only in the processes that train.
"""

__version__ = "0.1.0"
