"""Data sets that a trained model is evaluated on besides its own, and whether they fit what it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.api import Splits, TestSets
from bench.errors import UsageError
from bench.plugins import PluginChoice

if TYPE_CHECKING:
    from bench.data.cache import DataInfo


def test_sets_of(opened: Splits | TestSets) -> TestSets:
    """Return what of a data set is evaluated on: its sets, or of one that is also trained on, its test images."""
    if isinstance(opened, TestSets):
        return opened
    return TestSets(sets={"test": opened.test}, class_names=opened.class_names)


test_sets_of.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name for its own


def require_trainable(choice: PluginChoice) -> None:
    """Raise `UsageError` for a data set that has nothing to train on."""
    if choice.plugin.info.evaluation_only:
        raise UsageError(
            f"data set {choice.label} has no training images: it is only evaluated on. Name another one with "
            f"--dataset, and this one with --evaluate-also {choice.label}"
        )


def require_fit(label: str, info: DataInfo, trained: str, trained_info: DataInfo) -> None:
    """Hold a data set that is evaluated on against the one that was trained on.

    Args:
        label: of the data set that is evaluated on.
        info: what it is.
        trained: label of the data set that is trained on.
        trained_info: what that is.

    Raises:
        UsageError: classes, their order, or the images' shape differ; says how.

    """
    if info.class_names != trained_info.class_names:
        raise UsageError(
            f"--evaluate-also {label} does not fit {trained}: its classes must be the same, in the same order. "
            f"{_difference(info.class_names, trained_info.class_names)}"
        )
    if info.image_shape != trained_info.image_shape:
        found, expected = ("×".join(map(str, shape)) for shape in (info.image_shape, trained_info.image_shape))
        raise UsageError(
            f"--evaluate-also {label} does not fit {trained}: its images are {found}, expected {expected} (height, "
            "width, channels). Some data sets have a parameter for that: size=..."
        )


def _difference(found: Sequence[str], expected: Sequence[str]) -> str:
    if len(found) != len(expected):
        return f"It has {len(found)} classes, expected {len(expected)}."
    number = next(number for number, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
    return f"Class {number} is {found[number]!r}, expected {expected[number]!r}."
