"""Blocks that several architectures share, in plain Keras 3.

Built-in architectures import the module that has a block, so that a change to another one leaves their trials as they
are: `basic` for convolutions and normalisation, and a module for each family of architectures.
"""

from bench.layers.basic import batch_norm, conv_bn, torch_conv2d, torch_dense

__all__ = ["batch_norm", "conv_bn", "torch_conv2d", "torch_dense"]
