"""The introductory text's CNN with batch normalisation before each ReLU (Ioffe and Szegedy 2015).

One idea added to `baseline_cnn`, everything else alike. The convolutions and the first dense layer lose their biases,
which batch normalisation would cancel: at 32x32x3, 224 biases go, 448 scales and shifts come.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.basic import batch_norm, torch_conv2d, torch_dense

INFO = Architecture(
    paper="https://arxiv.org/abs/1502.03167",
    min_size=4,
    trainable_params={
        "32x32x3/10": 545_322,
        "28x28x1/10": 421_866,
    },
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 1) -> keras.Model:
    inputs = x = keras.Input(input_shape)
    for filters in (32, 64):
        x = torch_conv2d(x, filters * width, 3, use_bias=False)
        x = layers.ReLU()(batch_norm(x))
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = torch_dense(x, 128 * width, use_bias=False)
    x = layers.ReLU()(batch_norm(x))
    return keras.Model(inputs, torch_dense(x, num_classes))
