"""Durations and sizes as people write them: `90s`, `2h`, `8GB`."""

from __future__ import annotations

import math
import re

from bench.errors import UsageError

SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def parse_seconds(text: str, where: str) -> float:
    """Return a duration in seconds.

    Raises:
        UsageError: it is not a number above 0 with a unit.

    """
    return _parse(text, where, SECONDS, "a duration such as 90s, 45m, 2h or 1d", str.lower)


def parse_bytes(text: str, where: str) -> int:
    """Return a size in bytes; GB are 10^9 bytes, GiB 2^30.

    Raises:
        UsageError: it is not a number above 0 with a unit.

    """
    return round(_parse(text, where, BYTES, "a size such as 500MB, 8GB or 6GiB", str.upper))


def format_seconds(seconds: float) -> str:
    """Return a duration in its two largest units: `45s`, `1m 30s`, `2h`."""
    if seconds < 10:
        return f"{seconds:.3g}s"
    left, parts = round(seconds), []
    for unit, size in sorted(SECONDS.items(), key=lambda item: -item[1]):
        count, left = divmod(left, round(size))
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def format_bytes(size: float) -> str:
    """Return a size in decimal units, as `parse_bytes` reads it."""
    unit = next((name for name in ("TB", "GB", "MB", "KB") if size >= BYTES[name]), "B")
    return f"{size / BYTES[unit]:.3g}{unit}"


def _parse(text: str, where: str, units: dict[str, float] | dict[str, int], expected: str, fold: object) -> float:
    match = _NUMBER.fullmatch(text)
    unit = fold(match[2]) if match else ""  # type: ignore[operator]
    if match is None or unit not in units or not 0 < (value := float(match[1]) * units[unit]) < math.inf:
        raise UsageError(f"{where}: expected {expected}; got {text!r}.")
    return value
