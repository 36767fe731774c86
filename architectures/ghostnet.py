"""GhostNet (Han et al. 2020, table 1): half of each layer's channels are made from the other half by cheap 3x3 filters.

For small images the first strides are 1, so that the side is divided by `reduction`: 8 unless told, which leaves 4x4
of CIFAR's 32x32; 32 is the paper's, for 224 pixels, with 73.9 % on ImageNet for width 1.0 and 66.2 % for 0.5. The
numbers of parameters with 1,000 classes are those of the authors' PyTorch code, as timm has it, at any reduction.
Initialisation (but biases of 0 in squeeze-and-excitation), epsilon and momentum are PyTorch's, and strided convolutions
pad evenly. The dropout of 0.2 before the classifier is the code's.

The paper trains on ImageNet with SGD 0.4 for batches of 1,024, else as ShuffleNet: falling linearly to 0 over 240
epochs, L2 4e-5. ShuffleNet's changes of colour are left out of the recipe.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.basic import torch_dense
from bench.layers.mobile import ConvStyle, early_strides, make_divisible, require_positive

INFO = Architecture(
    paper="https://arxiv.org/abs/1911.11907",
    min_size=8,
    trainable_params={
        "32x32x3/1000": 5_182_508,
        "32x32x3/1000:width=0.5": 2_587_292,
    },
    accuracy={"imagenet2012": 0.739},
    recipe={
        "epochs": 240,
        "batch_size": 1024,
        "optimizer": "sgd",
        "learning_rate": 0.4,
        "momentum": 0.9,
        "l2": 4e-5,
        "schedule": "triangular",
        "normalization": "standardize",
        "resized_crop": 0.08,
        "flip": True,
    },
    quick={"width": 0.25, "reduction": 32},
)
STYLE = ConvStyle(gate="hard_sigmoid")
# Kernel size of strided and shortcut convolutions, expanded channels, channels, squeeze-and-excitation, strides.
BLOCKS = (
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
)


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: float = 1.0,
    reduction: int = 8,
    dropout: float = 0.2,
) -> keras.Model:
    require_positive(width=width)
    stem, *strides = early_strides((2, *(block[-1] for block in BLOCKS)), reduction)
    inputs = keras.Input(input_shape)
    x = STYLE.conv(inputs, make_divisible(16 * width, 4), 3, stem)
    for (kernel_size, expanded, filters, squeeze, published), stride in zip(BLOCKS, strides, strict=True):
        wide = make_divisible(expanded * width, 4)
        y = _ghost(x, wide)
        if published > 1:  # the depthwise convolution stays where a small image is not made smaller
            y = STYLE.depthwise(y, kernel_size, stride, linear=True)
        if squeeze:
            y = STYLE.squeeze_excite(y, make_divisible(wide / 4, 4))
        y = _ghost(y, make_divisible(filters * width, 4), linear=True)
        if published > 1 or x.shape[-1] != y.shape[-1]:
            x = STYLE.conv(STYLE.depthwise(x, kernel_size, stride, linear=True), y.shape[-1], linear=True)
        x = layers.Add()([x, y])
    x = STYLE.conv(x, wide)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(torch_dense(x, 1280, activation="relu"))
    return keras.Model(inputs, torch_dense(x, num_classes))


def _ghost(x, filters, *, linear=False):
    primary = STYLE.conv(x, filters // 2, linear=linear)
    return layers.Concatenate()([primary, STYLE.depthwise(primary, 3, linear=linear)])
