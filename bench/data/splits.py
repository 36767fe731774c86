"""Which training images are trained on and which are held out for validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.api import Split, Splits
from bench.errors import DataError

PART_STREAM = 7  # of random numbers, apart from those of the pipeline


@dataclass(frozen=True)
class Subset:
    """Some of a split's images, by position."""

    split: Split
    indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)


def everything(split: Split) -> Subset:
    """Return all images of a split."""
    return Subset(split, np.arange(len(split)))


def held_out(counts: Mapping[str, int], fraction: float) -> int:
    """Return how many training images are carved off for validation."""
    return 0 if "validation" in counts else math.ceil(counts["train"] * fraction)


def trained_images(counts: Mapping[str, int], fraction: float, train_fraction: float = 1.0) -> int:
    """Return how many images are trained on at least: where only a part is, each class may have one more."""
    return _ceil((counts["train"] - held_out(counts, fraction)) * train_fraction)


def divide(splits: Splits, fraction: float, seed: int, train_fraction: float = 1.0) -> tuple[Subset, Subset | None]:
    """Return training and validation images: the source's own validation split, or a stratified, seeded share.

    Of both only a part is used where `train_fraction` is below 1; the source's own validation split is used whole.

    Raises:
        DataError: a class has too few images to be in both.

    """
    training, validation = _divide(splits, fraction, seed)
    if train_fraction == 1:
        return training, validation
    if validation is not None and splits.validation is None:
        validation = part(validation, train_fraction, seed)
    return part(training, train_fraction, seed), validation


def part(subset: Subset, fraction: float, seed: int) -> Subset:
    """Return that fraction of each class, at least one image: of two fractions the smaller lies within the larger."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, PART_STREAM))))
    shuffled = random.permutation(subset.indices)
    labels = subset.split.labels[shuffled]
    kept = [shuffled[labels == label] for label in np.unique(labels)]
    chosen = [each[: max(1, _ceil(fraction * len(each)))] for each in kept]  # no fewer than `trained_images`
    return Subset(subset.split, np.sort(np.concatenate(chosen)))


def _ceil(number: float) -> int:
    return math.ceil(round(number, 6))  # 0.07 of 100 are 7.000000000000001


def _divide(splits: Splits, fraction: float, seed: int) -> tuple[Subset, Subset | None]:
    """Return all training and validation images.

    Raises:
        DataError: a class has too few images to be in both.

    """
    if fraction == 0:
        return everything(splits.train), None
    if splits.validation is not None:
        return everything(splits.train), everything(splits.validation)
    from sklearn.model_selection import train_test_split

    size = held_out({"train": len(splits.train)}, fraction)
    try:
        train, validation = train_test_split(
            np.arange(len(splits.train)), test_size=size, stratify=splits.train.labels, random_state=seed
        )
    except ValueError as error:
        raise DataError(
            f"{fraction:g} of {len(splits.train)} training images cannot be held out evenly over "
            f"{len(splits.class_names)} classes: {error} Set validation_fraction to 0 or to a larger share."
        ) from error
    return Subset(splits.train, np.sort(train)), Subset(splits.train, np.sort(validation))
