"""The introductory text's CNN with dropout before both dense layers (Srivastava et al. 2014).

One idea added to `baseline_cnn`, everything else alike. While training, half of what goes into each dense layer is
blanked at random and the rest doubled, as in AlexNet; in evaluation nothing is. Parameters are the baseline's.
"""

import keras

from bench.api import Architecture
from bench.layers.ladder import conv_pool, dense_classifier

INFO = Architecture(
    paper="https://jmlr.org/papers/v15/srivastava14a.html",
    min_size=4,
    trainable_params={
        "32x32x3/10": 545_098,
        "24x24x3/10": 315_722,
        "28x28x1/10": 421_642,
    },
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 1, dropout: float = 0.5) -> keras.Model:
    inputs = x = keras.Input(input_shape)
    for filters in (32, 64):
        x = conv_pool(x, filters * width)
    return keras.Model(inputs, dense_classifier(x, 128 * width, num_classes, dropout=dropout))
