"""Feeds images to training and evaluation, prepared in a thread while the device computes.

Which images a step sees and how they are augmented is a function of seed, epoch and step alone: it does not depend on
how many steps are put into one block, on threads, or on what ran before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bench.api import ImageShape
from bench.data.images import gather
from bench.data.splits import Subset
from bench.recipes import Recipe

Item = TypeVar("Item")
SHUFFLE_STREAM, AUGMENT_STREAM = 0, 1


@dataclass(frozen=True)
class Block:
    """Several steps' batches: images uint8 (steps, batch, H, W, C), labels int32 (steps, batch)."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]

    @property
    def steps(self) -> int:
        """How many steps the block holds."""
        return len(self.labels)

    @property
    def batch_size(self) -> int:
        """How many images a step has."""
        return len(self.labels[0])

    @property
    def count(self) -> int:
        """How many images the block holds."""
        return self.labels.size


@dataclass(frozen=True)
class TrainingData:
    """The training images of one trial, with how they are drawn."""

    subset: Subset
    shape: ImageShape
    recipe: Recipe
    flip: bool
    seed: int

    def epoch(self, number: int, steps_per_block: int, first_block: int | None = None) -> Iterator[Block]:
        """Yield one epoch's blocks; `first_block` is another number of steps for the first of them."""
        order = _generator(self.seed, SHUFFLE_STREAM, number, 0).permutation(self.subset.indices)
        batch = self.recipe.batch_size
        full = len(order) // batch
        step = 0
        while step < full:
            stop = min(full, step + (first_block or steps_per_block))
            first_block = None
            yield self._block(number, range(step, stop), order[step * batch : stop * batch])
            step = stop
        if not self.recipe.drop_remainder and len(order) > full * batch:
            yield self._block(number, range(full, full + 1), order[full * batch :])

    def _block(self, epoch: int, steps: range, indices: npt.NDArray[np.int64]) -> Block:
        indices = indices.reshape(len(steps), -1)
        images = np.empty((*indices.shape, *self.shape), np.uint8)
        for position, step in enumerate(steps):
            batch = gather(self.subset.split.images, indices[position], self.shape)
            images[position] = self._augment(batch, _generator(self.seed, AUGMENT_STREAM, epoch, step))
        return Block(images, self.subset.split.labels[indices].astype(np.int32))

    def _augment(self, batch: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
        if self.recipe.crop_padding:
            batch = random_crop(batch, self.recipe.crop_padding, random)
        if self.recipe.flip and self.flip:
            flipped = random.random(len(batch)) < 0.5
            batch[flipped] = batch[flipped, :, ::-1]
        return batch


def random_crop(batch: npt.NDArray[np.uint8], padding: float, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return each image shifted on its own by up to `padding` of its height and width, with zeros moving in.

    Args:
        batch: uint8 N×H×W×C.
        padding: fraction of the image's size; at least one pixel.
        random: draws two offsets an image.

    """
    count, height, width, _ = batch.shape
    rows, columns = max(1, round(height * padding)), max(1, round(width * padding))
    padded = np.pad(batch, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top, left = random.integers(0, 2 * rows + 1, count), random.integers(0, 2 * columns + 1, count)
    return np.ascontiguousarray(windows[np.arange(count), top, left].transpose(0, 2, 3, 1))


def batches(subset: Subset, shape: ImageShape, size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield every image exactly once, in order; the last batch may be smaller."""
    for start in range(0, len(subset), size):
        yield gather(subset.split.images, subset.indices[start : start + size], shape)


def prefetch(items: Iterator[Item], depth: int = 2) -> Iterator[Item]:
    """Yield the items while a thread makes the next ones."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="input") as thread:
        pending = deque(thread.submit(next, items, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]


def _generator(seed: int, stream: int, epoch: int, step: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, stream, epoch, step))))
