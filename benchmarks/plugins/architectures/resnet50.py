"""ResNet-50 for large images (He et al. 2015, table 1), with the stride in the 3x3 convolutions ("v1.5").

This is the network of torchvision's `resnet50` and of most published speeds: 25,557,032 trainable parameters with 1,000
classes. It is here for peers_gpu.py.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers import conv_bn

INFO = Architecture(
    paper="https://arxiv.org/abs/1512.03385",
    min_size=32,
    trainable_params={"224x224x3/1000": 25_557_032},
)
BLOCKS = (3, 4, 6, 3)


def build(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Return the network with a logit a class."""
    inputs = keras.Input(input_shape)
    x = layers.ReLU()(conv_bn(inputs, 64, 7, strides=2))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))  # after a ReLU, zeros never are the greatest
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            x = _bottleneck(x, 64 * 2**stage, strides=2 if stage and not block else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x))


def _bottleneck(x, filters, strides):
    y = layers.ReLU()(conv_bn(x, filters, 1))
    y = layers.ReLU()(conv_bn(y, filters, 3, strides))
    y = conv_bn(y, 4 * filters, 1)
    if x.shape[-1] != 4 * filters:
        x = conv_bn(x, 4 * filters, 1, strides)
    return layers.ReLU()(layers.Add()([x, y]))
