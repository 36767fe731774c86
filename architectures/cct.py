"""CCT-7/3x1, a compact Transformer on convolutional tokens, pooled over the sequence (Hassani et al. 2021, section 3).

One 3x3 convolution with ReLU and max pooling makes the tokens, 16x16 of them from 32x32 pixels, so any size of image
fits; 7 layers of 256 features and 4 heads; instead of a class token, a learned weighting of all tokens. With its
learned position embedding, the authors' code (SHI-Labs/Compact-Transformers) reports 96.53 % on CIFAR-10 and 80.92 % on
CIFAR-100 after 300 epochs. Initialisation, LayerNorm epsilon (1e-5), attention dropout and stochastic depth (both 0.1)
are its own.

The bias of the pooling's weighting does nothing, since a softmax takes it out again: its gradient is rounding. It is
kept, for the published count has it.

The recipe is its CIFAR-10 one without what follows epoch 175, from where it mixes no images, and without the 10 epochs
at the lowest rate after the 300; RandAugment's strength varies around 9 of 10 there.
"""

import keras
from keras import layers

from bench.api import Architecture
from bench.layers.attention import (
    PositionEmbedding,
    as_tokens,
    layer_norm,
    mlp,
    require_whole,
    rising_rates,
    self_attention,
    token_dense,
)
from bench.layers.basic import stochastic_depth

INFO = Architecture(
    paper="https://arxiv.org/abs/2104.05704",
    min_size=8,
    trainable_params={
        "32x32x3/10": 3_760_139,
        "32x32x3/100": 3_783_269,
        "28x28x3/10:dim=128,depth=2,heads=2,mlp_ratio=1": 228_619,
    },
    accuracy={"cifar10": 0.9653, "cifar100": 0.8092},
    recipe={
        "epochs": 300,
        "batch_size": 128,
        "optimizer": "adamw",
        "learning_rate": 5.5e-4,
        "epsilon": 1e-8,
        "weight_decay": 0.06,
        "schedule": "cosine",
        "warmup": 0.0333333,
        "start_factor": 0.0181818,
        "end_factor": 0.0181818,
        "label_smoothing": 0.1,
        "normalization": "standardize",
        "flip": True,
        "mixup": 0.8,
        "cutmix": 1.0,
        "rand_augment": 2,
        "rand_magnitude": 0.9,
        "resized_crop": 0.8,
        "groups": [{"match": "*position_embedding*", "decay": 1.0}],
    },
    quick={"dim": 64, "depth": 2},
)
EPSILON = 1e-5


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dim: int = 256,
    depth: int = 7,
    heads: int = 4,
    mlp_ratio: int = 2,
    attention_dropout: float = 0.1,
    drop_path: float = 0.1,
) -> keras.Model:
    require_whole(dim=dim, depth=depth, mlp_ratio=mlp_ratio)
    inputs = keras.Input(input_shape)
    x = PositionEmbedding(deviation=0.2)(_tokens(inputs, dim))
    for rate in rising_rates(drop_path, depth):
        y = self_attention(layer_norm(x, EPSILON), heads, qkv_bias=False, dropout=attention_dropout)
        x = layer_norm(layers.Add()([x, stochastic_depth(y, rate)]), EPSILON)
        x = layers.Add()([x, stochastic_depth(mlp(x, mlp_ratio * dim), rate)])
    x = _pool(layer_norm(x, EPSILON))
    return keras.Model(inputs, token_dense(x, num_classes))


def _tokens(x, dim):
    x = layers.Conv2D(dim, 3, padding="same", use_bias=False, kernel_initializer="he_normal", activation="relu")(x)
    return as_tokens(layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x)))


def _pool(x):
    weights = layers.Softmax(axis=1, dtype="float32")(token_dense(x, 1))
    return layers.Flatten()(layers.Dot(axes=1)([weights, x]))
