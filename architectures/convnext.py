"""ConvNeXt of 7x7 depthwise convolutions and MLPs over channels, in a size for CIFAR (Liu et al. 2022, section 2).

The default has timm's "atto" width and depths and 2x2 patches in the stem, so that 32x32 images give maps of 16, 8, 4
and 2; with `patch=4` it is timm's convnext_atto. The paper's ConvNeXt-T is `patch=4,width=96,depths=[3,3,9,3]`, with
82.1 % on ImageNet. Where a map is no multiple of a stride, the last pixels go unseen, as in the authors' code.

As there: weights of deviation 0.02, biases zero, LayerNorm epsilon 1e-6, layer scale from 1e-6, stochastic depth
rising to `drop_path`. The layer scale makes the first gradients within a block about a millionth of the others: AdamW
makes up for that, but a step of plain SGD is lost in float32's rounding where a weight is 1, in its LayerNorm, until
the scale has grown. The recipe is the paper's for ImageNet, without random erasing; its moving average of weights,
which it reports apart, is left out too.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.attention import (
    LayerScale,
    layer_norm,
    mlp,
    normal,
    require_depths,
    require_whole,
    rising_rates,
    token_dense,
)
from bench.layers.basic import stochastic_depth

INFO = Architecture(
    paper="https://arxiv.org/abs/2201.03545",
    min_size=16,
    trainable_params={
        "32x32x3/10": 3_376_290,
        "224x224x3/1000:patch=4": 3_695_520,
        "224x224x3/1000:patch=4,width=96,depths=[3,3,9,3]": 28_589_128,
    },
    accuracy={"imagenet2012": 0.821},
    recipe={
        "epochs": 300,
        "batch_size": 4096,
        "optimizer": "adamw",
        "learning_rate": 4e-3,
        "epsilon": 1e-8,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup": 0.0666667,
        "end_factor": 2.5e-4,
        "label_smoothing": 0.1,
        "normalization": "standardize",
        "flip": True,
        "mixup": 0.8,
        "cutmix": 1.0,
        "rand_augment": 2,
        "rand_magnitude": 0.9,
        "resized_crop": 0.08,
    },
    quick={"width": 16, "depths": [1, 1, 2, 1]},
)


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    patch: int = 2,
    width: int = 40,
    depths: tuple[int, ...] = (2, 2, 6, 2),
    layer_scale: float = 1e-6,
    drop_path: float = 0.1,
) -> keras.Model:
    _check(input_shape, patch, width, depths)
    rates = iter(rising_rates(drop_path, sum(depths)))
    inputs = keras.Input(input_shape)
    x = layer_norm(_conv(inputs, width, patch))
    for stage, depth in enumerate(depths):
        if stage:
            x = _conv(layer_norm(x), width * 2**stage, 2)
        for _ in range(depth):
            x = _block(x, layer_scale, next(rates))
    x = layer_norm(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, token_dense(x, num_classes))


def _block(x, layer_scale, drop_path):
    y = layers.DepthwiseConv2D(7, padding="same", depthwise_initializer=normal())(x)
    y = mlp(layer_norm(y), 4 * x.shape[-1])
    y = LayerScale(layer_scale)(y)
    return layers.Add()([x, stochastic_depth(y, drop_path)])


def _conv(x, filters, size):
    return layers.Conv2D(filters, size, size, kernel_initializer=normal())(x)


def _check(input_shape, patch, width, depths):
    require_whole(patch=patch, width=width)
    require_depths(depths)
    least = patch * 2 ** (len(depths) - 1)
    if min(input_shape[:2]) < least:
        raise ValueError(
            f"images must have at least {least} pixels a side with patch={patch} and {len(depths)} stages, got "
            f"{input_shape[0]}x{input_shape[1]}"
        )
