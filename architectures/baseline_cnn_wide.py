"""The introductory text's CNN with twice as many filters and hidden units.

One idea added to `baseline_cnn`, everything else alike: convolutions of 64 and 128 filters, a dense layer of 256. It
has four times as many parameters and multiply-adds, nearly, since both ends of a layer grow. `width=1` is the baseline.

Parameters at 32x32x3 and 10 classes: 1,792 + 73,856 in the convolutions, 2,097,408 + 2,570 in the dense layers.
"""

import keras

from bench.api import Architecture
from bench.layers.ladder import conv_pool, dense_classifier

INFO = Architecture(
    min_size=4,
    trainable_params={
        "32x32x3/10": 2_175_626,
        "28x28x1/10": 1_682_954,
        "32x32x3/10:width=1": 545_098,
    },
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 2) -> keras.Model:
    inputs = x = keras.Input(input_shape)
    for filters in (32, 64):
        x = conv_pool(x, filters * width)
    return keras.Model(inputs, dense_classifier(x, 128 * width, num_classes))
