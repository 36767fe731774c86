"""The introductory text's CNN with two more convolutions after each pooling: six in all.

One idea added to `baseline_cnn`, everything else alike. The new ones come after the pooling, where they cost a quarter
of what they would before it. `baseline_cnn_residual` has the same layers with shortcuts around them.

Parameters at 32x32x3 and 10 classes: the baseline's 545,098, twice 9,248 (32 filters), and twice 36,928 (64).
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.ladder import conv_pool, dense_classifier, two_convolutions

INFO = Architecture(
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
        x = layers.ReLU()(two_convolutions(x))
    return keras.Model(inputs, dense_classifier(x, 128 * width, num_classes))
