"""Blocks of networks made of patches and tokens: patches, attention, MLPs, and what keeps deep ones trainable.

Weights start from a normal distribution of deviation 0.02 and biases from zero, as in DeiT, Swin and ConvNeXt. Their
code calls this a truncated normal, but PyTorch's `trunc_normal_` cuts at ±2, a hundred deviations away, where Keras's
`TruncatedNormal` would cut at two deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from bench.layers.basic import stochastic_depth, torch_conv2d

SMALL = 0.02


def normal(deviation: float = SMALL) -> Any:
    """Return a new initialiser; one that weights share would give them all the same values."""
    return keras.initializers.RandomNormal(stddev=deviation)


def token_dense(x: Any, units: int, **options: Any) -> Any:
    """Apply a dense layer to the last axis, initialised as above. x: float N×...×F."""
    return layers.Dense(units, **{"kernel_initializer": normal(), **options})(x)


def layer_norm(x: Any, epsilon: float = 1e-6) -> Any:
    """Apply layer normalisation over the last axis; the papers' code has 1e-6 (Keras 1e-3), Swin and CCT 1e-5."""
    return layers.LayerNormalization(epsilon=epsilon)(x)


def rising_rates(rate: float, blocks: int) -> list[float]:
    """Return the rate of stochastic depth of each block, from 0 at the first to `rate` at the last.

    Raises:
        ValueError: the rate is not from 0 to below 1.

    """
    if not 0 <= rate < 1:
        raise ValueError(f"drop_path must be from 0 to below 1, got {rate}")
    return [float(each) for each in np.linspace(0, rate, blocks)]


def require_whole(**numbers: int) -> None:
    """Refuse sizes that are not at least 1.

    Raises:
        ValueError: one of them is smaller.

    """
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")


def require_depths(depths: Sequence[int]) -> None:
    """Refuse stages that are not at least one, each of at least one block.

    Raises:
        ValueError: they are not.

    """
    if not depths or min(depths) < 1:
        raise ValueError(f"depths must be the blocks of each stage, at least 1, such as [2, 2, 6, 2]; got {depths}")


def patch_embedding(x: Any, dim: int, patch: int, conv: Callable[..., Any] = torch_conv2d) -> Any:
    """Map each patch×patch square linearly to `dim` features. x: float N×H×W×C; gives N×H/patch×W/patch×dim.

    Raises:
        ValueError: the image's sides are not multiples of `patch`.

    """
    require_whole(dim=dim, patch=patch)
    height, width = x.shape[1:3]
    if height % patch or width % patch:
        raise ValueError(
            f"images of {height}x{width} cannot be cut into patches of {patch}x{patch}: both sides must be multiples "
            f"of {patch}. Patches that fit: {', '.join(map(str, _common_divisors(height, width)))}"
        )
    return conv(x, dim, patch, strides=patch, padding="valid")


def as_tokens(x: Any) -> Any:
    """Put the pixels of a map in a row. x: N×H×W×F; gives N×HW×F."""
    height, width, features = x.shape[1:]
    return layers.Reshape((height * width, features))(x)


def mlp(x: Any, hidden: int, dense: Callable[..., Any] = token_dense) -> Any:
    """Apply dense, GELU (exact, where some JAX code has the tanh approximation), dense. x: float N×...×F."""
    return dense(layers.Activation("gelu")(dense(x, hidden)), x.shape[-1])


def self_attention(
    x: Any, heads: int, *, qkv_bias: bool = True, dropout: float = 0.0, bias: Callable[[Any], Any] | None = None
) -> Any:
    """Apply multi-head self-attention (Vaswani et al. 2017) over the last axis but one.

    Args:
        x: float N×...×tokens×F.
        heads: a divisor of F.
        qkv_bias: whether queries, keys and values have biases; the projection of the output always has.
        dropout: share of the attention weights dropped while training.
        bias: a layer that adds something to the scores, of shape N×...×heads×tokens×tokens.

    Raises:
        ValueError: the heads do not divide the features.

    """
    features = x.shape[-1]
    require_whole(heads=heads)
    if features % heads:
        raise ValueError(f"heads must divide the {features} features, got {heads}")
    split = layers.Reshape((*x.shape[1:-1], 3, heads, features // heads))(
        token_dense(x, 3 * features, use_bias=qkv_bias)
    )
    query, key, value = ops.unstack(split, axis=-3)
    if bias or dropout:
        attended = _attend(query, key, value, bias, dropout)
    else:
        attended = ops.dot_product_attention(query, key, value)
    return token_dense(layers.Reshape(x.shape[1:])(attended), features)


def encoder_block(
    x: Any, heads: int, hidden: int, *, qkv_bias: bool = True, drop_path: float = 0.0, epsilon: float = 1e-6
) -> Any:
    """Apply one pre-norm Transformer block: attention, then an MLP, each with a shortcut. x: float N×tokens×F."""
    y = self_attention(layer_norm(x, epsilon), heads, qkv_bias=qkv_bias)
    x = layers.Add()([x, stochastic_depth(y, drop_path)])
    y = mlp(layer_norm(x, epsilon), hidden)
    return layers.Add()([x, stochastic_depth(y, drop_path)])


@keras.saving.register_keras_serializable(package="bench")
class PositionEmbedding(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Adds a learned vector to each token. It is named a bias, since weight decay leaves it alone, as in DeiT."""

    def __init__(self, deviation: float = SMALL, **options: Any) -> None:
        super().__init__(**options)
        self.deviation = deviation

    def build(self, shape: Any) -> None:
        """Create the vectors for that many tokens."""
        self.bias = self.add_weight(shape=shape[1:], initializer=normal(self.deviation), name="bias")

    def call(self, x: Any) -> Any:
        """Return x plus the vectors. x: float N×tokens×F."""
        return x + self.bias

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return {**super().get_config(), "deviation": self.deviation}


@keras.saving.register_keras_serializable(package="bench")
class ClassToken(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Puts a learned token before the others; a bias like the position embedding."""

    def build(self, shape: Any) -> None:
        """Create the token."""
        self.bias = self.add_weight(shape=shape[-1:], initializer=normal(), name="bias")

    def call(self, x: Any) -> Any:
        """Return N×(1 + tokens)×F for N×tokens×F."""
        token = ops.broadcast_to(ops.cast(self.bias, x.dtype), (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1)

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the shape with one token more."""
        return (shape[0], shape[1] + 1, shape[2])


@keras.saving.register_keras_serializable(package="bench")
class LayerScale(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Multiplies each feature by a learned factor that starts small (Touvron et al. 2021)."""

    def __init__(self, initial: float = 1e-6, **options: Any) -> None:
        super().__init__(**options)
        self.initial = initial

    def build(self, shape: Any) -> None:
        """Create one factor a feature."""
        initializer = keras.initializers.Constant(self.initial)
        self.gamma = self.add_weight(shape=shape[-1:], initializer=initializer, name="gamma")

    def call(self, x: Any) -> Any:
        """Return x with its features scaled. x: float N×...×F."""
        return x * self.gamma

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return {**super().get_config(), "initial": self.initial}


def _attend(query: Any, key: Any, value: Any, bias: Callable[[Any], Any] | None, dropout: float) -> Any:
    """Compute attention step by step, where Keras's operation lacks what is needed. All: N×...×tokens×heads×F."""
    query, key, value = (ops.swapaxes(each, -3, -2) for each in (query, key, value))
    scores = ops.matmul(query * query.shape[-1] ** -0.5, ops.swapaxes(key, -2, -1))
    scores = bias(scores) if bias else scores
    weights = layers.Softmax(dtype="float32")(scores)
    weights = layers.Dropout(dropout)(weights) if dropout else weights
    return ops.swapaxes(ops.matmul(ops.cast(weights, value.dtype), value), -3, -2)


def _common_divisors(height: int, width: int) -> list[int]:
    return [size for size in range(1, min(height, width) + 1) if height % size == 0 and width % size == 0]
