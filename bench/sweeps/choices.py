"""The values of axes, and how each is read: names, numbers, seeds, and references with their parameters."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.errors import UsageError, unknown_name
from bench.literals import NAMES, expanded, format_reference, split_reference
from bench.recipes import CHOICES, KEYS, OWN, RANGES, RECIPES, resolve_recipe
from bench.sweeps.places import WHOLE_NUMBERS, Place, shown, text_at, whole_number

MOST_COMBINATIONS = 1_000_000
LARGEST_SEED = 2**32 - 1  # NumPy's
PLUGIN_NAME = re.compile(r"[^\s:,]+")
PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DEEPEST = 4  # lists in lists, as the value of a parameter
OVERRIDES = {key: type(getattr(RECIPES["standard"], key)) for key in KEYS if key != "groups"}
PLAIN = "a parameter's value (true, false, a finite number, a text or a list)"
REFERENCE = 'a reference ("net", "net:depth=56" or { name = "net", depth = 56 })'


@dataclass(frozen=True)
class Choice:
    """One value of an axis: a name or number, with the parameters that were given to it."""

    name: str | int | float
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The value as the command line takes it."""
        return format_reference(str(self.name), self.parameters, {}, argument="")

    @property
    def shown(self) -> str:
        """The value as a message shows it."""
        return shown(self.label if isinstance(self.name, str) else self.name)

    @cached_property
    def identity(self) -> tuple[str | int | float, frozenset[tuple[str, str]]]:
        """What is the same for two values that mean the same, however they were written (1 and 1.0, say)."""
        facts = ((key, json.dumps(_canonical(value))) for key, value in self.parameters.items())
        return self.name, frozenset(facts)

    def covers(self, other: Choice) -> bool:
        """Return whether this value in a rule means the other: its name, with all parameters that are given here."""
        return self.name == other.name and self.identity[1] <= other.identity[1]


Located = tuple[Place, Choice]
Reader = Callable[[Place, Any], Iterator[Located]]
Check = Callable[[Place, str, str, Any], None]


def read_names(title: str, names: Iterable[str]) -> Reader:
    """Return the reader of one of these names, or of a list of them."""
    available = tuple(names)

    def read(place: Place, value: Any) -> Iterator[Located]:
        for where, item in place.items(value):
            if not isinstance(item, str):
                raise where.expected(f"one of {', '.join(available)}", item)
            if item not in available:
                raise where.error(str(unknown_name(title, item, available)))
            yield where, Choice(item)

    return read


def read_numbers(place: Place, value: Any) -> Iterator[Located]:
    """Yield a whole number of at least 1, or a list of them."""
    for where, item in place.items(value):
        yield where, Choice(whole_number(where, item, 1))


def read_fractions(place: Place, value: Any) -> Iterator[Located]:
    """Yield a number above 0 and up to 1, or a list of them."""
    for where, item in place.items(value):
        if type(item) not in (int, float) or not 0 < item <= 1:
            raise where.expected("a fraction above 0 and up to 1", item)
        yield where, Choice(float(item))


def read_seeds(place: Place, value: Any) -> Iterator[Located]:
    """Yield the seeds of a list, or as many seeds as a number says, from 0."""
    if isinstance(value, list):
        for where, item in place.items(value):
            yield where, Choice(whole_number(where, item, 0, LARGEST_SEED))
        return
    what = f"a number of seeds from 1 to {MOST_COMBINATIONS:,}, or a list of seeds"
    for seed in range(whole_number(place, value, 1, MOST_COMBINATIONS, what)):
        yield place, Choice(seed)


def read_plugins(place: Place, value: Any) -> Iterator[Located]:
    """Yield references to plugins, which are not looked up."""
    return _references(place, value, _check_plugin, lambda *_: None)


def read_recipes(place: Place, value: Any) -> Iterator[Located]:
    """Yield references to recipes, each held against what recipes there are; files' paths are relative to a sweep's."""
    folder = Path(place.source).parent if place.source else Path()
    for where, choice in _references(place, value, _check_override, lambda *_: None):
        name = str(choice.name)
        try:
            found = Choice(str(folder / expanded(name)) if name.endswith(".toml") else name, choice.parameters)
        except UsageError as error:
            raise where.error(str(error)) from None
        check_recipe(where, found)
        yield where, found


def check_recipe(place: Place, choice: Choice) -> None:
    """Raise `UsageError` where there is no such recipe, or its overrides do not go together.

    What goes together with an architecture's own recipe shows when it is resolved with the architecture at hand.
    """
    if choice.name == OWN:
        return
    try:
        resolve_recipe(str(choice.name), choice.parameters)
    except UsageError as error:
        raise place.error(str(error)) from None


def _references(
    place: Place, value: Any, check: Check, check_whole: Callable[[Place, Choice], None]
) -> Iterator[Located]:
    for where, item in place.items(value):
        if isinstance(item, dict):
            name, lists = _from_table(where, item, check)
        else:
            name, lists = _from_text(where, item, check)
        for choice in _grid(where, name, lists):
            check_whole(where, choice)
            yield where, choice


def _from_text(place: Place, value: Any, check: Check) -> tuple[str, dict[str, list[Any]]]:
    """Read `NAME[:KEY=VALUE,...]`, in which a list is one value."""
    text = text_at(place, value, REFERENCE)
    try:
        name, parameters = split_reference(text)
    except UsageError as error:
        raise place.error(str(error)) from None
    except (ValueError, RecursionError):  # tomllib's, of thousands of digits or brackets
        raise place.expected(REFERENCE, text) from None
    _check_name(place, name)
    for key, one in parameters.items():
        check(place.at(key), name, key, one)
    return name, {key: [one] for key, one in parameters.items()}


def _from_table(place: Place, table: Mapping[str, Any], check: Check) -> tuple[str, dict[str, list[Any]]]:
    """Read a table with a name and parameters, in which a list is a list of values."""
    if "name" not in table:
        raise place.error('expected a table with a name, such as { name = "resnet_cifar", depth = [20, 56] }')
    name = table["name"]
    _check_name(place.at("name"), name)
    lists = {}
    for key in [key for key in table if key != "name"]:
        if not key:  # a text may leave the key of its first value away
            raise place.at(key).error(f"expected the name of a parameter of {shown(name)}, got {shown(key)}")
        located = list(place.at(key).items(table[key]))
        for where, item in located:
            check(where, name, key, item)
        lists[key] = [item for _, item in located]
    return name, lists


def _grid(place: Place, name: str, lists: Mapping[str, list[Any]]) -> Iterator[Choice]:
    digits = sum(math.log10(len(values)) for values in lists.values())
    if digits > math.log10(MOST_COMBINATIONS):
        raise place.error(f"expected at most {MOST_COMBINATIONS:,} combinations of parameters, got 10^{digits:.1f}")
    for values in itertools.product(*lists.values()):
        yield Choice(name, dict(zip(lists, values, strict=True)))


def _check_name(place: Place, name: Any) -> None:
    if not isinstance(name, str) or not PLUGIN_NAME.fullmatch(name) or not name.isprintable():
        raise place.expected("a name without spaces, commas and colons", name)


def _check_plugin(place: Place, name: str, key: str, value: Any) -> None:
    """Check a parameter of a plugin, of which only the plugin knows more."""
    if key and not PARAMETER_NAME.fullmatch(key):  # no key: the plugin knows which it is
        raise place.error(f"expected the name of a parameter of {shown(name)}, got {shown(key)}")
    if not _is_plain(value, DEEPEST):
        raise place.expected(PLAIN, value)


def _check_override(place: Place, _: str, key: str, value: Any) -> None:
    """Check an override of a recipe: its key, type, and range."""
    if key not in OVERRIDES:
        raise place.error(str(unknown_name("key of a recipe", key, OVERRIDES)))
    kind = OVERRIDES[key]
    if kind is tuple:
        if not isinstance(value, list) or not all(_is_kind(float, item) for item in value):
            raise place.expected("a list of numbers", value)
        return
    if key in CHOICES and value not in CHOICES[key]:
        raise place.expected(f"one of {', '.join(CHOICES[key])}", value)
    accepts, limits = RANGES.get(key, (lambda _: True, ""))
    if not _is_kind(kind, value) or not accepts(value):
        words = f"of {limits}" if limits.startswith("at least") else limits
        raise place.expected(f"{NAMES[kind]} {words}".rstrip(), value)


def _is_kind(kind: type, value: Any) -> bool:
    return _is_plain(value, 0) and (type(value) is kind or (kind is float and type(value) is int))


def _is_plain(value: Any, depth: int) -> bool:
    """Return whether a value can be written after a reference's colon, and read back."""
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    if isinstance(value, str):
        return value.isprintable()
    if type(value) is int:
        return value in WHOLE_NUMBERS
    return isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value))


def _canonical(value: Any) -> Any:
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
