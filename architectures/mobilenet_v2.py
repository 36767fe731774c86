"""MobileNetV2 of inverted residuals (Sandler et al. 2018, table 2), for small images or as in the paper.

The default is the network that kuangliu/pytorch-cifar reports 94.43 % on CIFAR-10 for (2,296,922 parameters): strides
of 1 in the stem and the second stage, so that the image's side is divided by 8 and not by 32 (`reduction`); also, ReLU
rather than ReLU6, an expansion in the first block too, though it multiplies by 1, and a convolution on the shortcut
where only the number of channels changes. `variant='paper'` is the paper's own, in torchvision's form (3,504,872
parameters with 1,000 classes at any reduction; 72.0 % on ImageNet with `reduction=32`); both count 10 classes unless
told. Initialisation, epsilon and momentum are PyTorch's, and strided convolutions pad evenly.

That repository's training: SGD 0.1 with momentum 0.9, cosine to 0 over 200 epochs, batch 128, L2 5e-4 on all weights,
pad-4 crop and flip; older versions of it lowered the rate by hand, and its table does not say which was used. The
paper's (RMSProp on ImageNet) is not given.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.basic import torch_dense
from bench.layers.mobile import ConvStyle, choose, early_strides, inverted_residual, make_divisible, require_positive

INFO = Architecture(
    paper="https://arxiv.org/abs/1801.04381",
    min_size=8,
    trainable_params={
        "32x32x3/10": 2_296_922,
        "32x32x3/1000:variant='paper'": 3_504_872,
        "32x32x3/1000:variant='paper',width=0.5": 1_968_680,
    },
    accuracy={"cifar10": 0.9443},
    recipe={
        "epochs": 200,
        "batch_size": 128,
        "drop_remainder": False,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "l2": 5e-4,
        "schedule": "cosine",
        "normalization": "standardize",
        "crop_padding": 0.125,
        "flip": True,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"width": 0.25, "reduction": 32},
    argument="variant",
)
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, and strides of the first block."""
ACTIVATIONS = {"cifar": "relu", "paper": "relu6"}


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    variant: str = "cifar",
    width: float = 1.0,
    reduction: int = 8,
    dropout: float = 0.0,
) -> keras.Model:
    require_positive(width=width)
    style = ConvStyle(activation=choose("variant", variant, ACTIVATIONS))
    block = inverted_residual if variant == "paper" else _cifar_block
    stem, *strides = early_strides((2, *(stage[-1] for stage in STAGES)), reduction)
    inputs = keras.Input(input_shape)
    x = style.conv(inputs, make_divisible(32 * width), 3, stem)
    for (expansion, filters, blocks, _), stride in zip(STAGES, strides, strict=True):
        for number in range(blocks):
            expanded = expansion * x.shape[-1]
            x = block(style, x, make_divisible(filters * width), expanded=expanded, strides=1 if number else stride)
    x = style.conv(x, make_divisible(1280 * max(1.0, width)))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, torch_dense(x, num_classes))


def _cifar_block(style, x, filters, expanded, strides):
    y = style.depthwise(style.conv(x, expanded), 3, strides)
    y = style.conv(y, filters, linear=True)
    if strides > 1:
        return y
    return layers.Add()([y, x if x.shape[-1] == filters else style.conv(x, filters, linear=True)])
