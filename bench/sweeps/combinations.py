"""From axes and rules to combinations: what the axes span, less what is excluded, and then what is included."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.sweeps.axes import AXES, Axis, read_axis
from bench.sweeps.choices import MOST_COMBINATIONS, Choice, Located, check_recipe
from bench.sweeps.document import Document, Rule, read_document
from bench.sweeps.places import Place
from bench.sweeps.settings import Settings

MOST_SHOWN = 8
Cell = tuple[int, ...]  # a combination: the number of its value on each axis, in the order of `AXES`
Box = Sequence[Sequence[int]]  # what it spans: numbers of values on each axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """What one trial is made from. Plugins are references, as the command line takes them, and not looked up yet."""

    architecture: str
    dataset: str
    recipe: str
    overrides: Mapping[str, Any]
    precision: str
    backend: str
    devices: int
    seed: int
    train_fraction: float


@dataclass(frozen=True)
class Sweep:
    """The combinations in the order in which they are to run, and what the file says of the run."""

    combinations: Sequence[Combination]
    settings: Settings


def make_sweep(file: Path | None, given: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Sweep:
    """Return the sweep that a file and the command line describe together.

    Args:
        file: the sweep file, if there is one.
        given: what the command line says of each axis, by the axis's key and in the values of a sweep file (for
            `seeds` a number or a list); None where it says nothing. It takes the place of the file's list.
        overrides: the command line's, of every recipe.

    Raises:
        UsageError: file or command line are wrong; a rule has no effect; nothing or too much is left.

    """
    document = read_document(file) if file else Document()
    given = {key: value for key, value in given.items() if value is not None}
    pools = {axis.key: _Pool(choice for _, choice in _values(axis, document, given)) for axis in AXES}
    product = [pool.listed for pool in pools.values()]
    included = [_box(rule, pools, given) for rule in document.includes]
    _check_count(document, [product, *included])
    cells = dict.fromkeys(_remaining(product, document, pools))
    for rule, box in zip(document.includes, included, strict=True):
        more = dict.fromkeys(itertools.product(*box))
        if not given and more.keys() <= cells.keys():
            raise rule.place.error("expected combinations that are not there already, but this adds none")
        cells |= more
    if not cells:
        raise Place(document.source).error("expected at least one combination, but [[exclude]] leaves none")
    in_order = sorted(cells, key=lambda cell: cell[:2])  # what is included runs with its data set and seed
    return Sweep(_combinations(in_order, pools, overrides or {}), document.settings)


class _Pool:
    """The values of an axis, numbered: those of its list, and after them those that only an include has."""

    def __init__(self, choices: Iterable[Choice]) -> None:
        self.choices: list[Choice] = []
        self._numbers: dict[Any, int] = {}
        self._by_name: dict[str | int | float, list[int]] = defaultdict(list)
        for choice in choices:
            self._by_name[choice.name].append(self.number(choice))
        self.listed = range(len(self.choices))

    def number(self, choice: Choice) -> int:
        """Return the number of a value, a new one for a new value."""
        number = self._numbers.setdefault(choice.identity, len(self.choices))
        if number == len(self.choices):
            self.choices.append(choice)
        return number

    def covered(self, rule: Choice) -> list[int]:
        """Return the numbers of those values of the list that a rule's value means."""
        return [number for number in self._by_name.get(rule.name, ()) if rule.covers(self.choices[number])]


def _values(axis: Axis, document: Document, given: Mapping[str, Any]) -> Sequence[Located]:
    """Return the list of an axis: the command line's, or else the file's, or else the default."""
    if axis.key not in given and axis.key in document.axes:
        return document.axes[axis.key]
    value = given.get(axis.key, axis.default)
    if value is None:
        where = f"`{axis.key}` in the file, or {axis.option}" if document.source else axis.option
        raise Place(document.source).error(f"expected at least one {axis.title}, got none. Name some: {where}.")
    return read_axis(axis, Place("", axis.option), value)


def _box(rule: Rule, pools: Mapping[str, _Pool], given: Mapping[str, Any]) -> Box:
    """Return what an include spans: the lists, but the rule's values on the axes that it names.

    Where the command line names the axis too, only those values are left that both of them name.
    """
    box = []
    for key, pool in pools.items():
        numbers: Sequence[int] = pool.listed
        if key in rule.values:
            numbers = [pool.number(choice) for _, choice in rule.values[key]]
            numbers = [number for number in numbers if number in pool.listed] if key in given else numbers
        box.append(numbers)
    return box


def _check_count(document: Document, boxes: Sequence[Box]) -> None:
    count = sum(math.prod(map(len, box)) for box in boxes)
    if count > MOST_COMBINATIONS:
        raise Place(document.source).error(f"expected at most {MOST_COMBINATIONS:,} combinations, got {count:,}")


def _remaining(product: Box, document: Document, pools: Mapping[str, _Pool]) -> Iterable[Cell]:
    """Return what the axes span, less what an exclude covers."""
    own = {**pools, **{key: _Pool(choice for _, choice in values) for key, values in document.axes.items()}}
    for rule in document.excludes:
        _check_effect(rule, own)
    excluded = [
        {
            number: {covered for _, choice in rule.values[key] for covered in pool.covered(choice)}
            for number, (key, pool) in enumerate(pools.items())
            if key in rule.values
        }
        for rule in document.excludes
    ]
    for cell in itertools.product(*product):
        if not any(all(cell[axis] in covered for axis, covered in rule.items()) for rule in excluded):
            yield cell


def _check_effect(rule: Rule, own: Mapping[str, _Pool]) -> None:
    """Raise `UsageError` for a value that the file's own axis has not. What the command line leaves out is no error."""
    for axis in AXES:
        pool = own[axis.key]
        for place, choice in rule.values.get(axis.key, ()):
            if not pool.covered(choice):
                labels = [pool.choices[number].label for number in pool.listed[:MOST_SHOWN]]
                there = ", ".join([*labels, *(["..."] if len(pool.listed) > MOST_SHOWN else [])])
                raise place.error(f"expected a value that `{axis.key}` has ({there}), got {choice.shown}")


def _combinations(cells: Iterable[Cell], pools: Mapping[str, _Pool], overrides: Mapping[str, Any]) -> list[Combination]:
    """Return the combinations that the cells stand for, each once: with overrides, two recipes may become one."""
    choices = {key: pool.choices for key, pool in pools.items()}
    if overrides:
        choices["recipes"] = [_overridden(choice, overrides) for choice in choices["recipes"]]
        same = _Pool(choices["recipes"])
        choices["recipes"], numbers = same.choices, [same.number(choice) for choice in choices["recipes"]]
        at = list(choices).index("recipes")
        cells = dict.fromkeys((*cell[:at], numbers[cell[at]], *cell[at + 1 :]) for cell in cells)
    parts = [[axis.fields(choice) for choice in choices[axis.key]] for axis in AXES]
    return [_combination([part[number] for part, number in zip(parts, cell, strict=True)]) for cell in cells]


def _combination(parts: Iterable[Mapping[str, Any]]) -> Combination:
    fields: dict[str, Any] = {}
    for part in parts:
        fields |= part
    return Combination(**fields)


def _overridden(choice: Choice, overrides: Mapping[str, Any]) -> Choice:
    changed = Choice(choice.name, {**choice.parameters, **overrides})
    check_recipe(Place("", f"recipe {choice.label}, changed by the command line"), changed)
    return changed
