"""The CNN of TensorFlow's tutorial: three 3x3 convolutions without padding, two poolings, a dense layer of 64.

https://www.tensorflow.org/tutorials/images/cnn trains it on CIFAR-10 for 10 epochs of Adam with batches of 32 (Keras's
defaults), to a test accuracy of "over 70 %". Its images lie in 0 to 1, those of `recipe` in -1 to 1; the rest of it is
the tutorial's. Initialisation is Keras's: Glorot uniform, biases of zero.

122,570 parameters at 32x32x3: 896 + 18,496 + 36,928 in the convolutions, 65,600 (4x4x64 inputs) + 650 after them.
"""

import keras
from keras import layers

from bench.api import Architecture

INFO = Architecture(
    paper="https://www.tensorflow.org/tutorials/images/cnn",
    min_size=18,
    trainable_params={"32x32x3/10": 122_570},
    accuracy={"cifar10": 0.70},
    recipe={
        "epochs": 10,
        "batch_size": 32,
        "drop_remainder": False,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "normalization": "symmetric",
    },
)


def build(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    inputs = x = keras.Input(input_shape)
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 3, activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x))
