"""What a sweep is at, as a file that another terminal reads: `results/.runs/<process tag>.json`.

Anybody may have written what is read: texts come out printable, numbers finite, and nothing is executed or waited for.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from bench.archive import read_object, read_regular, words_of
from bench.atomic import is_dead, replacing
from bench.fields import build, printable

FOLDER = ".runs"
MOST_BYTES = 2**20
MOST_RUNS = 64
SILENT_SECONDS = 60.0
TAG = re.compile(r"[0-9]{1,9}@[ -.0-~]*")  # what `bench.atomic.process_tag` returns


@dataclass(frozen=True, kw_only=True)
class RunningTrial:
    """A trial that runs. None where the trial has not sent it yet.

    Attributes:
        number: in the order in which the sweep's trials started, from 1.
        title: what a person calls the trial.
        place: where it runs; empty where that is all of this machine.
        phase: what its process does.
        epoch: the epoch it is in, from 1.
        epochs: of the whole training.
        step: steps done in this epoch.
        steps: of an epoch.
        loss: mean cross-entropy over the last block, in nats; also None where it is not finite.
        images_per_second: training speed so far.
        validation_accuracy: after the last epoch, from 0 to 1.
        seconds: since it started here.
        saved_step: the step, of the whole training, after which its state was saved last.
        resumed_step: the one that it goes on from.

    """

    number: int
    title: str
    place: str
    phase: str
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    images_per_second: float | None = None
    validation_accuracy: float | None = None
    seconds: float
    saved_step: int | None = None
    resumed_step: int | None = None


@dataclass(frozen=True, kw_only=True)
class FailedTrial:
    """A trial that failed in this sweep: how, why, and the folder of its record."""

    title: str
    status: str
    reason: str
    message: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class SweepState:
    """What one `bench run` is at.

    Attributes:
        command: as it was typed.
        process: the tag of its process.
        host: the machine that it runs on.
        started_at: in UTC, ISO 8601.
        updated_at: likewise, when this was written.
        total: trials that it set out to run.
        done_before: further trials of the sweep, which had ended before.
        ended: trials that have ended, by status.
        left: trials that another process has ended meanwhile.
        waiting: trials that nobody works on yet.
        elsewhere: trials that another process works on.
        running: trials that run, in the order of their starts.
        failed: the last ones that failed.
        seconds_left: an estimate; None: not known yet.
        ending: whether it ends early, and only waits for what runs to save.

    """

    command: str
    process: str
    host: str
    started_at: str
    updated_at: str
    total: int
    done_before: int
    ended: Mapping[str, int]
    left: int
    waiting: int
    elsewhere: int
    running: tuple[RunningTrial, ...]
    failed: tuple[FailedTrial, ...]
    seconds_left: float | None
    ending: bool

    def __post_init__(self) -> None:
        """Check what the types leave open (ValueError)."""
        if not TAG.fullmatch(self.process):
            raise ValueError(f"has a process that is none: {self.process!r}")
        if any(datetime.fromisoformat(each).utcoffset() != timedelta(0) for each in (self.started_at, self.updated_at)):
            raise ValueError("has a time that is not in UTC")

    @property
    def done(self) -> int:
        """Trials of those that were to be run that need no more work."""
        return sum(self.ended.values()) + self.left


class Life(StrEnum):
    """What is known of the process that wrote a state."""

    AT_WORK = "at work"
    SILENT = "silent"
    DEAD = "dead"


def life_of(state: SweepState) -> Life:
    """Return whether a sweep's process is at work, has been silent for a minute, or is known to have ended."""
    if is_dead(state.process):
        return Life.DEAD
    silent = (datetime.now(UTC) - datetime.fromisoformat(state.updated_at)).total_seconds()
    return Life.SILENT if silent > SILENT_SECONDS else Life.AT_WORK


def write_state(results: Path, state: SweepState) -> None:
    """Write the state into a results folder, as a whole.

    Raises:
        OSError: it cannot be written.

    """
    path = _path(results, state.process)
    if path.parent.is_symlink():
        raise OSError(f"{path.parent} is a symbolic link, which could lead out of the results folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("x") as file:
        json.dump(dataclasses.asdict(state), file, allow_nan=False)


def remove_state(results: Path, process: str) -> None:
    """Remove a process's state, and the folder once it is empty."""
    path = _path(results, process)
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def remove_dead(results: Path) -> None:
    """Remove the states of processes that are known to have ended."""
    for path in _paths(results):
        if is_dead(path.stem):
            remove_state(results, path.stem)


def read_states(results: Path) -> tuple[list[SweepState], list[str]]:
    """Return the states in a results folder, and a message for each file that holds none."""
    states: list[SweepState] = []
    problems: list[str] = []
    for path in _paths(results)[:MOST_RUNS]:
        try:
            states.append(_read(path))
        except FileNotFoundError:
            continue  # its process has ended in between
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            problems.append(f"{printable(str(path))} {words_of(error)}. Remove it to be rid of this message.")
    return states, problems


def _read(path: Path) -> SweepState:
    state: SweepState = build(SweepState, read_object(read_regular(str(path), MOST_BYTES)))
    if state.process != path.stem:
        raise ValueError(f"says that it is of process {state.process}")
    return state


def _path(results: Path, process: str) -> Path:
    return results / FOLDER / f"{process}.json"


def _paths(results: Path) -> list[Path]:
    """Return the files that are named as states are, in a stable order."""
    folder = results / FOLDER
    if folder.is_symlink():
        return []
    return sorted(path for path in folder.glob("[0-9]*@*.json") if TAG.fullmatch(path.stem))
