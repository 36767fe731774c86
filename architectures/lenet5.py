"""LeNet-5 as it is built today (LeCun et al. 1998, section II.B): two 5x5 convolutions and three dense layers.

The layers' sizes are the paper's: 28x28 digits in a field of 32x32 (`padding=2` zeros here, the digits' background
there), 6 maps, averaged by 2, 16 maps, averaged by 2, dense 120, 84 and the classes. 61,706 parameters at 28x28x1, or
44,426 with `padding=0`, as the digits are often fed today. The paper's own network has 60,000: there each of the 16
maps sees some of the 6, the averages have a weight and a bias, and the last layer measures distances to fixed patterns
of digits (RBF). Here as in most code since, these are a whole convolution, plain averages, and a dense layer; tanh is
not scaled by 1.7159, and the initialisation is Keras's (Glorot) rather than uniform in 2.4/inputs.

The paper reports 0.95 % error on MNIST, 0.8 % with distorted digits added. No `recipe`: its second-order rates for each
weight (20 passes, one image a step) are none that a recipe can say.
"""

import keras
from keras import layers

from bench.api import Architecture

INFO = Architecture(
    paper="http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf",
    min_size=16,
    trainable_params={
        "28x28x1/10": 61_706,
        "28x28x1/10:padding=0": 44_426,
        "32x32x1/10:padding=0": 61_706,
        "32x32x3/10:padding=0": 62_006,
    },
    accuracy={"mnist": 0.9905},
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, padding: int = 2) -> keras.Model:
    if padding < 0:
        raise ValueError(f"padding must be at least 0 pixels on each side, got {padding}")
    inputs = keras.Input(input_shape)
    x = layers.ZeroPadding2D(padding)(inputs)
    for filters in (6, 16):
        x = layers.Conv2D(filters, 5, activation="tanh")(x)
        x = layers.AveragePooling2D(2)(x)
    x = layers.Flatten()(x)
    for units in (120, 84):
        x = layers.Dense(units, activation="tanh")(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x))
