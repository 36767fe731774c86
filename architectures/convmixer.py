"""ConvMixer-256/8 of depthwise and pointwise convolutions on patches (Trockman and Kolter 2022, figure 2).

Patches of 2x2, then blocks of a 5x5 depthwise convolution with a shortcut and a pointwise one, each followed by GELU
and batch normalisation, at one resolution throughout. The authors' CIFAR-10 code (locuslab/convmixer-cifar10) reports
about 92.5 % after 25 epochs, and more than 94 % after 100 with more augmentation. Initialisation, epsilon and momentum
are PyTorch's, as there. Where an image is no multiple of the patch, the last pixels go unseen, as there.

Its recipe: AdamW 0.05 with decay 0.005 on all weights, batch 512, flip, RandAugment of 2 operations of strength 12 of
30 (torchvision's), on half precision. Its rate rises linearly until epoch 10, falls to a twentieth of the peak at epoch
20 and to 0 at 25; the triangle here falls in one line.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.attention import require_whole
from bench.layers.basic import batch_norm, torch_conv2d, torch_dense

INFO = Architecture(
    paper="https://arxiv.org/abs/2201.09792",
    min_size=4,
    trainable_params={
        "32x32x3/10": 594_186,
        "224x224x3/1000:dim=768,depth=32,kernel_size=7,patch=7": 21_110_248,
    },
    accuracy={"cifar10": 0.925},
    recipe={
        "epochs": 25,
        "batch_size": 512,
        "drop_remainder": False,
        "optimizer": "adamw",
        "learning_rate": 0.05,
        "epsilon": 1e-8,
        "weight_decay": 0.005,
        "schedule": "triangular",
        "warmup": 0.4,
        "normalization": "standardize",
        "flip": True,
        "rand_augment": 2,
        "rand_magnitude": 0.4,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"dim": 64, "depth": 2},
)


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dim: int = 256,
    depth: int = 8,
    kernel_size: int = 5,
    patch: int = 2,
) -> keras.Model:
    require_whole(dim=dim, depth=depth, kernel_size=kernel_size, patch=patch)
    inputs = keras.Input(input_shape)
    x = _activate(torch_conv2d(inputs, dim, patch, strides=patch, padding="valid"))
    for _ in range(depth):
        x = layers.Add()([x, _activate(_depthwise(x, kernel_size))])
        x = _activate(torch_conv2d(x, dim, 1))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, torch_dense(x, num_classes))


def _activate(x):
    return batch_norm(layers.Activation("gelu")(x))


def _depthwise(x, kernel_size):
    bound = 1 / kernel_size  # PyTorch's 1/√fan-in; Keras would take all channels for the fan-in
    uniform = {f"{name}_initializer": keras.initializers.RandomUniform(-bound, bound) for name in ("depthwise", "bias")}
    return layers.DepthwiseConv2D(kernel_size, padding="same", **uniform)(x)
