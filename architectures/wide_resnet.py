"""Wide ResNet of depth 6n+4 (Zagoruyko and Komodakis 2016): pre-activation units, few of them, with many filters.

`width` multiplies the filters of the three stages (16, 32, 64). The authors report (median of 5 runs) 96.00 % on
CIFAR-10 and 80.75 % on CIFAR-100 for 28-10, 96.11 % and 81.15 % with dropout 0.3: Nesterov SGD 0.1 divided by 5 at
epochs 60, 120 and 160 of 200, batch 128, L2 5e-4 on all weights, crops of the image reflected by 4 pixels, and flip.
"""

import keras

from bench.api import Architecture
from bench.layers.residual import classify, conv, norm_relu, preactivated, stages

INFO = Architecture(
    paper="https://arxiv.org/abs/1605.07146",
    min_size=8,
    trainable_params={
        "32x32x3/10": 36_479_194,
        "32x32x3/100": 36_536_884,
        "32x32x3/10:depth=16,width=4": 2_748_890,
    },
    accuracy={"cifar10": 0.96, "cifar100": 0.8075},
    recipe={
        "epochs": 200,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "l2": 5e-4,
        "schedule": "multistep",
        "milestones": [0.3, 0.6, 0.8],
        "decay_factor": 0.2,
        "crop_padding": 0.125,
        "crop_fill": "reflect",
        "flip": True,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"depth": 10, "width": 1},
)


def build(
    input_shape: tuple[int, int, int], num_classes: int, *, depth: int = 28, width: int = 10, dropout: float = 0.0
) -> keras.Model:
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"depth must be 6n+4 with n of at least 1 (10, 16, 22, 28, 40), got {depth}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be from 0 to below 1, got {dropout}")
    inputs = keras.Input(input_shape)

    def unit(x, filters, strides):
        return preactivated(x, [(filters, 3), (filters, 3)], strides, dropout)

    x = stages(conv(inputs, 16, 3), unit, [16 * width, 32 * width, 64 * width], [depth // 6] * 3)
    return keras.Model(inputs, classify(norm_relu(x), num_classes))
