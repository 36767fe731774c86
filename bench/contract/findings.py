"""What a check found: whether all is well, or what is wrong, where, and how to mend it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from bench.errors import BenchError, DataError, UsageError

MOST_LINES = 6  # of an exception's message: Keras's go on for pages


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        message: what was expected, and what came.
        mend: what to do about it.
        line: of the plugin's file, from 1; 0 where no line is known.

    """

    message: str
    mend: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.message}{' ' if self.mend else ''}{self.mend}"


@dataclass(frozen=True)
class Result:
    """How one check ended: all is well where it has no findings. `note` is what a reader may want to know besides."""

    check: str
    findings: tuple[Finding, ...] = ()
    note: str = ""


Found: TypeAlias = Iterator["Finding | str"]
"""What a check yields: findings, and notes."""


class FindingError(Exception):
    """A finding that ends its check."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


def run_check(name: str, check: Callable[[Any], Found], subject: Any, path: Path) -> Result:
    """Run one check of a plugin's file; what the plugin raises is a finding too."""
    found: list[Finding | str] = []
    try:
        found.extend(check(subject))
    except FindingError as error:
        found.append(error.finding)
    except Exception as error:
        found.append(raised(error, path))
    return result_of(name, found)


def result_of(name: str, found: Iterable[Finding | str]) -> Result:
    """Return a check's result from what it has yielded."""
    found = list(found)
    findings = tuple(each for each in found if isinstance(each, Finding))
    return Result(name, findings, "; ".join(each for each in found if isinstance(each, str)))


def raised(error: Exception, path: Path, doing: str = "") -> Finding:
    """Return the finding of an exception, at the line of the plugin's file from which it came.

    Args:
        error: as it was caught.
        path: of the plugin's file.
        doing: what raised it, with which arguments.

    """
    lines = str(error).strip().splitlines()
    text = "\n".join([*lines[:MOST_LINES], *(["..."] if len(lines) > MOST_LINES else [])])
    frames = [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, DataError | UsageError):
        return Finding(text)  # of the images or parameters, not of a line of the file
    kind = "" if isinstance(error, BenchError) else f"{type(error).__name__}: "
    return Finding(f"{doing}{' raised ' if doing else ''}{kind}{text}", line=frames[-1] if frames else 0)
