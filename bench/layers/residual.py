"""Blocks of residual and dense networks: post-activation (He 2015), pre-activation (He 2016), identity at the start.

As in the papers' Torch code, convolutions have no bias and start normally distributed with variance 2 / fan-out
(Keras's `he_normal` takes the fan-in, and cuts the tails off), strided ones are padded evenly, and batch normalisation
is PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from bench.layers.basic import batch_norm, torch_dense


def conv(x: Any, filters: int, kernel_size: int, strides: int = 1, groups: int = 1) -> Any:
    """Apply a convolution without bias, padded evenly: its output has 1/strides of the size, rounded up. x: N×H×W×C."""
    if strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2)(x)
    padding = "same" if strides == 1 else "valid"
    start = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    return layers.Conv2D(
        filters, kernel_size, strides, padding, groups=groups, use_bias=False, kernel_initializer=start
    )(x)


def conv_norm(x: Any, filters: int, kernel_size: int, strides: int = 1, groups: int = 1) -> Any:
    """Apply `conv` and batch normalisation. x: N×H×W×C."""
    return batch_norm(conv(x, filters, kernel_size, strides, groups))


def norm_relu(x: Any) -> Any:
    """Apply batch normalisation and ReLU, the pre-activation of what follows. x: N×H×W×C."""
    return layers.ReLU()(batch_norm(x))


def join(x: Any, branch: Any, strides: int) -> Any:
    """Add a branch to its input and apply ReLU; a 1x1 convolution fits the input where the branch has other channels.

    That is option B of He et al. 2015, section 3.3. x: N×H×W×C, branch: N×H/strides×W/strides×F.
    """
    if x.shape[-1] != branch.shape[-1]:
        x = conv_norm(x, branch.shape[-1], 1, strides)
    return layers.ReLU()(layers.Add()([x, branch]))


def preactivated(x: Any, convolutions: Sequence[tuple[int, int]], strides: int, dropout: float = 0.0) -> Any:
    """Apply a pre-activation unit (He et al. 2016, figure 4e), the stride in its first convolution.

    Where channels change, the shortcut is a 1x1 convolution of the normalised input, as in the paper's code.

    Args:
        x: N×H×W×C.
        convolutions: filters and kernel size of each, in order.
        strides: of the unit.
        dropout: share of values dropped before each convolution but the first (Zagoruyko and Komodakis 2016).

    """
    (filters, kernel_size), *others = convolutions
    first = norm_relu(x)
    y = conv(first, filters, kernel_size, strides)
    for filters, kernel_size in others:
        y = norm_relu(y)
        y = layers.Dropout(dropout)(y) if dropout else y
        y = conv(y, filters, kernel_size)
    shortcut = x if x.shape[-1] == filters else conv(first, filters, 1, strides)
    return layers.Add()([shortcut, y])


def stages(x: Any, unit: Callable[[Any, int, int], Any], widths: Sequence[int], depths: Sequence[int]) -> Any:
    """Apply stages of `unit(x, width, strides)`, `depths` of them; all stages but the first halve height and width."""
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for number in range(depth):
            x = unit(x, width, 2 if stage and not number else 1)
    return x


def classify(x: Any, num_classes: int) -> Any:
    """Average over all positions, and return logits. x: N×H×W×C."""
    return torch_dense(layers.GlobalAveragePooling2D()(x), num_classes)


def gelu(x: Any) -> Any:
    """Apply the exact GELU (Hendrycks and Gimpel 2016), x·Φ(x), without the division in Keras's own.

    TensorFlow's division of bfloat16 is slow on a CPU: forward and backward, this takes about half the time there.
    """
    half = 0.5 * x
    return half + half * keras.ops.erf(math.sqrt(0.5) * x)


@keras.saving.register_keras_serializable(package="bench")
class IdentityStart(keras.initializers.VarianceScaling):  # type: ignore[misc]  # Keras has no types
    """Starts a convolution as one that passes its input on: its first filters are those of the identity.

    The others start as PyTorch's `nn.Conv2d`. A kernel of C input channels has C such filters, or all if it has fewer.
    """

    def __init__(self, seed: Any = None) -> None:
        super().__init__(1 / 3, "fan_in", "uniform", seed)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return a kernel of the shape (height, width, channels, filters)."""
        height, width, channels, filters = shape
        identity = np.zeros(shape, np.float32)
        identity[height // 2, width // 2] = np.eye(channels, filters)
        others = np.arange(filters) >= channels
        kernel = super().__call__(shape, dtype)
        return kernel * keras.ops.cast(others, kernel.dtype) + keras.ops.cast(identity, kernel.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the seed."""
        return {"seed": super().get_config()["seed"]}
