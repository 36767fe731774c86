"""Blocks of networks made for phones and for little arithmetic: depthwise convolutions, inverted residuals, attention.

What the reference codes of these networks do differently is a `ConvStyle`; the blocks take one and are then the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
from keras import layers

from bench.layers.basic import stochastic_depth


@dataclass(frozen=True, kw_only=True)
class ConvStyle:
    """The details in which reference codes differ; the defaults are PyTorch's.

    Attributes:
        activation: name of the activation that follows batch normalisation.
        squeeze_activation: that between the two convolutions of squeeze-and-excitation.
        gate: that at the end of squeeze-and-excitation, which gives factors from 0 to 1.
        epsilon: what batch normalisation adds to the variance.
        momentum: share of the old moving statistics that stays in each step (PyTorch counts the other share).
        kernels: how convolutions are initialised. `torch` is PyTorch's own: uniform in ±1/√fan-in, which counts the
            channels of one group. The others are normal of variance 2/fan-out (He et al. 2015), which counts all
            filters in `fan_out`, even where each sees one group alone, and those of one group in `group_fan_out`.
        even_padding: whether strided convolutions pad all sides alike, as PyTorch; else bottom and right more, as
            TensorFlow's `same` does where the size is even.

    """

    activation: str = "relu"
    squeeze_activation: str = "relu"
    gate: str = "sigmoid"
    epsilon: float = 1e-5
    momentum: float = 0.9
    kernels: Literal["torch", "fan_out", "group_fan_out"] = "torch"
    even_padding: bool = True

    def conv(
        self, x: Any, filters: int, kernel_size: int = 1, strides: int = 1, *, groups: int = 1, linear: bool = False
    ) -> Any:
        """Apply convolution without bias, batch normalisation and, unless `linear`, the activation. x: N×H×W×C."""
        x = self.norm(self._convolve(x, filters, kernel_size, strides, groups))
        return x if linear else layers.Activation(self.activation)(x)

    def depthwise(self, x: Any, kernel_size: int, strides: int = 1, *, linear: bool = False) -> Any:
        """Apply `conv` with a kernel of its own for each channel. x: float N×H×W×C."""
        return self.conv(x, x.shape[-1], kernel_size, strides, groups=x.shape[-1], linear=linear)

    def norm(self, x: Any) -> Any:
        """Apply batch normalisation."""
        return layers.BatchNormalization(momentum=self.momentum, epsilon=self.epsilon)(x)

    def squeeze_excite(self, x: Any, squeezed: int) -> Any:
        """Scale each channel by what two dense layers, of `squeezed` units first, make of all channels' means.

        Hu et al. 2018 (arXiv 1709.01507), the dense layers as 1x1 convolutions with biases, which begin at 0.
        """
        channels = x.shape[-1]
        y = layers.GlobalAveragePooling2D(keepdims=True)(x)
        kernels = self._initializer(1, channels, squeezed, 1)
        y = layers.Conv2D(squeezed, 1, activation=self.squeeze_activation, kernel_initializer=kernels)(y)
        kernels = self._initializer(1, squeezed, channels, 1)
        y = layers.Conv2D(channels, 1, activation=self.gate, kernel_initializer=kernels)(y)
        return layers.Multiply()([x, y])

    def _convolve(self, x: Any, filters: int, kernel_size: int, strides: int, groups: int) -> Any:
        channels = x.shape[-1]
        kernels = self._initializer(kernel_size, channels, filters, groups)
        padding = "same"
        if self.even_padding and strides > 1 and kernel_size > 1:
            x = layers.ZeroPadding2D(kernel_size // 2)(x)
            padding = "valid"
        if groups == channels == filters:
            one_each = {"depthwise_initializer": kernels, "use_bias": False}
            return layers.DepthwiseConv2D(kernel_size, strides, padding, **one_each)(x)
        shared = {"groups": groups, "kernel_initializer": kernels, "use_bias": False}
        return layers.Conv2D(filters, kernel_size, strides, padding, **shared)(x)

    def _initializer(self, kernel_size: int, channels: int, filters: int, groups: int) -> Any:
        if self.kernels == "torch":
            bound = 1 / math.sqrt(kernel_size**2 * channels / groups)
            return keras.initializers.RandomUniform(-bound, bound)
        counted = filters // groups if self.kernels == "group_fan_out" else filters
        return keras.initializers.RandomNormal(stddev=math.sqrt(2 / (kernel_size**2 * counted)))


def inverted_residual(
    style: ConvStyle,
    x: Any,
    filters: int,
    *,
    expanded: int,
    kernel_size: int = 3,
    strides: int = 1,
    squeezed: int = 0,
    fused: bool = False,
    drop: float = 0.0,
) -> Any:
    """Apply 1x1 to `expanded` channels, depthwise, and a linear 1x1 to `filters`, and add x where the shapes agree.

    Sandler et al. 2018, section 3.3; MBConv of EfficientNet. Nothing is expanded where x has `expanded` channels
    already. `squeezed` units of squeeze-and-excitation come after the depthwise convolution, if any. `fused`
    (EfficientNetV2's Fused-MBConv) makes one full convolution of the first two, and of all three where nothing is
    expanded. x: float N×H×W×C.
    """
    channels = x.shape[-1]
    if fused and expanded == channels:
        y = style.conv(x, filters, kernel_size, strides)
    else:
        y = style.conv(x, expanded) if expanded != channels and not fused else x
        y = style.conv(y, expanded, kernel_size, strides) if fused else style.depthwise(y, kernel_size, strides)
        y = style.squeeze_excite(y, squeezed) if squeezed else y
        y = style.conv(y, filters, linear=True)
    return layers.Add()([x, stochastic_depth(y, drop)]) if strides == 1 and filters == channels else y


def channel_shuffle(x: Any, groups: int) -> Any:
    """Interleave the channels of `groups` equal groups (Zhang et al. 2017, ShuffleNet, section 3.1). x: N×H×W×C."""
    height, width, channels = x.shape[1:]
    x = layers.Reshape((height, width, groups, channels // groups))(x)
    return layers.Reshape((height, width, channels))(layers.Permute((1, 2, 4, 3))(x))


@dataclass(frozen=True)
class Stage:
    """Some inverted residuals of one width.

    Attributes:
        filters: channels that each puts out.
        repeats: how many there are.
        expansion: how many times the channels that it is given each expands to.
        kernel_size: that of the depthwise or fused convolution.
        squeeze: units of squeeze-and-excitation, as a share of the channels that it is given; 0 for none.
        fused: whether they are Fused-MBConv.

    """

    filters: int
    repeats: int
    expansion: int
    kernel_size: int = 3
    squeeze: float = 0.0
    fused: bool = False

    def scaled(self, width: float, depth: float, least: float = 0.9) -> Stage:
        """Return the stage with more or fewer channels and repeats (Tan and Le 2019, section 3.3)."""
        filters = make_divisible(self.filters * width, least=least)
        return replace(self, filters=filters, repeats=math.ceil(self.repeats * depth))


def inverted_residual_stages(
    style: ConvStyle, x: Any, stages: Sequence[Stage], strides: Sequence[int], drop: float
) -> Any:
    """Apply all stages, the first block of each with its strides. x: float N×H×W×C.

    The rate of stochastic depth rises evenly over the blocks, from 0 towards `drop`.
    """
    total = sum(stage.repeats for stage in stages)
    firsts = itertools.accumulate((stage.repeats for stage in stages), initial=0)
    for stage, stride, first in zip(stages, strides, firsts, strict=False):
        for repeat in range(stage.repeats):
            channels = x.shape[-1]
            x = inverted_residual(
                style,
                x,
                stage.filters,
                expanded=stage.expansion * channels,
                kernel_size=stage.kernel_size,
                strides=1 if repeat else stride,
                squeezed=max(1, int(stage.squeeze * channels)) if stage.squeeze else 0,
                fused=stage.fused,
                drop=drop * (first + repeat) / total,
            )
    return x


def make_divisible(channels: float, divisor: int = 8, least: float = 0.9) -> int:
    """Round to a multiple of `divisor`, up if less than the share `least` would stay: TensorFlow Slim's function."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < least * channels else rounded


def early_strides(strides: Iterable[int], reduction: int) -> list[int]:
    """Return the strides with the first ones set to 1, so that they divide an image's side by `reduction` in all.

    Networks for 224 pixels divide the side by 32; of the 32 pixels of CIFAR only one would be left.

    Raises:
        ValueError: these strides cannot give that reduction.

    """
    strides = list(strides)
    # Cut before stride number i, strides from there on reduce by the product of the rest.
    reductions = [math.prod(strides[first:]) for first in range(len(strides) + 1)]
    if reduction not in reductions:
        allowed = ", ".join(map(str, sorted(set(reductions))))
        raise ValueError(f"reduction, by which the image's side is divided, must be one of {allowed}; got {reduction}")
    first = reductions.index(reduction)
    return [1] * first + strides[first:]


def require_positive(**values: float) -> None:
    """Raise ValueError for a parameter that is not above 0."""
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def choose(name: str, value: str, table: dict[str, Any]) -> Any:
    """Return what the table has for a parameter's value; raise ValueError if it has nothing."""
    if value not in table:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, table))}; got {value!r}")
    return table[value]
