"""Swin Transformer: attention within windows that shift from layer to layer, sized for CIFAR (Liu et al. 2021).

The default is the Swin that Lee et al. 2021 (arxiv 2112.13492) train on CIFAR-10 to 94.46 %: 2x2 patches, windows of
4x4, three stages of 2, 6 and 4 blocks, MLPs of twice the width, and an absolute position embedding. The paper's Swin-T
is `patch=4,window=7,depths=[2,2,6,2],mlp_ratio=4,positions=false,drop_path=0.2`. A head has 32 features throughout.

Images must be multiples of the patch. Maps that are no multiple of the window are padded at the bottom and right for
each attention, and those of odd size before two by two pixels are merged, as in torchvision; so are windows larger than
a map, which Lee et al. shrink. Initialisation and LayerNorm epsilon (1e-5) are the authors'. The recipe is that of
`vit`, where what it leaves out is told.
"""

import keras
import numpy as np
from keras import layers, ops

from bench.api import Architecture
from bench.layers.attention import (
    PositionEmbedding,
    as_tokens,
    layer_norm,
    mlp,
    normal,
    patch_embedding,
    require_depths,
    require_whole,
    rising_rates,
    self_attention,
    token_dense,
)
from bench.layers.basic import stochastic_depth

INFO = Architecture(
    paper="https://arxiv.org/abs/2103.14030",
    min_size=8,
    trainable_params={
        "32x32x3/10": 7_073_188,
        "224x224x3/1000:patch=4,window=7,depths=[2,2,6,2],mlp_ratio=4,positions=false": 28_288_354,
    },
    accuracy={"cifar10": 0.9446},
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
    quick={"dim": 32, "depths": [2, 2]},
)
EPSILON = 1e-5
HEAD = 32


def build(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    patch: int = 2,
    window: int = 4,
    dim: int = 96,
    depths: tuple[int, ...] = (2, 6, 4),
    mlp_ratio: int = 2,
    positions: bool = True,
    drop_path: float = 0.1,
) -> keras.Model:
    _check(window, dim, depths, mlp_ratio)
    rates = iter(rising_rates(drop_path, sum(depths)))
    inputs = keras.Input(input_shape)
    x = layer_norm(patch_embedding(inputs, dim, patch), EPSILON)
    if positions:
        x = layers.Reshape(x.shape[1:])(PositionEmbedding()(as_tokens(x)))
    for stage, depth in enumerate(depths):
        x = _merge(x) if stage else x
        for block in range(depth):
            x = _block(x, window, window // 2 if block % 2 else 0, mlp_ratio, next(rates))
    x = layers.GlobalAveragePooling2D()(layer_norm(x, EPSILON))
    return keras.Model(inputs, token_dense(x, num_classes))


@keras.saving.register_keras_serializable(package="bench")
class WindowBias(layers.Layer):
    """Adds to scores what depends on relative position, and -100 between tokens that only the shift made neighbours.

    Scores are of shape N×windows×heads×tokens×tokens, `grid` are the windows in height and width, and `shifts` the
    pixels that the map was rolled by.
    """

    def __init__(self, window, grid, shifts, **options):
        super().__init__(**options)
        self.window, self.grid, self.shifts = window, tuple(grid), tuple(shifts)

    def build(self, shape):
        """Create the table: a row for each difference of positions, a column for each head."""
        self.bias = self.add_weight(shape=((2 * self.window - 1) ** 2, shape[2]), initializer=normal(), name="bias")

    def call(self, scores):
        """Return the scores with both added."""
        tokens = self.window**2
        bias = ops.take(self.bias, _relative_positions(self.window), axis=0)
        scores = scores + ops.transpose(ops.reshape(bias, (tokens, tokens, -1)), (2, 0, 1))
        if any(self.shifts):
            scores = scores + ops.cast(_separation(self.window, self.grid, self.shifts), scores.dtype)
        return scores

    def get_config(self):
        """Return what the layer was made with."""
        return {**super().get_config(), "window": self.window, "grid": self.grid, "shifts": self.shifts}


def _block(x, window, shift, mlp_ratio, drop_path):
    y = _window_attention(layer_norm(x, EPSILON), window, shift)
    x = layers.Add()([x, stochastic_depth(y, drop_path)])
    y = mlp(layer_norm(x, EPSILON), mlp_ratio * x.shape[-1])
    return layers.Add()([x, stochastic_depth(y, drop_path)])


def _window_attention(x, window, shift):
    height, width, features = x.shape[1:]
    rows, columns = -(-height // window), -(-width // window)
    shifts = [shift if count > 1 else 0 for count in (rows, columns)]
    x = _pad(x, rows * window - height, columns * window - width)
    x = _roll(x, [-shift for shift in shifts])
    x = layers.Reshape((rows, window, columns, window, features))(x)
    x = layers.Reshape((rows * columns, window**2, features))(layers.Permute((1, 3, 2, 4, 5))(x))
    bias = WindowBias(window, (rows, columns), shifts, dtype="float32")
    x = self_attention(x, features // HEAD, bias=bias)
    x = layers.Reshape((rows, columns, window, window, features))(x)
    x = layers.Reshape((rows * window, columns * window, features))(layers.Permute((1, 3, 2, 4, 5))(x))
    return _roll(x, shifts)[:, :height, :width]


def _merge(x):
    """Join two by two pixels, column by column as the authors' code does, and halve the features of the result."""
    x = _pad(x, x.shape[1] % 2, x.shape[2] % 2)
    height, width, features = x.shape[1:]
    x = layers.Reshape((height // 2, 2, width // 2, 2, features))(x)
    x = layers.Reshape((height // 2, width // 2, 4 * features))(layers.Permute((1, 3, 4, 2, 5))(x))
    return token_dense(layer_norm(x, EPSILON), 2 * features, use_bias=False)


def _pad(x, bottom, right):
    return layers.ZeroPadding2D(((0, bottom), (0, right)))(x) if bottom or right else x


def _roll(x, shifts):
    return ops.roll(x, tuple(shifts), (1, 2)) if any(shifts) else x


def _relative_positions(window):
    """Return for each pair of a window's tokens which row of the table it has."""
    positions = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij"), -1).reshape(-1, 2)
    rows, columns = np.moveaxis(positions[:, None] - positions[None] + window - 1, -1, 0)
    return (rows * (2 * window - 1) + columns).reshape(-1).astype("int32")


def _separation(window, grid, shifts):
    """Return 0 for each window's pairs of tokens that were neighbours before the roll, else -100."""
    part = np.zeros([count * window for count in grid], "int32")
    for axis, shift in enumerate(shifts):
        after = np.arange(part.shape[axis]) >= part.shape[axis] - shift
        part = 2 * part + (after[:, None] if axis == 0 else after)
    parts = part.reshape(grid[0], window, grid[1], window).swapaxes(1, 2).reshape(-1, window**2)
    apart = parts[:, :, None] != parts[:, None, :]
    return np.where(apart, -100, 0)[:, None].astype("float32")


def _check(window, dim, depths, mlp_ratio):
    require_whole(window=window, mlp_ratio=mlp_ratio)
    if dim < HEAD or dim % HEAD:
        raise ValueError(f"dim must be a multiple of {HEAD}, the features of a head, got {dim}")
    require_depths(depths)
