"""ResNeXt for CIFAR, of depth 9n+2 (Xie et al. 2016, section 5.3): bottlenecks whose 3x3 convolutions have groups.

Form (c) of figure 3: `cardinality` groups of `width` filters in the first stage, twice as many in each further one,
after a 1x1 convolution to all of them and before one to 256, 512 and 1,024 channels. 8x64d has 34.4 M parameters.

The paper reports (mean of 10 runs) 96.35 % on CIFAR-10 and 82.23 % on CIFAR-100 for 8x64d, 96.42 % and 82.69 % for
16x64d (`cardinality=16`): Nesterov SGD 0.1 divided by 10 at epochs 150 and 225 of 300, batch 128, L2 5e-4 on all
weights, pad-4 crop and flip.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.residual import classify, conv_norm, join, stages

INFO = Architecture(
    paper="https://arxiv.org/abs/1611.05431",
    min_size=8,
    trainable_params={
        "32x32x3/10": 34_426_698,
        "32x32x3/100": 34_518_948,
        "32x32x3/10:cardinality=16": 68_155_210,
    },
    accuracy={"cifar10": 0.9635, "cifar100": 0.8223},
    recipe={
        "epochs": 300,
        "batch_size": 128,
        "drop_remainder": False,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "l2": 5e-4,
        "schedule": "multistep",
        "milestones": [0.5, 0.75],
        "crop_padding": 0.125,
        "flip": True,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"depth": 11, "cardinality": 2, "width": 8},
)


def build(
    input_shape: tuple[int, int, int], num_classes: int, *, depth: int = 29, cardinality: int = 8, width: int = 64
) -> keras.Model:
    if depth < 11 or depth % 9 != 2:
        raise ValueError(f"depth must be 9n+2 with n of at least 1 (11, 20, 29, 38, 47), got {depth}")
    if cardinality < 1 or width < 1:
        raise ValueError(f"cardinality and width must be at least 1, got {cardinality} and {width}")
    inputs = keras.Input(input_shape)

    def unit(x, scale, strides):
        filters = cardinality * width * scale
        y = layers.ReLU()(conv_norm(x, filters, 1))
        y = layers.ReLU()(conv_norm(y, filters, 3, strides, groups=cardinality))
        return join(x, conv_norm(y, 256 * scale, 1), strides)

    x = layers.ReLU()(conv_norm(inputs, 64, 3))
    return keras.Model(inputs, classify(stages(x, unit, [1, 2, 4], [depth // 9] * 3), num_classes))
