"""The introductory text's CNN with a residual block of two convolutions after each pooling (He et al. 2015).

One idea added to `baseline_cnn`, everything else alike. A block adds to its input (figure 2 of the paper), so it has to
learn only what to change; with kernels of zero it would change nothing. `baseline_cnn_deep` has the same layers and
parameters without the shortcuts: beside the baseline this shows what blocks bring, beside that one what shortcuts do.
Where the blocks stand is as in Page's ResNet for CIFAR-10 (2018). No batch normalisation, which is a rung of its own.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.ladder import conv_pool, dense_classifier, two_convolutions

INFO = Architecture(
    paper="https://arxiv.org/abs/1512.03385",
    min_size=4,
    trainable_params={
        "32x32x3/10": 637_450,
        "28x28x1/10": 513_994,
    },
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 1) -> keras.Model:
    inputs = x = keras.Input(input_shape)
    for filters in (32, 64):
        x = conv_pool(x, filters * width)
        x = layers.ReLU()(layers.Add()([x, two_convolutions(x)]))
    return keras.Model(inputs, dense_classifier(x, 128 * width, num_classes))
