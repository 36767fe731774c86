"""MobileOne S0 to S3 (Vasu et al. 2023, section 3): in training, each convolution is a sum of several branches.

A block sums `branches` convolutions, a 1x1 one beside those of 3x3, and its input where the shapes agree, each with
batch normalisation of its own. All that is linear, so after training the authors merge it into one convolution:
accuracy stays, and S0's 5,293,272 parameters become 2,078,504. Here the network stays as it is trained, so accuracies
are those of MobileOne, while size, multiply-adds, latency and inference speed are of the branches: not what the paper
is about, and to be read as an upper bound of its cost.

For small images the first strides are 1, so that the side is divided by `reduction`: 8 unless told, which leaves 4x4
of CIFAR's 32x32; 32 is the paper's, for 224 pixels, with 71.4 % on ImageNet (S0). The numbers of parameters with
1,000 classes are those of the authors' code, as timm has it, with `reduction=32`; where a stride is 1 instead of 2, a
block's input is one branch more, with 2 parameters a channel. S0 has 4 branches, the others 1, as in the paper
(`branches=0`). Initialisation, epsilon and momentum are PyTorch's, and strided convolutions pad evenly, without which
branches could not be merged.

The paper trains on ImageNet with SGD 0.1, cosine over 300 epochs, batch 256, label smoothing 0.1 and an average of the
weights (0.9995); its decay of weights falls from 1e-4 to 1e-5, and the images grow, which recipes do not have.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.basic import torch_dense
from bench.layers.mobile import ConvStyle, choose, early_strides

INFO = Architecture(
    paper="https://arxiv.org/abs/2206.04040",
    min_size=8,
    trainable_params={
        "32x32x3/1000:reduction=32": 5_293_272,
        "32x32x3/1000:variant='S1',reduction=32": 4_825_192,
        "32x32x3/10": 4_278_618,  # S0 with 990 * 1,025 for classes less, and 2 * 48 for the first block's input
    },
    accuracy={"imagenet2012": 0.714},
    recipe={
        "epochs": 300,
        "batch_size": 256,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "l2": 1e-4,
        "schedule": "cosine",
        "label_smoothing": 0.1,
        "average": "ema",
        "average_decay": 0.9995,
        "normalization": "standardize",
        "resized_crop": 0.08,
        "flip": True,
    },
    quick={"branches": 1, "blocks": (1, 2, 2, 1), "reduction": 32},
    argument="variant",
)
STYLE = ConvStyle()
# Channels of the stem and of the four stages, branches.
VARIANTS = {
    "S0": ((48, 48, 128, 256, 1024), 4),
    "S1": ((64, 96, 192, 512, 1280), 1),
    "S2": ((64, 96, 256, 640, 2048), 1),
    "S3": ((64, 128, 320, 768, 2048), 1),
}


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    variant: str = "S0",
    branches: int = 0,
    blocks: tuple[int, ...] = (2, 8, 10, 1),
    reduction: int = 8,
) -> keras.Model:
    filters, published = choose("variant", variant, VARIANTS)
    if len(blocks) != 4 or min(blocks) < 1 or branches < 0:
        wanted = "blocks must be 4 numbers of at least 1, and branches at least 0, which means the published number"
        raise ValueError(f"{wanted}; got blocks={blocks}, branches={branches}")
    branches = branches or published
    stem, *strides = early_strides((2,) * 5, reduction)
    inputs = keras.Input(input_shape)
    x = _block(inputs, filters[0], 3, stem)
    for channels, repeats, stride in zip(filters[1:], blocks, strides, strict=True):
        for number in range(repeats):
            x = _block(x, x.shape[-1], 3, 1 if number else stride, branches=branches, groups=x.shape[-1])
            x = _block(x, channels, 1, branches=branches)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, torch_dense(x, num_classes))


def _block(x, filters, kernel_size, strides=1, *, branches=1, groups=1):
    sizes = [kernel_size] * branches + [1] * (kernel_size > 1)
    summands = [STYLE.conv(x, filters, size, strides, groups=groups, linear=True) for size in sizes]
    if strides == 1 and x.shape[-1] == filters:
        summands.append(STYLE.norm(x))
    return layers.ReLU()(layers.Add()(summands) if len(summands) > 1 else summands[0])
