"""SqueezeNet 1.1: 1x1 convolutions squeeze the channels, 1x1 and 3x3 expand them (Iandola et al. 2016, section 3).

Version 1.1 is the authors' later one (github.com/forresti/SqueezeNet), with 2.4 times less computation than the first.
`stem='imagenet'` is the published network: a convolution of stride 2 and a pooling before the first block; 1,235,496
parameters for 1,000 classes. The default, `stem='cifar'`, is for small images: stride 1 and no pooling there, so 32x32
reaches the last block as 8x8. Its layers are as large: 727,626 parameters at 32x32x3 with 10 classes, 513 for a class.

As `average_class_maps` says, there is no ReLU before the last average. Initialisation is torchvision's: He uniform, the
class maps normal with deviation 0.01.

torchvision's 1.1 reaches 58.18 % on ImageNet; the paper reports 57.5 % for 1.0. `recipe` is the authors' solver: SGD
0.04 falling linearly to 0 in 170,000 steps of 512 images, momentum 0.9, L2 2e-4; the flips are ours. Its random crops
of 227 pixels are left out.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.classic import average_class_maps, ceil_max_pool, conv_relu

INFO = Architecture(
    paper="https://arxiv.org/abs/1602.07360",
    min_size=8,
    trainable_params={
        "32x32x3/10": 727_626,
        "32x32x3/100": 773_796,
        "224x224x3/1000:stem='imagenet'": 1_235_496,
    },
    accuracy={"imagenet2012": 0.5818},
    recipe={
        "epochs": 68,
        "batch_size": 512,
        "optimizer": "sgd",
        "learning_rate": 0.04,
        "momentum": 0.9,
        "l2": 2e-4,
        "schedule": "triangular",
        "flip": True,
    },
)


def build(
    input_shape: tuple[int, int, int], num_classes: int, *, stem: str = "cifar", dropout: float = 0.5
) -> keras.Model:
    if stem not in ("cifar", "imagenet"):
        raise ValueError(f"stem must be 'cifar' (stride 1, no pooling) or 'imagenet', got {stem!r}")
    inputs = keras.Input(input_shape)
    x = _conv(inputs, 64, 3) if stem == "cifar" else ceil_max_pool(_conv(inputs, 64, 3, strides=2, padding="valid"))
    x = _fire(_fire(x, 16), 16)
    x = _fire(_fire(ceil_max_pool(x), 32), 32)
    x = ceil_max_pool(x)
    for squeezed in (48, 48, 64, 64):
        x = _fire(x, squeezed)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, average_class_maps(x, num_classes, kernel_initializer=_normal()))


def _fire(x, squeezed):
    x = _conv(x, squeezed, 1)
    return layers.Concatenate()([_conv(x, 4 * squeezed, 1), _conv(x, 4 * squeezed, 3)])


def _conv(x, filters, kernel_size, **options):
    return conv_relu(x, filters, kernel_size, kernel_initializer="he_uniform", **options)


def _normal():
    return keras.initializers.RandomNormal(stddev=0.01)
