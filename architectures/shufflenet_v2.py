"""ShuffleNetV2 (Ma et al. 2018, figure 3 and table 5): half of the channels pass by each block, then all are shuffled.

For small images the first strides are 1, so that the side is divided by `reduction`: 8 unless told, which leaves 4x4
of CIFAR's 32x32 (stem without stride, no max pooling); 32 is the paper's, for 224 pixels, with 69.4 % on ImageNet for
width 1.0 and 60.3 % for 0.5. The numbers of parameters with 1,000 classes are torchvision's, at any reduction; widths
are 0.5, 1.0, 1.5 and 2.0. Initialisation, epsilon and momentum are PyTorch's, and strided convolutions pad evenly.

The authors' code trains on ImageNet with SGD 0.5, falling linearly to 0 over 300,000 steps (240 epochs) of 1,024
images, L2 4e-5 and label smoothing 0.1; its changes of colour are left out of the recipe.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.basic import torch_dense
from bench.layers.mobile import ConvStyle, channel_shuffle, choose, early_strides

INFO = Architecture(
    paper="https://arxiv.org/abs/1807.11164",
    min_size=8,
    trainable_params={
        "32x32x3/1000": 2_278_604,
        "32x32x3/1000:width=0.5": 1_366_792,
        "32x32x3/1000:width=2.0": 7_393_996,
    },
    accuracy={"imagenet2012": 0.694},
    recipe={
        "epochs": 240,
        "batch_size": 1024,
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "momentum": 0.9,
        "l2": 4e-5,
        "schedule": "triangular",
        "label_smoothing": 0.1,
        "normalization": "standardize",
        "resized_crop": 0.08,
        "flip": True,
    },
    quick={"width": 0.5, "reduction": 32},
)
STYLE = ConvStyle()
BLOCKS = (4, 8, 4)
FILTERS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
"""Channels of the three stages and of the last convolution, by width."""


def build(
    input_shape: tuple[int, int, int], num_classes: int, *, width: float = 1.0, reduction: int = 8
) -> keras.Model:
    *filters, last = choose("width", width, FILTERS)
    stem, pool, *strides = early_strides((2,) * 5, reduction)
    inputs = keras.Input(input_shape)
    x = STYLE.conv(inputs, 24, 3, stem)
    if pool > 1:
        x = layers.MaxPooling2D(3, pool)(layers.ZeroPadding2D(1)(x))  # zeros never win: what is pooled is not negative
    for channels, blocks, stride in zip(filters, BLOCKS, strides, strict=True):
        x = _first(x, channels // 2, stride)
        for _ in range(blocks - 1):
            x = _block(x)
    x = layers.GlobalAveragePooling2D()(STYLE.conv(x, last))
    return keras.Model(inputs, torch_dense(x, num_classes))


def _first(x, half, strides):
    left = STYLE.conv(STYLE.depthwise(x, 3, strides, linear=True), half)
    return channel_shuffle(layers.Concatenate()([left, _branch(x, half, strides)]), 2)


def _block(x):
    left, right = keras.ops.split(x, 2, axis=-1)
    return channel_shuffle(layers.Concatenate()([left, _branch(right, right.shape[-1], 1)]), 2)


def _branch(x, filters, strides):
    return STYLE.conv(STYLE.depthwise(STYLE.conv(x, filters), 3, strides, linear=True), filters)
