"""What the networks one idea away from the introductory text's CNN share with it.

`architectures/baseline_cnn.py` spells that network out; the others are made of these parts, in PyTorch's initialisation
as it is, so that a rung differs from it in its idea alone.
"""

from __future__ import annotations

from typing import Any

from keras import layers

from bench.layers.basic import torch_conv2d, torch_dense


def conv_pool(x: Any, filters: int) -> Any:
    """Apply one of the text's two stages: 3x3 convolution, ReLU, and max pooling by 2. x: float N×H×W×C."""
    x = torch_conv2d(x, filters, 3, activation="relu")
    return layers.MaxPooling2D(2)(x)


def two_convolutions(x: Any) -> Any:
    """Apply two 3x3 convolutions of as many filters as x has channels, a ReLU between them, none after. x: N×H×W×C."""
    filters = x.shape[-1]
    x = torch_conv2d(x, filters, 3, activation="relu")
    return torch_conv2d(x, filters, 3)


def dense_classifier(x: Any, units: int, num_classes: int, *, dropout: float = 0.0) -> Any:
    """Apply the text's two dense layers, with dropout before each where a rate is given. x: float N×H×W×C."""
    x = _drop(layers.Flatten()(x), dropout)
    x = _drop(torch_dense(x, units, activation="relu"), dropout)
    return torch_dense(x, num_classes)


def _drop(x: Any, rate: float) -> Any:
    return layers.Dropout(rate)(x) if rate else x
