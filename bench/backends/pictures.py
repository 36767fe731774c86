"""What a step sees: images drawn from those on the device, normalised, and mixed with each other; and their loss.

All of it is `keras.ops`, so that one text runs on all backends, inside the compiled step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from bench.backends.interface import Task, cross_entropies, cross_entropy
from bench.data.augmentation import Augmentation


class Pictures:
    """Makes a step's images of what a block brings; its constants are on the device."""

    def __init__(self, task: Task) -> None:
        row = task.shape[1:]  # a whole row: TensorFlow is slow at repeating as little as three numbers
        self.scale = ops.convert_to_tensor(np.broadcast_to(np.array(task.normalization.scale, np.float32), row))
        self.offset = ops.convert_to_tensor(np.broadcast_to(np.array(task.normalization.offset, np.float32), row))
        self.how = task.resident.how if task.resident else Augmentation()

    def __call__(self, resident: Any, inputs: Any, mix: Sequence[Any] = ()) -> Any:
        """Return a step's images, normalised: float32 (batch, H, W, C).

        Args:
            resident: all training images uint8 (N, H, W, C) on the device, or None.
            inputs: a step's images uint8 (batch, H, W, C), or, with resident images, its draws (see `Draw`).
            mix: how the images are mixed, a step's three arrays of a `Mix`; nothing where they are not.

        """
        images = inputs if resident is None else drawn(resident, inputs, self.how)
        images = ops.cast(images, "float32") * self.scale + self.offset
        return mixed(images, *mix) if mix else images


def drawn(resident: Any, draw: Sequence[Any], how: Augmentation) -> Any:
    """Return resident images, shifted, mirrored, and with a square blanked: uint8 (batch, H, W, C).

    `shift` and `blank` in `bench.data.augmentation` do the same on the host, to the bit. `draw` holds a step's arrays
    of a `Draw`.
    """
    indices, top, left, flipped, hole = draw
    images = ops.take(resident, indices, axis=0)
    height, width = images.shape[1:3]
    rows, columns = (ops.arange(side, dtype="int32")[None] for side in (height, width))
    across = ops.where(flipped[:, None], width - 1 - columns, columns)
    images = _shifted(images, rows + top[:, None], how.reflect, axis=1)
    images = _shifted(images, across + left[:, None], how.reflect, axis=2)
    if not how.cutout:
        return images
    inside = _inside(rows, columns, hole, hole + how.cutout)
    return ops.where(inside, ops.convert_to_tensor(np.array(how.fill, np.uint8)), images)


def _shifted(images: Any, wanted: Any, reflect: bool, axis: int) -> Any:
    """Take rows (axis 1) or columns (axis 2) at the wanted positions; beyond the edges are reflections or zeros."""
    size = images.shape[axis]
    form = (-1, wanted.shape[1], 1, 1) if axis == 1 else (-1, 1, wanted.shape[1], 1)
    if reflect:
        wanted = ops.abs(wanted)
        wanted = ops.where(wanted < size, wanted, 2 * (size - 1) - wanted)
    taken = ops.take_along_axis(images, ops.reshape(ops.clip(wanted, 0, size - 1), form), axis=axis)
    if reflect:
        return taken
    inside = ops.logical_and(wanted >= 0, wanted < size)
    return ops.where(ops.reshape(inside, form), taken, ops.zeros_like(taken))


def mixed(images: Any, partner: Any, share: Any, box: Any) -> Any:
    """Return images float32 (batch, H, W, C), each averaged with its partner or with a part of it, as `Mix` says."""
    rows, columns = (ops.arange(side, dtype="int32")[None] for side in images.shape[1:3])
    inside = ops.cast(_inside(rows, columns, box[:, :2], box[:, 2:]), "float32")
    empty = ops.logical_or(box[:, 2] <= box[:, 0], box[:, 3] <= box[:, 1])
    own = ops.where(ops.reshape(empty, (-1, 1, 1, 1)), ops.reshape(share, (-1, 1, 1, 1)), 1 - inside)
    return images * own + ops.take(images, partner, axis=0) * (1 - own)


def _inside(rows: Any, columns: Any, first: Any, last: Any) -> Any:
    """Return which pixels lie in each image's box, from its first corner (batch, 2) to before its last: bool."""
    down = ops.logical_and(rows >= first[:, :1], rows < last[:, :1])
    across = ops.logical_and(columns >= first[:, 1:], columns < last[:, 1:])
    return ops.logical_and(down[:, :, None, None], across[:, None, :, None])


def step_loss(logits: Any, labels: Any, mix: Sequence[Any], smoothing: float) -> Any:
    """Return the mean cross-entropy of a step's images, which may be mixed: `mix` is as `Pictures` takes it."""
    if not mix:
        return cross_entropy(logits, labels, smoothing)
    partner, share, _ = mix
    return mixed_cross_entropy(logits, labels, ops.take(labels, partner), share, smoothing)


def mixed_cross_entropy(logits: Any, labels: Any, others: Any, share: Any, smoothing: float) -> Any:
    """Return the mean cross-entropy of mixed images: an image's share of its own label's, the rest of its partner's.

    Args:
        logits: float32 (batch, classes).
        labels: int32 (batch,).
        others: int32 (batch,), the labels of the images that were mixed in.
        share: float32 (batch,), see `Mix`.
        smoothing: as of `cross_entropy`.

    """
    own, other = (cross_entropies(logits, each, smoothing) for each in (labels, others))
    return ops.mean(share * own + (1 - share) * other)
