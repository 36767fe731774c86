"""What is drawn for the images of a step: how each is shifted, mirrored, blanked and mixed with another.

All of it is a function of seed, epoch and step alone. Each kind of draw has a stream of its own, so that switching one
augmentation on or off leaves the draws of the others as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bench.api import ImageShape
from bench.data.augmentation import Augmentation

Arrays = TypeVar("Arrays", "Draw", "Mix")
SHUFFLE, SHIFT_AND_MIRROR, FIRST_MIRRORED, HOLES, MIXES, PARTS, OPERATIONS = range(7)  # streams: their numbers stay


@dataclass(frozen=True)
class Moment:
    """A step of a training, which decides what is drawn for it."""

    seed: int
    epoch: int
    step: int = 0

    def random(self, stream: int) -> np.random.Generator:
        """Return a generator of one of the streams."""
        entropy = np.random.SeedSequence((self.seed, stream, self.epoch, self.step))
        return np.random.Generator(np.random.Philox(entropy))


@dataclass(frozen=True)
class Draw:
    """Which images the steps of a block see, and how they are augmented; (steps, batch), or (batch,) for one step.

    Attributes:
        indices: int32, positions in the split.
        top: int32, pixels by which the content moves up (down where negative); what moves in is the recipe's to say.
        left: int32, likewise to the left; the shift comes before the mirroring.
        flipped: bool, whether the image is mirrored.
        hole: int32 (..., 2), top and left of the square that is blanked at last, also beyond the edges.

    """

    indices: npt.NDArray[np.int32]
    top: npt.NDArray[np.int32]
    left: npt.NDArray[np.int32]
    flipped: npt.NDArray[np.bool_]
    hole: npt.NDArray[np.int32]

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """Return the five arrays."""
        return self.indices, self.top, self.left, self.flipped, self.hole


@dataclass(frozen=True)
class Mix:
    """How the images of a batch are mixed with each other: (steps, batch), or (batch,) for one step.

    Attributes:
        partner: int32, position in the batch of the image that is mixed in: a permutation.
        share: float32, of an image's own label in its loss; the rest is its partner's.
        box: int32 (..., 4), top, left, bottom and right of the part that shows the partner (cutmix); where it is empty,
            the images are averaged by their shares (mixup).

    """

    partner: npt.NDArray[np.int32]
    share: npt.NDArray[np.float32]
    box: npt.NDArray[np.int32]

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """Return the three arrays."""
        return self.partner, self.share, self.box


def together(steps: Sequence[Arrays]) -> Arrays:
    """Return the draws of several steps as one, with steps as the first axis."""
    arrays = zip(*(each.arrays() for each in steps), strict=True)
    return type(steps[0])(*map(np.stack, arrays))


def draw_step(
    how: Augmentation,
    moment: Moment,
    shape: ImageShape,
    indices: npt.NDArray[np.integer],
    first_mirrored: npt.NDArray[np.bool_],
) -> Draw:
    """Draw how the images at these positions are augmented in a step."""
    count, random = len(indices), moment.random(SHIFT_AND_MIRROR)
    top, left = np.zeros(count, np.int32), np.zeros(count, np.int32)
    if how.rows or how.columns:
        top[:] = random.integers(-how.rows, how.rows + 1, count)
        left[:] = random.integers(-how.columns, how.columns + 1, count)
    flipped = draw_mirrored(how, moment, indices, first_mirrored, random)
    return Draw(indices.astype(np.int32), top, left, flipped, draw_holes(how, moment, shape, count))


def draw_first_mirrored(seed: int, images: int) -> npt.NDArray[np.bool_]:
    """Draw which images of a split are mirrored in the first epoch, where that alternates."""
    return np.asarray(Moment(seed, epoch=0).random(FIRST_MIRRORED).random(images) < 0.5)


def draw_mirrored(
    how: Augmentation,
    moment: Moment,
    indices: npt.NDArray[np.integer],
    first_mirrored: npt.NDArray[np.bool_],
    random: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Draw which images are mirrored: half of them, at random, or those that were not in the epoch before."""
    if not how.flip:
        return np.zeros(len(indices), np.bool_)
    if how.alternates:
        return np.asarray(first_mirrored[indices] ^ bool(moment.epoch % 2))
    return np.asarray(random.random(len(indices)) < 0.5)


def draw_holes(how: Augmentation, moment: Moment, shape: ImageShape, count: int) -> npt.NDArray[np.int32]:
    """Draw the squares of cutout, centred on any pixel (DeVries and Taylor 2017): their tops and lefts, (count, 2)."""
    if not how.cutout:
        return np.zeros((count, 2), np.int32)
    centres = moment.random(HOLES).integers((0, 0), shape[:2], (count, 2))
    return (centres - how.cutout // 2).astype(np.int32)


def draw_operations(
    how: Augmentation, moment: Moment, count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Draw RandAugment's operations, and their strengths, of either sign: each (count, operations an image)."""
    random, size = moment.random(OPERATIONS), (count, how.rand_augment)
    chosen = random.integers(0, len(how.operations), size)
    return chosen, np.where(random.random(size) < 0.5, -how.magnitude, how.magnitude)


def draw_mix(how: Augmentation, moment: Moment, shape: ImageShape, count: int) -> Mix:
    """Draw how a batch is mixed: by mixup or by cutmix; where there are both, one of them for the batch, evenly.

    Mixup's share is drawn from Beta(alpha, alpha) (Zhang et al. 2018). Cutmix draws the share that is left likewise,
    and the centre of the box uniformly; what lies beyond the edges is cut off, and does not count (Yun et al. 2019).
    """
    random = moment.random(MIXES)
    partner = random.permutation(count).astype(np.int32)
    cut = random.random() < 0.5 if how.mixup and how.cutmix else bool(how.cutmix)
    alpha = how.cutmix if cut else how.mixup
    share = random.beta(alpha, alpha, count)
    if not cut:
        return Mix(partner, share.astype(np.float32), np.zeros((count, 4), np.int32))
    box = _boxes(share, shape, random)
    area = (box[:, 2:] - box[:, :2]).prod(axis=1)
    return Mix(partner, (1 - area / (shape[0] * shape[1])).astype(np.float32), box)


def _boxes(share: npt.NDArray[np.float64], shape: ImageShape, random: np.random.Generator) -> npt.NDArray[np.int32]:
    """Draw boxes that leave so much of the image, as long as they lie within: top, left, bottom, right."""
    sides = np.array(shape[:2])
    half = (sides * np.sqrt(1 - share)[:, None]).astype(np.int64) // 2
    centre = random.integers((0, 0), sides, (len(share), 2))
    corners = np.clip(np.concatenate([centre - half, centre + half], axis=1), 0, np.tile(sides, 2))
    return np.asarray(corners, np.int32)
