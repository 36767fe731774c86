"""All-CNN-C: nine convolutions, no pooling but the last average, no dense layer (Springenberg et al. 2014, table 2).

Strided convolutions take the place of max pooling. The paper reports 90.92 % on CIFAR-10, and 92.75 % with shifts by up
to 5 pixels and flips: SGD with momentum 0.9 for 350 epochs, the rate divided by 10 after 200, 250 and 300, L2 1e-3,
dropout of a fifth of the input and of half after each strided convolution. It searched the rate among 0.25, 0.1, 0.05
and 0.01; `recipe` has 0.05, and batches of 128, which the paper does not give. Its images are whitened and normalised
in contrast, which no recipe does; its initialisation is not given, here it is He's. As `average_class_maps` says, there
is no ReLU before the last average. The last 3x3 convolution is not padded: the paper averages 6x6 positions.

1,369,738 parameters at 32x32x3: 2,688 + 2 x 83,040, then 166,080 + 3 x 331,968, then 37,056 + 1,930.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.classic import average_class_maps, conv_relu

INFO = Architecture(
    paper="https://arxiv.org/abs/1412.6806",
    min_size=9,
    trainable_params={"32x32x3/10": 1_369_738, "32x32x3/100": 1_387_108},
    accuracy={"cifar10": 0.9275},
    recipe={
        "epochs": 350,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.9,
        "l2": 1e-3,
        "schedule": "multistep",
        "milestones": (0.5714, 0.7143, 0.8571),
        "crop_padding": 0.15625,
        "flip": True,
    },
    quick={"width": 24},
)


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 96,
    input_dropout: float = 0.2,
    dropout: float = 0.5,
) -> keras.Model:
    inputs = keras.Input(input_shape)
    x = layers.Dropout(input_dropout)(inputs)
    for filters in (width, 2 * width):
        x = conv_relu(x, filters, 3)
        x = conv_relu(x, filters, 3)
        x = layers.ZeroPadding2D(1)(x)  # even on all sides; `same` pads a strided convolution at the bottom and right
        x = conv_relu(x, filters, 3, strides=2, padding="valid")
        x = layers.Dropout(dropout)(x)
    x = conv_relu(x, 2 * width, 3, padding="valid")
    x = conv_relu(x, 2 * width, 1)
    return keras.Model(inputs, average_class_maps(x, num_classes))
