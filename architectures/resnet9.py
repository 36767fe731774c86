"""ResNet-9, the DAWNBench network (Page 2018, davidcpage/cifar10-fast): eight convolutions, two residual blocks.

Convolutions without stride, batch normalisation, ReLU; max pooling in each of three layers, then over all that is left
(a 4x4 pooling of 4x4 at the published size); a classifier without bias, whose outputs are divided by 8. `width` is the
number of filters of the first convolution. Initialised as there: PyTorch's uniform distribution, without biases.

It reports 94.08 % on CIFAR-10 after 24 epochs (79 s on a V100, half precision): Nesterov SGD, batch 512, the rate
rising from 0 to 0.4 at epoch 5 and falling to 0, L2 5e-4 on all weights, crops of the image reflected by 4 pixels,
flip, 8x8 cutout. The code sums the loss over a batch and divides the rate by 512, which is the same.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.basic import batch_norm, torch_conv2d, torch_dense

INFO = Architecture(
    paper="https://github.com/davidcpage/cifar10-fast",
    min_size=8,
    trainable_params={
        "32x32x3/10": 6_573_120,
    },
    accuracy={"cifar10": 0.9408},
    recipe={
        "epochs": 24,
        "batch_size": 512,
        "optimizer": "sgd",
        "learning_rate": 0.4,
        "momentum": 0.9,
        "nesterov": True,
        "l2": 5e-4,
        "schedule": "triangular",
        "warmup": 0.20833333333333334,
        "crop_padding": 0.125,
        "crop_fill": "reflect",
        "flip": True,
        "cutout": 0.25,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"width": 8},
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, width: int = 64) -> keras.Model:
    inputs = keras.Input(input_shape)
    x = _conv(inputs, width)
    for factor, residual in ((2, True), (4, False), (8, True)):
        x = layers.MaxPooling2D(2)(_conv(x, factor * width))
        if residual:
            x = layers.Add()([x, _conv(_conv(x, factor * width), factor * width)])
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, layers.Rescaling(1 / 8)(torch_dense(x, num_classes, use_bias=False)))


def _conv(x, filters):
    return layers.ReLU()(batch_norm(torch_conv2d(x, filters, 3, use_bias=False)))
