"""Network in Network for CIFAR: three convolutions, each with two 1x1 layers behind it, and averaged class maps.

Lin et al. 2013, section 4; the layers' sizes, which the paper does not give, are those of its authors' code for Caffe:
5x5 of 192, 1x1 of 160 and 96, max pooling; 5x5 of 192, two 1x1, average pooling; 3x3 of 192, two 1x1, the last of them
the class maps. Poolings are 3x3 with stride 2, and dropout of half follows both. Here the average has zeros all around,
as in PyTorch ports; Caffe's windows lie half a pixel further and leave out what sticks out (Keras's `same` would, too,
but not on PyTorch). As `average_class_maps` says, there is no ReLU before the last average. Kernels are He-initialised,
in that code normal with deviation 0.05.

The paper reports 89.59 % on CIFAR-10, and 91.19 % with shifts and flips, from images whitened and normalised in
contrast, which no recipe does; it lowers the rate to a tenth, twice, when the training accuracy rises no more. `recipe`
is the code's: SGD 0.1 with momentum 0.9, batches of 128, L2 1e-4, a tenth of the rate after 100,000 of 120,000 steps.
There biases learn twice as fast, and the last layer a tenth as fast.

966,986 parameters at 32x32x3: 14,592 + 30,880 + 15,456, 460,992 + 2 x 37,056, 331,968 + 37,056 + 1,930.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.classic import average_class_maps, ceil_max_pool, conv_relu

INFO = Architecture(
    paper="https://arxiv.org/abs/1312.4400",
    min_size=4,
    trainable_params={"32x32x3/10": 966_986, "32x32x3/100": 984_356},
    accuracy={"cifar10": 0.9119},
    recipe={
        "epochs": 307,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "l2": 1e-4,
        "schedule": "multistep",
        "milestones": (0.833,),
        "crop_padding": 0.125,
        "flip": True,
    },
    quick={"width": 32},
)


def build(
    input_shape: tuple[int, int, int], num_classes: int, *, width: int = 192, dropout: float = 0.5
) -> keras.Model:
    inputs = keras.Input(input_shape)
    x = _mlpconv(inputs, 5, (width, width * 5 // 6, width // 2))
    x = layers.Dropout(dropout)(ceil_max_pool(x))
    x = _mlpconv(x, 5, (width, width, width))
    x = layers.Dropout(dropout)(layers.AveragePooling2D(3, 2)(layers.ZeroPadding2D(1)(x)))
    x = _mlpconv(x, 3, (width, width))
    return keras.Model(inputs, average_class_maps(x, num_classes))


def _mlpconv(x, kernel_size, filters):
    x = conv_relu(x, filters[0], kernel_size)
    for each in filters[1:]:
        x = conv_relu(x, each, 1)
    return x
