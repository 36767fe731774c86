"""What a sweep file may say of the run besides its trials: the table `[run]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError, unknown_name
from bench.literals import expanded, parse_path
from bench.sweeps.places import Place, table_at, text_at, whole_number
from bench.units import parse_bytes, parse_seconds

CHOICES = {
    "measure": ("basic", "full"),
    "logits": ("float32", "float16"),
    "timing": ("shared", "exclusive"),
    "engine": ("local", "ray"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a sweep is run. None, or an empty tuple, where the file does not say.

    Attributes:
        results: the results folder.
        data_dir: the TFDS data directory.
        plugins: folders with further plugins.
        measure: `basic` or `full`.
        logits: how predictions are stored, `float32` or `float16`.
        jobs: trials side by side.
        timeout: seconds that a trial may take.
        memory_limit: bytes of memory that a trial may take.
        disk_limit: bytes that a trial may write.
        checkpoint_every: seconds from one saving of a training's state to the next.
        timing: `shared`, or `exclusive`: timed trials run alone.
        engine: `local` or `ray`.
        ray_address: of a Ray cluster.
        evaluate_also: further data sets that each trained model is evaluated on.
        tune: keys of the recipe that are searched for each architecture.
        tune_trials: how many values the search tries.

    """

    results: Path | None = None
    data_dir: Path | None = None
    plugins: tuple[Path, ...] = ()
    measure: str | None = None
    logits: str | None = None
    jobs: int | None = None
    timeout: float | None = None
    memory_limit: int | None = None
    disk_limit: int | None = None
    checkpoint_every: float | None = None
    timing: str | None = None
    engine: str | None = None
    ray_address: str | None = None
    evaluate_also: tuple[str, ...] = ()
    tune: tuple[str, ...] = ()
    tune_trials: int | None = None


def read_settings(place: Place, value: Any, folder: Path) -> Settings:
    """Return the settings in a table, whose paths are relative to this folder.

    Raises:
        UsageError: a key that there is not, or a wrong value.

    """
    table = table_at(place, value)
    for key in table:
        if key not in _READERS:
            raise place.at(key).error(str(unknown_name("setting", key, _READERS)))
    return Settings(**{key: _READERS[key](place.at(key), item, folder) for key, item in table.items()})


def _path(place: Place, value: Any, folder: Path) -> Path:
    text = text_at(place, value, "a path")
    try:
        return folder / expanded(parse_path(text))
    except UsageError as error:
        raise place.error(str(error)) from None


def _paths(place: Place, value: Any, folder: Path) -> tuple[Path, ...]:
    return tuple(_path(where, item, folder) for where, item in place.items(value))


def _whole(place: Place, value: Any, _: Path) -> int:
    return whole_number(place, value, 1)


def _parsed(parse: Callable[[str, str], float], example: str) -> Callable[[Place, Any, Path], float]:
    def read(place: Place, value: Any, _: Path) -> float:
        return parse(text_at(place, value, f"a text such as {example}"), str(place))

    return read


def _text(place: Place, value: Any, _: Path) -> str:
    return text_at(place, value, "a text")


def _texts(place: Place, value: Any, _: Path) -> tuple[str, ...]:
    return tuple(text_at(where, item, "a text") for where, item in place.items(value))


def _named(names: tuple[str, ...]) -> Callable[[Place, Any, Path], str]:
    def read(place: Place, value: Any, _: Path) -> str:
        if not isinstance(value, str) or value not in names:
            raise place.expected(f"one of {', '.join(names)}", value)
        return value

    return read


_READERS: Mapping[str, Callable[[Place, Any, Path], Any]] = {
    "results": _path,
    "data_dir": _path,
    "plugins": _paths,
    "jobs": _whole,
    "timeout": _parsed(parse_seconds, '"2h"'),
    "memory_limit": _parsed(parse_bytes, '"8GB"'),
    "disk_limit": _parsed(parse_bytes, '"1GB"'),
    "checkpoint_every": _parsed(parse_seconds, '"5m"'),
    "ray_address": _text,
    "evaluate_also": _texts,
    "tune": _texts,
    "tune_trials": _whole,
    **{key: _named(names) for key, names in CHOICES.items()},
}
