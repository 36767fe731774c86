"""Where a value of a sweep stands, so that every message names it, and says what was expected and what came."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.errors import UsageError
from bench.literals import format_literal

BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
LONGEST = 60  # characters of a value that a message shows
WHOLE_NUMBERS = range(-(2**63), 2**63)  # TOML's


@dataclass(frozen=True)
class Place:
    """A key of a sweep file, or an option of the command line.

    Attributes:
        source: the file's name; empty for the command line, whose values are not numbered.
        key: as `recipes[1].epochs`, or the option.
        single: whether the value stands where a list of such values could.

    """

    source: str
    key: str = ""
    single: bool = False

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.source, self.key)))

    def at(self, key: str) -> Place:
        """Return the place of a key in the table that stands here."""
        name = key if BARE_KEY.fullmatch(key) else shown(key)
        return Place(self.source, f"{self.key}.{name}" if self.key else name)

    def items(self, value: Any) -> Iterator[tuple[Place, Any]]:
        """Yield the items of a list, or else the value as the only one, each with its place.

        Raises:
            UsageError: the list is empty.

        """
        if not isinstance(value, list):
            yield Place(self.source, self.key, single=True), value
            return
        if not value:
            raise self.error("expected at least one value, got an empty list")
        for index, item in enumerate(value):
            yield Place(self.source, f"{self.key}[{index}]") if self.source else self, item

    def error(self, text: str) -> UsageError:
        """Return the error that says this of the value here."""
        return UsageError(": ".join(filter(None, (str(self), text))))

    def expected(self, what: str, value: Any) -> UsageError:
        """Return the error that a value is not what is expected here."""
        lists = " or a list of them" if self.single else ""
        return self.error(f"expected {what}{lists}, got {shown(value)}")


def table_at(place: Place, value: Any) -> dict[str, Any]:
    """Return the table that stands here.

    Raises:
        UsageError: it is none.

    """
    if not isinstance(value, dict):
        raise place.expected("a table", value)
    return value


def whole_number(place: Place, value: Any, least: int, most: int = WHOLE_NUMBERS[-1], what: str = "") -> int:
    """Return the whole number that stands here.

    Raises:
        UsageError: it is none, or out of range.

    """
    limits = f"from {least:,} to {most:,}" if most < WHOLE_NUMBERS[-1] else f"of at least {least:,}"
    if type(value) is not int or not least <= value <= most:
        raise place.expected(what or f"a whole number {limits}", value)
    return value


def text_at(place: Place, value: Any, what: str) -> str:
    """Return the text that stands here; it must have characters, and none that cannot be printed.

    Raises:
        UsageError: it is not such a text.

    """
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise place.expected(what, value)
    return value


def shown(value: Any) -> str:
    """Return a value as a message shows it: as in TOML, what is long cut short, nothing unprintable."""
    if isinstance(value, dict | list):
        return ("a table" if isinstance(value, dict) else "a list") if value else ("{}" if value == {} else "[]")
    if isinstance(value, str):
        text = value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
        return json.dumps(text, ensure_ascii=not text.isprintable())
    if isinstance(value, int) and value not in WHOLE_NUMBERS:
        return "a number that is out of range"
    return format_literal(value)
