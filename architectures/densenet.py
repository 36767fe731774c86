"""DenseNet-BC for CIFAR, of depth 6n+4 (Huang et al. 2016, section 3): each layer sees what all before it made.

Three dense blocks of n layers, each of which adds `growth` channels by a 1x1 convolution to 4 times as many and a 3x3
one (B, bottleneck). Between blocks a 1x1 convolution halves the channels (C, compression), average pooling the size.

The authors report 95.49 % on CIFAR-10 and 77.73 % on CIFAR-100 for depth 100 and growth 12: Nesterov SGD 0.1 divided by
10 at epochs 150 and 225 of 300, batch 64, L2 1e-4 on all weights, pad-4 crop and flip.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.residual import classify, conv, norm_relu

INFO = Architecture(
    paper="https://arxiv.org/abs/1608.06993",
    min_size=8,
    trainable_params={
        "32x32x3/10": 769_162,
        "32x32x3/100": 800_032,
    },
    accuracy={"cifar10": 0.9549, "cifar100": 0.7773},
    recipe={
        "epochs": 300,
        "batch_size": 64,
        "drop_remainder": False,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "l2": 1e-4,
        "schedule": "multistep",
        "milestones": [0.5, 0.75],
        "crop_padding": 0.125,
        "flip": True,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"depth": 10, "growth": 8},
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, depth: int = 100, growth: int = 12) -> keras.Model:
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"depth must be 6n+4 with n of at least 1 (10, 40, 100, 190, 250), got {depth}")
    if growth < 1:
        raise ValueError(f"growth must be at least 1, got {growth}")
    inputs = keras.Input(input_shape)
    x = conv(inputs, 2 * growth, 3)
    for block in range(3):
        if block:
            x = layers.AveragePooling2D(2)(conv(norm_relu(x), x.shape[-1] // 2, 1))
        for _ in range(depth // 6):
            y = conv(norm_relu(x), 4 * growth, 1)
            x = layers.Concatenate()([x, conv(norm_relu(y), growth, 3)])
    return keras.Model(inputs, classify(norm_relu(x), num_classes))
