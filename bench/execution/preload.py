"""Imported once by the fork server, so that every trial forked from it starts with TensorFlow at hand.

Nothing here may touch a device: a process that has used a GPU cannot be forked.
"""

import os

# TensorFlow's notices would land in the middle of the terminal's progress; they go to the server's log instead.
_log = os.open(os.environ["BENCH_SERVER_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(_log, 1)
os.dup2(_log, 2)
os.close(_log)

import keras  # noqa: E402, F401 - after TensorFlow, its backend
import numpy  # noqa: E402, F401
import scipy.special  # noqa: E402, F401
import sklearn.metrics  # noqa: E402
import sklearn.model_selection  # noqa: E402, F401
import tensorflow  # noqa: E402, F401

import bench.execution.trial  # noqa: E402
import bench.layers  # noqa: E402, F401
