"""The axes of a sweep. A further axis of a trial is one more entry in `AXES`, and one more field of `Combination`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.environment import BACKENDS, PRECISIONS
from bench.sweeps.choices import (
    MOST_COMBINATIONS,
    Choice,
    Located,
    Reader,
    read_fractions,
    read_names,
    read_numbers,
    read_plugins,
    read_recipes,
    read_seeds,
)
from bench.sweeps.places import Place


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a sweep.

    Attributes:
        key: its name in a sweep file.
        title: what one of its values is called.
        option: of the command line.
        read: yields the values that a list, or a single value, stands for.
        fields: what one value sets in a `Combination`.
        default: what the axis is where nobody names it; None where somebody has to.

    """

    key: str
    title: str
    option: str
    read: Reader
    fields: Callable[[Choice], Mapping[str, Any]]
    default: Any = None


def _sets(name: str) -> Callable[[Choice], Mapping[str, Any]]:
    return lambda choice: {name: choice.name}


# The order is that of the combinations: the last axis varies first, as in nested loops. So a sweep that is cut off has
# compared all architectures already, and one data set is in use at a time.
AXES = (
    Axis(
        key="datasets",
        title="data set",
        option="--dataset",
        read=read_plugins,
        fields=lambda choice: {"dataset": choice.label},
    ),
    Axis(key="seeds", title="seed", option="--seeds", read=read_seeds, fields=_sets("seed"), default=1),
    Axis(
        key="recipes",
        title="recipe",
        option="--recipe",
        read=read_recipes,
        fields=lambda choice: {"recipe": choice.name, "overrides": choice.parameters},
        default="standard",
    ),
    Axis(
        key="precisions",
        title="precision",
        option="--precision",
        read=read_names("precision", PRECISIONS),
        fields=_sets("precision"),
        default="auto",
    ),
    Axis(
        key="backends",
        title="backend",
        option="--backend",
        read=read_names("backend", BACKENDS),
        fields=_sets("backend"),
        default="tensorflow",
    ),
    Axis(
        key="devices",
        title="number of devices",
        option="--devices",
        read=read_numbers,
        fields=_sets("devices"),
        default=1,
    ),
    Axis(
        key="train_fractions",
        title="fraction of the training images",
        option="--train-fraction",
        read=read_fractions,
        fields=_sets("train_fraction"),
        default=1,
    ),
    Axis(
        key="architectures",
        title="architecture",
        option="--arch",
        read=read_plugins,
        fields=lambda choice: {"architecture": choice.label},
    ),
)


def read_axis(axis: Axis, place: Place, value: Any) -> list[Located]:
    """Return the values that stand here, each with its place; on the command line repeated ones count once.

    Raises:
        UsageError: a value is wrong, or repeated in a file; there is none, or there are too many.

    """
    found: dict[Any, Located] = {}
    for where, choice in axis.read(place, value):
        if choice.identity not in found:
            found[choice.identity] = (where, choice)
        elif where.source:
            raise where.error(f"expected each {axis.title} once, got {choice.shown} again")
        if len(found) > MOST_COMBINATIONS:
            raise place.error(f"expected at most {MOST_COMBINATIONS:,} values, got more")
    return list(found.values())
