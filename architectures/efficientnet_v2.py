"""EfficientNetV2-B0 (Tan and Le 2021): EfficientNet whose early stages are full convolutions, which train faster.

For small images the first strides are 1, so that the side is divided by `reduction`: 8 unless told, which leaves 4x4
of CIFAR's 32x32 (strides 1 in the stem and in the second stage); 32 is the authors', for 192 pixels in training and
224 in testing, with 78.7 % on ImageNet. The number of parameters, 7,139,704 with 1,000 classes, is the same at any
reduction. B1 is `depth=1.1`, B2 `width=1.1,depth=1.2`; their larger images are up to the data set.

B0 is in the authors' code (google/automl), the paper has the larger ones. As there: batch normalisation with epsilon
1e-3 and momentum 0.9, kernels of variance 2/fan-out (of each group), TensorFlow's padding, dropout 0.2, stochastic
depth up to 0.2. It trains with RMSProp on growing images, which recipes do not have, so there is none of its own.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.mobile import (
    ConvStyle,
    Stage,
    early_strides,
    inverted_residual_stages,
    make_divisible,
    require_positive,
)

INFO = Architecture(
    paper="https://arxiv.org/abs/2104.00298",
    min_size=8,
    trainable_params={
        "32x32x3/1000": 7_139_704,
        "32x32x3/1000:depth=1.1": 8_141_052,
    },
    accuracy={"imagenet2012": 0.787},
    quick={"width": 0.25, "depth": 0.3, "reduction": 32},
)
STYLE = ConvStyle(
    activation="silu",
    squeeze_activation="silu",
    epsilon=1e-3,
    momentum=0.9,
    kernels="group_fan_out",
    even_padding=False,
)
STAGES = (
    Stage(16, 1, expansion=1, fused=True),
    Stage(32, 2, expansion=4, fused=True),
    Stage(48, 2, expansion=4, fused=True),
    Stage(96, 3, expansion=4, squeeze=0.25),
    Stage(112, 5, expansion=6, squeeze=0.25),
    Stage(192, 8, expansion=6, squeeze=0.25),
)
STRIDES = (2, 1, 2, 2, 2, 1, 2)
"""Of the stem and of the stages."""


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    reduction: int = 8,
    dropout: float = 0.2,
    drop_path: float = 0.2,
) -> keras.Model:
    require_positive(width=width, depth=depth)
    stem, *strides = early_strides(STRIDES, reduction)
    stages = [stage.scaled(width, depth, least=0.0) for stage in STAGES]
    inputs = keras.Input(input_shape)
    x = STYLE.conv(inputs, make_divisible(32 * width, least=0.0), 3, stem)
    x = inverted_residual_stages(STYLE, x, stages, strides, drop_path)
    x = STYLE.conv(x, make_divisible(1280 * width, least=0.0))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    uniform = keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
    return keras.Model(inputs, layers.Dense(num_classes, kernel_initializer=uniform)(x))
