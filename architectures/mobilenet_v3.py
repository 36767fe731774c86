"""MobileNetV3, small and large (Howard et al. 2019, tables 1 and 2): searched inverted residuals with hard swish.

For small images the first strides are 1, so that the side is divided by `reduction`: 8 unless told, which leaves 4x4
of CIFAR's 32x32; 32 is the paper's, for 224 pixels, with 67.4 % (small) and 75.2 % (large) on ImageNet. The numbers
of parameters, 2,542,856 and 5,483,032 with 1,000 classes, are the same at any reduction.

Built as in torchvision: batch normalisation with epsilon 1e-3 and momentum 0.99 (Keras's own values), kernels of
variance 2/fan-out, dense layers of deviation 0.01, even padding of strided convolutions. The dropout of 0.2 before the
classifier is the paper's (0.8, the part that is kept). It trains with RMSProp, which recipes do not have, so there is
none of its own here.
"""

from dataclasses import replace

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.mobile import (
    ConvStyle,
    choose,
    early_strides,
    inverted_residual,
    make_divisible,
    require_positive,
)

INFO = Architecture(
    paper="https://arxiv.org/abs/1905.02244",
    min_size=8,
    trainable_params={
        "32x32x3/1000": 2_542_856,
        "32x32x3/1000:variant='large'": 5_483_032,
    },
    accuracy={"imagenet2012": 0.674},
    quick={"width": 0.25, "reduction": 32},
    argument="variant",
)
RELU = ConvStyle(gate="hard_sigmoid", epsilon=1e-3, momentum=0.99, kernels="fan_out")
SWISH = replace(RELU, activation="hard_silu")
# Kernel size, expanded channels, channels, squeeze-and-excitation, activation, strides.
SMALL = (
    (3, 16, 16, True, RELU, 2),
    (3, 72, 24, False, RELU, 2),
    (3, 88, 24, False, RELU, 1),
    (5, 96, 40, True, SWISH, 2),
    (5, 240, 40, True, SWISH, 1),
    (5, 240, 40, True, SWISH, 1),
    (5, 120, 48, True, SWISH, 1),
    (5, 144, 48, True, SWISH, 1),
    (5, 288, 96, True, SWISH, 2),
    (5, 576, 96, True, SWISH, 1),
    (5, 576, 96, True, SWISH, 1),
)
LARGE = (
    (3, 16, 16, False, RELU, 1),
    (3, 64, 24, False, RELU, 2),
    (3, 72, 24, False, RELU, 1),
    (5, 72, 40, True, RELU, 2),
    (5, 120, 40, True, RELU, 1),
    (5, 120, 40, True, RELU, 1),
    (3, 240, 80, False, SWISH, 2),
    (3, 200, 80, False, SWISH, 1),
    (3, 184, 80, False, SWISH, 1),
    (3, 184, 80, False, SWISH, 1),
    (3, 480, 112, True, SWISH, 1),
    (3, 672, 112, True, SWISH, 1),
    (5, 672, 160, True, SWISH, 2),
    (5, 960, 160, True, SWISH, 1),
    (5, 960, 160, True, SWISH, 1),
)
VARIANTS = {"small": (SMALL, 1024), "large": (LARGE, 1280)}


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    variant: str = "small",
    width: float = 1.0,
    reduction: int = 8,
    dropout: float = 0.2,
) -> keras.Model:
    require_positive(width=width)
    blocks, features = choose("variant", variant, VARIANTS)
    stem, *strides = early_strides((2, *(block[-1] for block in blocks)), reduction)
    inputs = keras.Input(input_shape)
    x = SWISH.conv(inputs, make_divisible(16 * width), 3, stem)
    for (kernel_size, expanded, filters, squeeze, style, _), stride in zip(blocks, strides, strict=True):
        wide = make_divisible(expanded * width)
        x = inverted_residual(
            style,
            x,
            make_divisible(filters * width),
            expanded=wide,
            kernel_size=kernel_size,
            strides=stride,
            squeezed=make_divisible(wide // 4) if squeeze else 0,
        )
    x = SWISH.conv(x, 6 * x.shape[-1])
    x = layers.GlobalAveragePooling2D()(x)
    x = _dense(x, make_divisible(features * width), "hard_silu")
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, _dense(x, num_classes))


def _dense(x, units, activation=None):
    return layers.Dense(units, activation, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01))(x)
