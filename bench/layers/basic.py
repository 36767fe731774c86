"""Convolutions, dense layers and batch normalisation with the details in which Keras differs from the papers' code.

Keras's own defaults differ from PyTorch's, in which most reference code is written: BatchNorm's epsilon (1e-3 against
1e-5) and momentum (0.99 against 0.9), the initialiser (Glorot uniform and zero biases against `torch_*` below), and
padding of strided convolutions ("same" pads more at the bottom and right, PyTorch evenly).
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers


def torch_conv2d(x: Any, filters: int, kernel_size: int, **options: Any) -> Any:
    """Apply a convolution initialised as PyTorch's `nn.Conv2d`; `same` padding unless told. x: float N×H×W×C."""
    fan_in = kernel_size**2 * x.shape[-1]
    options = {"padding": "same", **options}
    return layers.Conv2D(filters, kernel_size, **_torch_init(fan_in), **options)(x)


def torch_dense(x: Any, units: int, **options: Any) -> Any:
    """Apply a dense layer initialised as PyTorch's `nn.Linear`. x: float N×F."""
    return layers.Dense(units, **_torch_init(x.shape[-1]), **options)(x)


def batch_norm(x: Any) -> Any:
    """Apply batch normalisation (Ioffe and Szegedy 2015) with PyTorch's epsilon 1e-5 and momentum 0.9."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def conv_bn(x: Any, filters: int, kernel_size: int, strides: int = 1) -> Any:
    """Apply convolution without bias and batch norm; He initialisation, padding even on all sides. x: N×H×W×C."""
    if kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2)(x)
    x = layers.Conv2D(filters, kernel_size, strides, use_bias=False, kernel_initializer="he_normal")(x)
    return batch_norm(x)


def stochastic_depth(x: Any, rate: float) -> Any:
    """Drop a branch for whole images while training, and enlarge what is kept (Huang et al. 2016). x: N×..."""
    noise_shape = (None,) + (1,) * (len(x.shape) - 1)
    return layers.Dropout(rate, noise_shape)(x) if rate else x


def _torch_init(fan_in: int) -> dict[str, Any]:
    """Weights and biases uniform in ±1/√fan_in: Kaiming uniform with a = √5, as PyTorch 2's `reset_parameters`."""
    bound = 1 / math.sqrt(fan_in)
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        "bias_initializer": keras.initializers.RandomUniform(-bound, bound),
    }
