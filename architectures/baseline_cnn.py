"""The introductory text's CNN: two 3x3 convolutions with max pooling, and two dense layers.

Conv 32 -> ReLU -> pool -> conv 64 -> ReLU -> pool -> dense 128 -> ReLU -> dense classes, in PyTorch's initialisation,
since the text's code is PyTorch. The text writes the first dense layer's input as 64*6*6, which fits 24x24 images only
(two poolings leave 6x6); on the 32x32 images of CIFAR-10, which it trains on, they leave 8x8. Here the size follows
from the input: 315,722 parameters at 24x24x3, 545,098 at 32x32x3.

With the text's recipe (`--recipe document`) the PyTorch original reaches 70.3 % and 69.9 % on CIFAR-10 (two seeds).
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.basic import torch_conv2d, torch_dense

INFO = Architecture(
    min_size=4,
    trainable_params={
        "32x32x3/10": 545_098,
        "24x24x3/10": 315_722,
        "28x28x1/10": 421_642,
    },
    accuracy={"cifar10": 0.701},
    recipe={
        "epochs": 10,
        "batch_size": 32,
        "drop_remainder": False,
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "normalization": "symmetric",
    },
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 1) -> keras.Model:
    inputs = x = keras.Input(input_shape)
    for filters in (32, 64):
        x = torch_conv2d(x, filters * width, 3, activation="relu")
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = torch_dense(x, 128 * width, activation="relu")
    return keras.Model(inputs, torch_dense(x, num_classes))
