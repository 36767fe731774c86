"""ResNet for CIFAR, of any depth 6n+2 (He et al. 2015, section 4.2), with parameter-free shortcuts (option A).

Where the size halves, the shortcut takes every second pixel and pads the new channels with zeros. The paper reports
91.25 % on CIFAR-10 for depth 20, 93.03 % for 56 and 93.57 % for 110: SGD 0.1 divided by 10 at 32k and 48k of 64k
steps, batch 128, L2 1e-4, pad-4 crop and flip (110 warms up at 0.01).
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.basic import conv_bn

INFO = Architecture(
    paper="https://arxiv.org/abs/1512.03385",
    min_size=8,
    trainable_params={
        "32x32x3/10": 269_722,
        "32x32x3/10:depth=56": 853_018,
        "32x32x3/10:depth=110": 1_727_962,
    },
    accuracy={"cifar10": 0.9125},
    recipe={
        "epochs": 164.1025641025641,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "l2": 1e-4,
        "schedule": "multistep",
        "milestones": [0.5, 0.75],
        "crop_padding": 0.125,
        "flip": True,
    },
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, depth: int = 20) -> keras.Model:
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth must be 6n+2 with n of at least 1 (8, 14, 20, 32, 44, 56, 110), got {depth}")
    inputs = keras.Input(input_shape)
    x = layers.ReLU()(conv_bn(inputs, 16, 3))
    for filters in (16, 32, 64):
        for block in range(depth // 6):
            x = _residual(x, filters, strides=2 if block == 0 and filters > 16 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes, kernel_initializer="he_normal")(x))


def _residual(x, filters, strides):
    y = layers.ReLU()(conv_bn(x, filters, 3, strides))
    y = conv_bn(y, filters, 3)
    if strides > 1:
        new = filters - x.shape[-1]
        x = layers.AveragePooling2D(1, strides)(x)
        x = keras.ops.pad(x, [(0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)])
    return layers.ReLU()(layers.Add()([x, y]))
