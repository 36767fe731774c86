"""Which training images are trained on and which are held out for validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.api import Split, Splits
from bench.errors import DataError


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


def divide(splits: Splits, fraction: float, seed: int) -> tuple[Subset, Subset | None]:
    """Return training and validation images: the source's own validation split, or a stratified, seeded share.

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
