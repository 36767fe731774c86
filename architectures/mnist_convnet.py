"""The convnet of keras.io's MNIST example: two 3x3 convolutions, each with max pooling, dropout, one dense layer.

https://keras.io/examples/vision/mnist_convnet/ reports 99.22 % on MNIST after 15 epochs of Adam (Keras's defaults) with
batches of 128, on nine tenths of the training images. Its images lie in 0 to 1, those of `recipe` in -1 to 1; the rest
of it is the example's. Initialisation is Keras's: Glorot uniform, biases of zero.
"""

import keras
from keras import layers

from bench.api import Architecture

INFO = Architecture(
    paper="https://keras.io/examples/vision/mnist_convnet/",
    min_size=10,
    trainable_params={"28x28x1/10": 34_826},
    accuracy={"mnist": 0.9922},
    recipe={
        "epochs": 15,
        "batch_size": 128,
        "drop_remainder": False,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "normalization": "symmetric",
        "validation_fraction": 0.1,
    },
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, dropout: float = 0.5) -> keras.Model:
    inputs = x = keras.Input(input_shape)
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(num_classes)(x))
