"""VGG for CIFAR, of depth 11, 13, 16 or 19, with batch normalisation or without (Simonyan and Zisserman 2014, table 1).

Five stages of 3x3 convolutions and max pooling, configurations A, B, D and E; the paper's three dense layers, made for
224x224, are one from 512 averages to the classes, as in kuangliu/pytorch-cifar, where the images of 32x32 end as one
position. Other sizes are averaged; odd ones are rounded up in pooling. Convolutions keep the biases that batch
normalisation would cancel: 14,728,266 parameters for depth 16 with it. Kernels are He-initialised (torchvision's VGG:
by outputs rather than inputs; pytorch-cifar: PyTorch's default).

pytorch-cifar reports 92.64 % on CIFAR-10 for depth 16 with batch normalisation: SGD 0.1 with momentum 0.9, cosine over
200 epochs, batches of 128, L2 5e-4 (on biases and normalisation, too), pad-4 crop and flip; its table may be older than
that recipe. Without batch normalisation a rate of 0.1 is too high.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.classic import conv_relu

INFO = Architecture(
    paper="https://arxiv.org/abs/1409.1556",
    min_size=16,
    trainable_params={
        "32x32x3/10": 14_728_266,
        "32x32x3/10:depth=11": 9_231_114,
        "32x32x3/10:depth=13": 9_416_010,
        "32x32x3/10:depth=19": 20_040_522,
        "32x32x3/10:batch_norm=false": 14_719_818,
        "32x32x3/10:depth=11,batch_norm=false": 9_225_610,
    },
    accuracy={"cifar10": 0.9264},
    recipe={
        "epochs": 200,
        "batch_size": 128,
        "drop_remainder": False,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "l2": 5e-4,
        "schedule": "cosine",
        "crop_padding": 0.125,
        "flip": True,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"depth": 11, "width": 16},
)

STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def build(
    input_shape: tuple[int, int, int], num_classes: int, *, depth: int = 16, batch_norm: bool = True, width: int = 64
) -> keras.Model:
    if depth not in STAGES:
        raise ValueError(f"depth must be one of {', '.join(map(str, STAGES))}, got {depth}")
    inputs = x = keras.Input(input_shape)
    for filters, convolutions in zip((1, 2, 4, 8, 8), STAGES[depth], strict=True):
        for _ in range(convolutions):
            x = conv_relu(x, filters * width, 3, normalize=batch_norm)
        x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x))
