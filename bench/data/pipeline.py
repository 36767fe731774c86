"""Feeds images to training and evaluation, prepared in a thread while the device computes.

Which images a step sees and how they are augmented is a function of seed, epoch and step alone: it does not depend on
how many steps are put into one block, on threads, or on what ran before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bench.api import ImageShape
from bench.data.augmentation import Allowed, Augmentation, blank, plan_augmentation, resize_parts, shift
from bench.data.draws import (
    PARTS,
    SHIFT_AND_MIRROR,
    SHUFFLE,
    Draw,
    Mix,
    Moment,
    draw_first_mirrored,
    draw_holes,
    draw_mirrored,
    draw_mix,
    draw_operations,
    draw_step,
    together,
)
from bench.data.images import gather
from bench.data.jpeg import LEAST_AREA, JpegImages, Views, draw_boxes, random_boxes
from bench.data.randaugment import rand_augment
from bench.data.splits import Subset
from bench.data.views import centre_batches, decode_views
from bench.recipes import Recipe

Item = TypeVar("Item")
PREFETCHED_BLOCKS = 2


@dataclass(frozen=True)
class Block:
    """Several steps' batches.

    Attributes:
        inputs: images uint8 (steps, batch, H, W, C), or what to draw of the images that live on the device.
        labels: int32 (steps, batch).
        mix: how images and labels are mixed in the step, where the recipe mixes them.

    """

    inputs: npt.NDArray[np.uint8] | Draw
    labels: npt.NDArray[np.int32]
    mix: Mix | None = None

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
    """All images of the training split, uint8 (N, H, W, C), for a device that keeps them, and augments them so."""

    images: npt.NDArray[np.uint8]
    how: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class TrainingData:
    """The training images of one trial, with how they are drawn.

    With `resident`, blocks hold draws, and the device makes the images; else they hold the images.

    Attributes:
        subset: the images to train on.
        shape: of each image.
        recipe: how they are shuffled, put into batches and augmented.
        allowed: which augmentations leave their labels as they are.
        seed: of all draws.
        resident: whether the images live on the device.
        mean: the channels' means, of pixel values / 255, with which cutout fills; black where it is empty.

    """

    subset: Subset
    shape: ImageShape
    recipe: Recipe
    allowed: Allowed
    seed: int
    resident: bool = False
    mean: tuple[float, ...] = ()

    @cached_property
    def how(self) -> Augmentation:
        """How images are augmented.

        Raises:
            DataError: the recipe cannot augment images of these channels.

        """
        return plan_augmentation(self.recipe, self.allowed, self.shape, self.mean)

    @cached_property
    def _first_mirrored(self) -> npt.NDArray[np.bool_]:
        return draw_first_mirrored(self.seed, len(self.subset.split))

    def residents(self) -> Resident | None:
        """Return the images that are to live on the device, if they are."""
        return Resident(np.asarray(self.subset.split.images), self.how) if self.resident else None

    def epoch(
        self,
        number: int,
        steps_per_block: int,
        first_block: int | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[Block]:
        """Yield one epoch's blocks from a step on; `first_block` is another number of steps for the first of them.

        The epoch ends before the step `stop`, where that is given.

        Where fewer steps are left than make a block, they come one by one: no new shape has to be compiled for them.
        """
        parts, images = self._parts(number, steps_per_block, first_block, start, stop), self.subset.split.images
        if isinstance(images, JpegImages):
            yield from self._decoded(number, images, list(parts))
        else:
            yield from (self._block(number, steps, indices) for steps, indices in parts)

    def _parts(
        self, number: int, steps_per_block: int, first_block: int | None, start: int, stop: int | None
    ) -> Iterator[tuple[range, npt.NDArray[np.int64]]]:
        """Yield each block's steps, and the positions of its images: (steps, batch)."""
        order = Moment(self.seed, number).random(SHUFFLE).permutation(self.subset.indices)
        batch = self.recipe.batch_size
        full = len(order) // batch
        last = full if stop is None else min(stop, full)
        step = start
        while step < last:
            wanted = first_block or steps_per_block
            end = step + (wanted if step + wanted <= last else 1)
            first_block = None
            yield range(step, end), order[step * batch : end * batch].reshape(end - step, batch)
            step = end
        remains = not self.recipe.drop_remainder and len(order) > full * batch
        if remains and start <= full and (stop is None or stop > full):
            yield range(full, full + 1), order[np.newaxis, full * batch :]

    def _block(self, epoch: int, steps: range, indices: npt.NDArray[np.int64]) -> Block:
        moments = self._moments(epoch, steps)
        drawn = zip(moments, indices, strict=True)
        draw = together([draw_step(self.how, moment, self.shape, row, self._first_mirrored) for moment, row in drawn])
        return self._labelled(moments, indices, draw if self.resident else self._images(moments, draw))

    def _labelled(
        self, moments: list[Moment], indices: npt.NDArray[np.int64], inputs: npt.NDArray[np.uint8] | Draw
    ) -> Block:
        labels, mixes = self.subset.split.labels[indices].astype(np.int32), None
        if self.how.mixup or self.how.cutmix:
            mixes = together([draw_mix(self.how, moment, self.shape, indices.shape[1]) for moment in moments])
        return Block(inputs, labels, mixes)

    def _images(self, moments: list[Moment], draw: Draw) -> npt.NDArray[np.uint8]:
        images = np.empty((*draw.indices.shape, *self.shape), np.uint8)
        for step, (moment, target) in enumerate(zip(moments, images, strict=True)):
            batch = gather(self.subset.split.images, draw.indices[step], self.shape)
            shift(batch, draw.top[step], draw.left[step], draw.flipped[step], reflect=self.how.reflect, out=target)
            if self.how.resized_crop:
                sizes = np.tile(self.shape[:2], (len(target), 1))
                resize_parts(target, random_boxes(sizes, moment.random(PARTS), self.how.resized_crop))
            self._alter(moment, target, draw.hole[step])
        return images

    def _alter(self, moment: Moment, images: npt.NDArray[np.uint8], hole: npt.NDArray[np.int32]) -> None:
        """Apply in place, to the images of a step, what comes after crops and mirroring."""
        if self.how.rand_augment:
            rand_augment(images, self.how.operations, *draw_operations(self.how, moment, len(images)))
        if self.how.cutout:
            blank(images, hole, self.how.cutout, self.how.fill)

    def _decoded(
        self, epoch: int, images: JpegImages, parts: list[tuple[range, npt.NDArray[np.int64]]]
    ) -> Iterator[Block]:
        """Yield the blocks of an epoch over stored JPEGs, which all go through one pipeline."""
        views = (
            self._views(images, moment, positions)
            for steps, rows in parts
            for moment, positions in zip(self._moments(epoch, steps), rows, strict=True)
        )
        pixels = decode_views(images, views, self.recipe.batch_size, self.shape)
        for steps, rows in parts:
            moments, block = self._moments(epoch, steps), np.empty((*rows.shape, *self.shape), np.uint8)
            for moment, target in zip(moments, block, strict=True):
                target[:] = next(pixels)
                self._alter(moment, target, draw_holes(self.how, moment, self.shape, len(target)))
            yield self._labelled(moments, rows, block)

    def _views(self, images: JpegImages, moment: Moment, positions: npt.NDArray[np.int64]) -> Views:
        """Draw which part of each image is seen; with `crop_padding` alone, as much of it as usual."""
        random = moment.random(SHIFT_AND_MIRROR)
        least_area = self.how.resized_crop or (LEAST_AREA if self.how.rows else 0.0)
        boxes = draw_boxes(images, positions, self.shape, random, least_area)
        return Views(positions, boxes, draw_mirrored(self.how, moment, positions, self._first_mirrored, random))

    def _moments(self, epoch: int, steps: range) -> list[Moment]:
        return [Moment(self.seed, epoch, step) for step in steps]


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
