"""RegNet (Radosavovic et al. 2020, section 5): grouped bottlenecks whose widths follow one quantised line.

Block j's width is w0 + wa·j, rounded to w0 times a power of wm and then to a multiple of 8; blocks of one width make a
stage, and widths are rounded to whole groups. Y is X with squeeze-and-excitation. `variant` names the paper's networks
by their multiply-adds at 224 pixels; on ImageNet it reports 68.9 % (X-200MF), 70.4 % (Y-200MF), 72.7 % (X-400MF) and
74.1 % (Y-400MF), with `reduction=32`. For small images the first strides are 1, so that the side is divided by
`reduction`: 8 unless told, which leaves 4x4 of CIFAR's 32x32; a stage's first block has its convolution on the shortcut
all the same. The numbers of parameters with 1,000 classes are those of the authors' code and timm, at any reduction;
torchvision's X-400MF differs (5,495,976), since it rounds widths to groups upwards there.

As in the authors' code (facebookresearch/pycls): epsilon 1e-5 and momentum 0.9, kernels of variance 2/fan-out, dense
weights of deviation 0.01, even padding, and their ImageNet training: SGD 0.8 with Nesterov momentum, cosine over 100
epochs with 5 of warm-up from a tenth, batch 1,024, L2 5e-5 on all weights. Its changes of colour (PCA lighting) are
left out of the recipe.
"""

import itertools
import math

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.mobile import ConvStyle, choose, early_strides

INFO = Architecture(
    paper="https://arxiv.org/abs/2003.13678",
    min_size=8,
    trainable_params={
        "32x32x3/1000": 3_162_996,
        "32x32x3/1000:variant='X-200MF'": 2_684_792,
        "32x32x3/1000:variant='X-400MF'": 5_157_512,
        "32x32x3/1000:variant='Y-400MF'": 4_344_144,
    },
    accuracy={"imagenet2012": 0.704},
    recipe={
        "epochs": 100,
        "batch_size": 1024,
        "optimizer": "sgd",
        "learning_rate": 0.8,
        "momentum": 0.9,
        "nesterov": True,
        "l2": 5e-5,
        "schedule": "cosine",
        "warmup": 0.05,
        "start_factor": 0.1,
        "normalization": "standardize",
        "resized_crop": 0.08,
        "flip": True,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"variant": "X-200MF", "reduction": 32},
    argument="variant",
)
STYLE = ConvStyle(kernels="fan_out")
STEM = 32
# Blocks, w0, wa, wm, channels of a group, share of squeeze-and-excitation.
VARIANTS = {
    "X-200MF": (13, 24, 36.44, 2.49, 8, 0.0),
    "X-400MF": (22, 24, 24.48, 2.54, 16, 0.0),
    "X-600MF": (16, 48, 36.97, 2.24, 24, 0.0),
    "Y-200MF": (13, 24, 36.44, 2.49, 8, 0.25),
    "Y-400MF": (16, 48, 27.89, 2.09, 8, 0.25),
    "Y-600MF": (15, 48, 32.54, 2.32, 16, 0.25),
}


def build(
    input_shape: tuple[int, int, int], num_classes: int, *, variant: str = "Y-200MF", reduction: int = 8
) -> keras.Model:
    blocks, start, slope, step, group, squeeze = choose("variant", variant, VARIANTS)
    stages = [(width, len(list(same))) for width, same in itertools.groupby(_widths(blocks, start, slope, step))]
    stem, *strides = early_strides((2,) * (1 + len(stages)), reduction)
    inputs = keras.Input(input_shape)
    x = STYLE.conv(inputs, STEM, 3, stem)
    for (width, depth), stride in zip(stages, strides, strict=True):
        channels = min(group, width)
        for number in range(depth):
            y = _bottleneck(x, round(width / channels) * channels, 1 if number else stride, channels, squeeze)
            x = layers.ReLU()(layers.Add()([y, x if number else STYLE.conv(x, y.shape[-1], 1, stride, linear=True)]))
    x = layers.GlobalAveragePooling2D()(x)
    normal = keras.initializers.RandomNormal(stddev=0.01)
    return keras.Model(inputs, layers.Dense(num_classes, kernel_initializer=normal)(x))


def _widths(blocks, start, slope, step):
    """Equations 2 to 4 of the paper."""
    powers = [round(math.log((start + slope * block) / start, step)) for block in range(blocks)]
    return [round(start * step**power / 8) * 8 for power in powers]


def _bottleneck(x, width, strides, group, squeeze):
    y = STYLE.conv(x, width)
    y = STYLE.conv(y, width, 3, strides, groups=width // group)
    if squeeze:
        y = STYLE.squeeze_excite(y, round(squeeze * x.shape[-1]))
    return STYLE.conv(y, width, linear=True)
