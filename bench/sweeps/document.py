"""Reads a sweep file: its axes, its rules, and the settings of the run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import unknown_name
from bench.sweeps.axes import AXES, read_axis
from bench.sweeps.choices import Located
from bench.sweeps.places import Place, table_at
from bench.sweeps.settings import Settings, read_settings

LARGEST_BYTES = 2**20
RULES = ("include", "exclude")


@dataclass(frozen=True)
class Rule:
    """An `[[include]]` or `[[exclude]]`: the values that it names, by axis."""

    place: Place
    values: Mapping[str, Sequence[Located]]


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a sweep file says: the axes that it names, its rules, its settings."""

    source: str = ""
    axes: Mapping[str, Sequence[Located]] = field(default_factory=dict)
    includes: Sequence[Rule] = ()
    excludes: Sequence[Rule] = ()
    settings: Settings = field(default_factory=Settings)


def read_document(file: Path) -> Document:
    """Return what a sweep file says; whether its rules have any effect is not looked at.

    Raises:
        UsageError: the file cannot be read, is no TOML, or has a key or value that it should not have.

    """
    place = Place(str(file))
    table = _parse(place, _read(place, file))
    known = {axis.key for axis in AXES} | {*RULES, "run"}
    for key in table:
        if key not in known:
            raise place.at(key).error(str(unknown_name("key of a sweep", key, known)))
    return Document(
        source=str(file),
        axes=_read_axes(place, table),
        includes=_read_rules(place.at("include"), table.get("include", [])),
        excludes=_read_rules(place.at("exclude"), table.get("exclude", [])),
        settings=read_settings(place.at("run"), table.get("run", {}), file.parent),
    )


def _read(place: Place, file: Path) -> str:
    what = "expected a sweep file in TOML (docs/sweeps.md describes it)"
    if not file.is_file():
        raise place.error(f"{what}, got {'a folder' if file.is_dir() else 'no file of that name'}")
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise place.error(f"{what}; it cannot be read: {error.strerror}") from error
    if len(content) > LARGEST_BYTES:
        raise place.error(f"{what} of at most 1 MiB, got a larger one")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise place.error(f"{what} in UTF-8, got other bytes in line {line}") from None


def _parse(place: Place, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise place.error("not valid TOML: lists or tables are nested too deeply") from None
    except ValueError as error:  # of which TOMLDecodeError is one; a number of thousands of digits raises another
        raise place.error(f"not valid TOML: {error}") from None


def _read_axes(place: Place, table: Mapping[str, Any]) -> dict[str, list[Located]]:
    return {axis.key: read_axis(axis, place.at(axis.key), table[axis.key]) for axis in AXES if axis.key in table}


def _read_rules(place: Place, value: Any) -> list[Rule]:
    if not isinstance(value, list):
        raise place.expected(f"tables under [[{place.key}]]", value)
    return [_read_rule(Place(place.source, f"{place.key}[{index}]"), item) for index, item in enumerate(value)]


def _read_rule(place: Place, value: Any) -> Rule:
    table = table_at(place, value)
    known = [axis.key for axis in AXES]
    for key in table:
        if key not in known:
            raise place.at(key).error(str(unknown_name("axis", key, known)))
    if not table:
        raise place.error(f"expected values of at least one axis ({', '.join(known)}), got none")
    return Rule(place, _read_axes(place, table))
