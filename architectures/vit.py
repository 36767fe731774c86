"""Vision Transformer with a class token, of a size for CIFAR (Dosovitskiy et al. 2021, section 3.1).

The default is the ViT that Lee et al. 2021 (arxiv 2112.13492) train on CIFAR-10 to 93.58 %: 4x4 patches, 192 features,
9 layers of 12 heads, MLPs of twice the width, no biases on queries, keys and values. With biases and MLPs of four times
the width it is DeiT's: Ti/16 is `patch=16,depth=12,heads=3,mlp_ratio=4,qkv_bias=true`, S/16 the same with
`dim=384,heads=6`. The position embedding is learned for the size of the images that the network is built for.

Initialisation and LayerNorm epsilon (1e-6) are DeiT's, the patch embedding's PyTorch's; Lee et al. have Xavier normal
kernels, tokens and positions of deviation 1, and epsilon 1e-5. They drop branches at 0.1 in all layers; here the rate
rises to `drop_path`. Their recipe also has AutoAugment, repeated augmentation and random erasing, and mixes half of the
batches only.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.attention import (
    ClassToken,
    PositionEmbedding,
    as_tokens,
    encoder_block,
    layer_norm,
    patch_embedding,
    require_whole,
    rising_rates,
    token_dense,
)

INFO = Architecture(
    paper="https://arxiv.org/abs/2010.11929",
    min_size=8,
    trainable_params={
        "32x32x3/10": 2_692_426,
        "224x224x3/1000:patch=16,depth=12,heads=3,mlp_ratio=4,qkv_bias=true": 5_717_416,
        "224x224x3/1000:patch=16,dim=384,depth=12,heads=6,mlp_ratio=4,qkv_bias=true": 22_050_664,
    },
    accuracy={"cifar10": 0.9358},
    recipe={
        "epochs": 100,
        "batch_size": 128,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "epsilon": 1e-8,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup": 0.1,
        "start_factor": 1e-3,
        "end_factor": 1e-3,
        "label_smoothing": 0.1,
        "normalization": "standardize",
        "crop_padding": 0.125,
        "flip": True,
        "mixup": 1.0,
        "cutmix": 1.0,
        "groups": [{"match": "*", "decay": 1.0}],
    },
    quick={"depth": 2},
)


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    patch: int = 4,
    dim: int = 192,
    depth: int = 9,
    heads: int = 12,
    mlp_ratio: int = 2,
    qkv_bias: bool = False,
    drop_path: float = 0.1,
) -> keras.Model:
    require_whole(depth=depth, mlp_ratio=mlp_ratio)
    inputs = keras.Input(input_shape)
    x = as_tokens(patch_embedding(inputs, dim, patch))
    x = PositionEmbedding()(ClassToken()(x))
    for rate in rising_rates(drop_path, depth):
        x = encoder_block(x, heads, mlp_ratio * dim, qkv_bias=qkv_bias, drop_path=rate)
    class_token = layers.Flatten()(layers.Cropping1D((0, x.shape[1] - 1))(layer_norm(x)))
    return keras.Model(inputs, token_dense(class_token, num_classes))
