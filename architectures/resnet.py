"""ResNet-18 and 34 (He et al. 2015, table 1) with a stem for small images.

The stem is one 3x3 convolution without stride or pooling, as in kuangliu/pytorch-cifar, whose counts these are; the
ImageNet stem (7x7 with stride 2, max pooling) would leave 8x8 of 32x32 pixels. Shortcuts are 1x1 convolutions where the
size changes. `width` is the number of filters of the first stage.

That repository's table reports 93.02 % on CIFAR-10 for ResNet-18, with the recipe of its time, given here: SGD 0.1
divided by 10 at epochs 150 and 250 of 350, set by hand (later code anneals by a cosine over 200 epochs). It leaves
convolutions at PyTorch's initialisation; here they start as torchvision's ResNets do.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.residual import classify, conv_norm, join, stages

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}

INFO = Architecture(
    paper="https://arxiv.org/abs/1512.03385",
    min_size=8,
    trainable_params={
        "32x32x3/10": 11_173_962,
        "32x32x3/100": 11_220_132,
        "32x32x3/10:depth=34": 21_282_122,
    },
    accuracy={"cifar10": 0.9302},
    recipe={
        "epochs": 350,
        "batch_size": 128,
        "drop_remainder": False,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "l2": 5e-4,
        "schedule": "multistep",
        "milestones": [0.42857142857142855, 0.7142857142857143],
        "crop_padding": 0.125,
        "flip": True,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"width": 8},
)


def build(input_shape: tuple[int, int, int], num_classes: int, *, depth: int = 18, width: int = 64) -> keras.Model:
    if depth not in DEPTHS:
        raise ValueError(f"depth must be one of {', '.join(map(str, DEPTHS))}, got {depth}")
    inputs = keras.Input(input_shape)
    x = layers.ReLU()(conv_norm(inputs, width, 3))
    x = stages(x, _basic, [width, 2 * width, 4 * width, 8 * width], DEPTHS[depth])
    return keras.Model(inputs, classify(x, num_classes))


def _basic(x, filters, strides):
    y = layers.ReLU()(conv_norm(x, filters, 3, strides))
    return join(x, conv_norm(y, filters, 3), strides)
