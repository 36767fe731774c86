"""MLP-Mixer: MLPs over patches and over features in turn, small enough for CIFAR (Tolstikhin et al. 2021, section 2).

The default cuts 4x4 patches and has 128 features and 8 layers, the sizes of omihub777/MLP-Mixer-CIFAR, which reports
90.83 % on CIFAR-10 with them. The MLP over patches is half as wide as the features, that over features four times, as
in all of the paper's table 1: S/16 is `patch=16,dim=512`, B/16 `patch=16,dim=768,depth=12`. (That repository states
0.67M parameters, which are those of the two widths exchanged; with the ones it trains there are 1.13M.)

Kernels are LeCun normal, biases zero, as in the authors' code. There the head starts at zero, which keeps the first
gradient from all else; here it is LeCun normal too. GELU is exact, there its tanh approximation.

The recipe is that repository's without its AutoAugment. It draws CutMix for half of the batches, here for all; its
rate ends at 1e-6.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.attention import as_tokens, layer_norm, mlp, patch_embedding, require_whole

INFO = Architecture(
    paper="https://arxiv.org/abs/2105.01601",
    min_size=8,
    trainable_params={
        "32x32x3/10": 1_132_170,
        "224x224x3/1000:patch=16,dim=512": 18_528_264,
        "224x224x3/1000:patch=16,dim=768,depth=12": 59_880_472,
    },
    accuracy={"cifar10": 0.9083},
    recipe={
        "epochs": 300,
        "batch_size": 128,
        "drop_remainder": False,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "beta_2": 0.99,
        "epsilon": 1e-8,
        "l2": 5e-5,
        "schedule": "cosine",
        "warmup": 0.0166667,
        "end_factor": 1e-3,
        "label_smoothing": 0.1,
        "normalization": "standardize",
        "crop_padding": 0.125,
        "flip": True,
        "cutmix": 1.0,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"depth": 2},
)


def build(
    input_shape: tuple[int, int, int], num_classes: int, *, patch: int = 4, dim: int = 128, depth: int = 8
) -> keras.Model:
    require_whole(depth=depth)
    if dim < 2 or dim % 2:
        raise ValueError(f"dim must be even, since the MLP over patches is half as wide, got {dim}")
    inputs = keras.Input(input_shape)
    x = as_tokens(patch_embedding(inputs, dim, patch, _conv))
    for _ in range(depth):
        x = layers.Add()([x, _over_patches(layer_norm(x), dim // 2)])
        x = layers.Add()([x, mlp(layer_norm(x), 4 * dim, dense=_dense)])
    x = layers.GlobalAveragePooling1D()(layer_norm(x))
    return keras.Model(inputs, _dense(x, num_classes))


def _over_patches(x, hidden):
    swap = layers.Permute((2, 1))
    return layers.Permute((2, 1))(mlp(swap(x), hidden, dense=_dense))


def _conv(x, filters, kernel_size, **options):
    return layers.Conv2D(filters, kernel_size, kernel_initializer="lecun_normal", **options)(x)


def _dense(x, units):
    return layers.Dense(units, kernel_initializer="lecun_normal")(x)
