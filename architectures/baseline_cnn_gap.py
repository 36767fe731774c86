"""The introductory text's CNN with global average pooling instead of its large dense layer (Lin et al. 2013).

One idea in place of another in `baseline_cnn`, everything else alike: each of the 64 maps is averaged, and one dense
layer makes logits of the averages. Of 545,098 parameters 20,042 are left, whatever the size of the image: 896 + 18,496
in the convolutions, 650 after them. Where in the image a thing was seen is lost.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.basic import torch_dense
from bench.layers.ladder import conv_pool

INFO = Architecture(
    paper="https://arxiv.org/abs/1312.4400",
    min_size=4,
    trainable_params={
        "32x32x3/10": 20_042,
        "24x24x3/10": 20_042,
        "28x28x1/10": 19_466,
    },
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 1) -> keras.Model:
    inputs = x = keras.Input(input_shape)
    for filters in (32, 64):
        x = conv_pool(x, filters * width)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, torch_dense(x, num_classes))
