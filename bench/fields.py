"""From JSON that anybody may have written to dataclasses: printable texts, finite numbers, each field of its type.

A ValueError says what is wrong, as the end of a sentence that begins with what was read.
"""

from __future__ import annotations

import dataclasses
import json
import marshal
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache, lru_cache
from typing import Any

LARGEST_NUMBER = 10**18  # of whole ones: fits into 64 bits
DEEPEST = 16  # lists and mappings inside of each other
MOST_SHARED_BYTES = 2**16
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # a terminal's colours and movements
NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}
NAMES |= {list: "a list", type(None): "null"}

Converter = Callable[[Any], Any]


def printable(text: str) -> str:
    """Return a text that does nothing to a terminal: colours taken out, control characters escaped; newlines stay."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    kept = (each if each.isprintable() or each in "\n\t" else _escaped(each) for each in ESCAPES.sub("", text))
    return "".join(kept)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def check_surrogates(value: Any) -> None:
    """Refuse half a character, which `json` reads and no file takes (ValueError)."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no text") from None


def cleaned(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with printable texts.

    Raises:
        ValueError: a number overflows, or is no number.
        RecursionError: it is nested too deeply.

    """
    kind = type(value)
    if kind is str:
        return value if value.isprintable() else printable(value)
    if kind is float:  # a training that fails can end with any
        if not math.isfinite(value):
            raise ValueError("holds a number that is not finite")
        return value
    if kind is int:
        if not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
            raise ValueError(f"holds a whole number beyond ±{LARGEST_NUMBER:.0e}")
        return value
    if kind is bool or value is None:
        return value
    if depth == DEEPEST:
        raise RecursionError
    if kind is list:
        return [cleaned(each, depth + 1) for each in value]
    return {
        sys.intern(name if name.isprintable() else printable(name)): cleaned(each, depth + 1)
        for name, each in value.items()
    }


def build(kind: Any, value: Any) -> Any:
    """Return a dataclass from its JSON object, each field of the type it is declared with.

    Thousands of records have the same recipe and environment: equal dataclasses inside of others come out as one.

    Raises:
        ValueError: a field is absent, unknown, or of another type.

    """
    if type(value) is not dict:
        raise ValueError(f"must be an object, not {kind_of(value)}")
    converters, required = _fields(kind)
    if missing := required - value.keys():
        raise ValueError(f"lacks {', '.join(sorted(missing))}")
    made = {}
    for name, each in value.items():
        if name not in converters:
            raise ValueError(f"has the unknown field {name!r}")
        try:
            made[name] = converters[name](each)
        except ValueError as error:
            raise ValueError(f"has a wrong {name}: {error}") from error
    return kind(**made)


@cache
def _fields(kind: Any) -> tuple[Mapping[str, Converter], frozenset[str]]:
    hints, missing = typing.get_type_hints(kind), dataclasses.MISSING
    fields = dataclasses.fields(kind)
    required = {each.name for each in fields if each.default is missing and each.default_factory is missing}
    return {each.name: _converter(hints[each.name]) for each in fields}, frozenset(required)


def _converter(hint: Any) -> Converter:
    """Return what makes a field of a declared type from a JSON value, or raises ValueError."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value: value
    if origin is not None:
        return _container(origin, [_converter(part) for part in parts if part is not Ellipsis])
    if dataclasses.is_dataclass(hint):
        return lambda value: _share(hint, value)
    if issubclass(hint, Enum):
        return hint  # type: ignore[no-any-return]
    kinds = (float, int) if hint is float else (hint,)
    return lambda value: _typed(value, *kinds)


def _container(origin: Any, parts: list[Converter]) -> Converter:
    """Return the converter of `X | None`, of a tuple of one type, or of a mapping from names."""
    item = parts[-1]
    if origin in (types.UnionType, typing.Union):
        return lambda value: None if value is None else parts[0](value)
    if origin is tuple:
        return lambda value: tuple(map(item, _typed(value, list)))
    return lambda value: {name: item(each) for name, each in _typed(value, dict).items()}


def _typed(value: Any, *kinds: type) -> Any:
    if type(value) in kinds:
        return value
    raise ValueError(f"expected {NAMES[kinds[0]]}, not {kind_of(value)}")


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    return NAMES[type(value)]


def _share(kind: Any, value: Any) -> Any:
    text = marshal.dumps(value, 2)  # exact, and ten times as fast as JSON
    return _shared(kind, text) if len(text) <= MOST_SHARED_BYTES else build(kind, value)


@lru_cache(maxsize=1024)
def _shared(kind: Any, text: bytes) -> Any:
    return build(kind, marshal.loads(text))  # noqa: S302 - what was dumped here
