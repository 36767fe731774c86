"""EfficientNet-B0 (Tan and Le 2019, table 1): a searched MobileNet, and a rule to make it wider and deeper.

For small images the first strides are 1, so that the side is divided by `reduction`: 8 unless told, which leaves 4x4
of CIFAR's 32x32 (strides 1 in the stem and in stage 3); 32 is the paper's, for 224 pixels, with 77.1 % on ImageNet. The
number of parameters, 5,288,548 with 1,000 classes, is the same at any reduction. B1 is `depth=1.1`, B2
`width=1.1,depth=1.2`; their larger images are up to the data set.

Built as in the authors' TensorFlow code: batch normalisation with epsilon 1e-3 and momentum 0.99 (Keras's own values),
kernels of variance 2/fan-out (of each group), TensorFlow's padding, dropout 0.2, stochastic depth up to 0.2. The paper
trains with RMSProp, which recipes do not have, so there is none of its own here; its CIFAR-10 figures are of networks
trained on ImageNet before.
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
    paper="https://arxiv.org/abs/1905.11946",
    min_size=8,
    trainable_params={
        "32x32x3/1000": 5_288_548,
        "32x32x3/1000:depth=1.1": 7_794_184,
    },
    accuracy={"imagenet2012": 0.771},
    quick={"width": 0.25, "depth": 0.4, "reduction": 32},
)
STYLE = ConvStyle(
    activation="silu",
    squeeze_activation="silu",
    epsilon=1e-3,
    momentum=0.99,
    kernels="group_fan_out",
    even_padding=False,
)
STAGES = (
    Stage(16, 1, expansion=1, kernel_size=3, squeeze=0.25),
    Stage(24, 2, expansion=6, kernel_size=3, squeeze=0.25),
    Stage(40, 2, expansion=6, kernel_size=5, squeeze=0.25),
    Stage(80, 3, expansion=6, kernel_size=3, squeeze=0.25),
    Stage(112, 3, expansion=6, kernel_size=5, squeeze=0.25),
    Stage(192, 4, expansion=6, kernel_size=5, squeeze=0.25),
    Stage(320, 1, expansion=6, kernel_size=3, squeeze=0.25),
)
STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)
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
    stages = [stage.scaled(width, depth) for stage in STAGES]
    inputs = keras.Input(input_shape)
    x = STYLE.conv(inputs, make_divisible(32 * width), 3, stem)
    x = inverted_residual_stages(STYLE, x, stages, strides, drop_path)
    x = STYLE.conv(x, make_divisible(1280 * width))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    uniform = keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
    return keras.Model(inputs, layers.Dense(num_classes, kernel_initializer=uniform)(x))
