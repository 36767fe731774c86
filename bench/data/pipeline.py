"""Feeds images to training and evaluation, prepared in a thread while the device computes.

Which images a step sees and how they are augmented is a function of seed, epoch and step alone: it does not depend on
how many steps are put into one block, on threads, or on what ran before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bench.api import ImageShape
from bench.data.images import gather
from bench.data.jpeg import JpegImages, draw_views
from bench.data.splits import Subset
from bench.data.views import centre_batches, decode_views
from bench.recipes import Recipe

Item = TypeVar("Item")
SHUFFLE_STREAM, AUGMENT_STREAM = 0, 1
PREFETCHED_BLOCKS = 2


@dataclass(frozen=True)
class Draw:
    """Which images the steps of a block see, and how each is shifted and mirrored; all of shape (steps, batch).

    Attributes:
        indices: int32, positions in the split.
        top: int32, pixels by which the content moves up (down where negative), with zeros moving in.
        left: int32, likewise to the left; the shift comes before the mirroring.
        flipped: bool, whether the image is mirrored.

    """

    indices: npt.NDArray[np.int32]
    top: npt.NDArray[np.int32]
    left: npt.NDArray[np.int32]
    flipped: npt.NDArray[np.bool_]

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """Return the four arrays."""
        return self.indices, self.top, self.left, self.flipped


@dataclass(frozen=True)
class Block:
    """Several steps' batches.

    Attributes:
        inputs: images uint8 (steps, batch, H, W, C), or what to draw of the images that live on the device.
        labels: int32 (steps, batch).

    """

    inputs: npt.NDArray[np.uint8] | Draw
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
class Resident:
    """All images of the training split, uint8 (N, H, W, C), for a device that keeps them."""

    images: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingData:
    """The training images of one trial, with how they are drawn.

    With `resident`, blocks hold draws, and the device makes the images; else they hold the images.
    """

    subset: Subset
    shape: ImageShape
    recipe: Recipe
    flip: bool
    seed: int
    resident: bool = False

    def epoch(
        self, number: int, steps_per_block: int, first_block: int | None = None, start: int = 0
    ) -> Iterator[Block]:
        """Yield one epoch's blocks from a step on; `first_block` is another number of steps for the first of them.

        Where fewer steps are left than make a block, they come one by one: no new shape has to be compiled for them.
        """
        parts, images = self._parts(number, steps_per_block, first_block, start), self.subset.split.images
        if isinstance(images, JpegImages):
            yield from self._decoded(number, images, list(parts))
        else:
            yield from (self._block(number, steps, indices) for steps, indices in parts)

    def _parts(
        self, number: int, steps_per_block: int, first_block: int | None, start: int
    ) -> Iterator[tuple[range, npt.NDArray[np.int64]]]:
        """Yield each block's steps, and the positions of its images: (steps, batch)."""
        order = _generator(self.seed, SHUFFLE_STREAM, number, 0).permutation(self.subset.indices)
        batch = self.recipe.batch_size
        full = len(order) // batch
        step = start
        while step < full:
            wanted = first_block or steps_per_block
            stop = step + (wanted if step + wanted <= full else 1)
            first_block = None
            yield range(step, stop), order[step * batch : stop * batch].reshape(stop - step, batch)
            step = stop
        if not self.recipe.drop_remainder and len(order) > full * batch and start <= full:
            yield range(full, full + 1), order[np.newaxis, full * batch :]

    def _block(self, epoch: int, steps: range, indices: npt.NDArray[np.int64]) -> Block:
        draw = self._draw(epoch, steps, indices)
        labels = self.subset.split.labels[draw.indices].astype(np.int32)
        return Block(draw if self.resident else self._images(draw), labels)

    def _draw(self, epoch: int, steps: range, indices: npt.NDArray[np.int64]) -> Draw:
        rows, columns = self._padding()
        top, left = np.zeros(indices.shape, np.int32), np.zeros(indices.shape, np.int32)
        flipped = np.zeros(indices.shape, np.bool_)
        for position, step in enumerate(steps):
            random, count = _generator(self.seed, AUGMENT_STREAM, epoch, step), indices.shape[1]
            if rows:
                top[position] = random.integers(-rows, rows + 1, count)
                left[position] = random.integers(-columns, columns + 1, count)
            if self.recipe.flip and self.flip:
                flipped[position] = random.random(count) < 0.5
        return Draw(indices.astype(np.int32), top, left, flipped)

    def _decoded(
        self, epoch: int, images: JpegImages, parts: list[tuple[range, npt.NDArray[np.int64]]]
    ) -> Iterator[Block]:
        """Yield the blocks of an epoch over stored JPEGs, which all go through one pipeline."""
        crop, flip = self.recipe.crop_padding > 0, self.recipe.flip and self.flip
        steps = ((step, positions) for steps, rows in parts for step, positions in zip(steps, rows, strict=True))
        views = (
            draw_views(
                images, positions, self.shape, _generator(self.seed, AUGMENT_STREAM, epoch, step), crop=crop, flip=flip
            )
            for step, positions in steps
        )
        pixels = decode_views(images, views, self.recipe.batch_size, self.shape)
        for _, rows in parts:
            block = np.empty((*rows.shape, *self.shape), np.uint8)
            for target in block:
                target[:] = next(pixels)
            yield Block(block, self.subset.split.labels[rows].astype(np.int32))

    def _padding(self) -> tuple[int, int]:
        """Return the greatest shift in rows and columns: at least one pixel, where the recipe shifts."""
        padding, (height, width, _) = self.recipe.crop_padding, self.shape
        return (max(1, round(height * padding)), max(1, round(width * padding))) if padding else (0, 0)

    def _images(self, draw: Draw) -> npt.NDArray[np.uint8]:
        images = np.empty((*draw.indices.shape, *self.shape), np.uint8)
        for step, indices in enumerate(draw.indices):
            batch = gather(self.subset.split.images, indices, self.shape)
            augment(batch, draw.top[step], draw.left[step], draw.flipped[step], out=images[step])
        return images


def augment(
    batch: npt.NDArray[np.uint8],
    top: npt.NDArray[np.int32],
    left: npt.NDArray[np.int32],
    flipped: npt.NDArray[np.bool_],
    out: npt.NDArray[np.uint8],
) -> None:
    """Write each image of a batch (N, H, W, C), shifted with zeros moving in and mirrored as `Draw` says, into `out`.

    `bench.backends.interface.drawn` does the same on the device, to the bit.
    """
    if not (top.any() or left.any() or flipped.any()):
        out[:] = batch
        return
    out[:] = 0
    _, height, width, _ = batch.shape
    shifts = zip(batch, out, top.tolist(), left.tolist(), flipped.tolist(), strict=True)
    for image, target, down, right, mirrored in shifts:  # a slice an image: nothing larger than the batch is made
        rows, columns = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
        aim = target[:, ::-1] if mirrored else target
        aim[rows, columns] = image[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]


def batches(subset: Subset, shape: ImageShape, size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield every image exactly once, in order; the last batch may be smaller."""
    images = subset.split.images
    if isinstance(images, JpegImages):
        yield from centre_batches(images, subset.indices, size, shape)
        return
    for start in range(0, len(subset), size):
        yield gather(images, subset.indices[start : start + size], shape)


def prefetch(items: Iterator[Item], depth: int = PREFETCHED_BLOCKS) -> Iterator[Item]:
    """Yield the items while a thread makes the next ones."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="input") as thread:
        pending = deque(thread.submit(next, items, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]


def _generator(seed: int, stream: int, epoch: int, step: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, stream, epoch, step))))
