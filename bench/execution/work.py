"""What travels between the command, the supervisor and the process that does a piece of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from bench.errors import BenchError


class Message:
    """What a message is: the first of its three parts. The others are the number of the work, and a value."""

    RUN = "run"
    STOP = "stop"
    KILL = "kill"
    READY = "ready"
    EVENT = "event"
    RESULT = "result"
    FAILURE = "failure"
    DIED = "died"


class Cause(StrEnum):
    """Why the supervisor ended a piece of work."""

    NONE = ""
    TIME = "time"
    MEMORY = "memory"
    DISK = "disk"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a piece of work may take; None: as much as there is.

    Attributes:
        seconds: of the wall clock.
        memory_bytes: resident memory of its processes together.
        disk_bytes: of all files in its folder.

    """

    seconds: float | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a piece of work runs.

    Attributes:
        cores: the processor's cores it may use; none named: all.
        variables: environment variables that are set for it, before it touches a device.
        folder: what it writes into, held against the limit.
        log: where its output goes; without one, into the server's own log.

    """

    cores: tuple[int, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None
    log: str | None = None


def place_of(cores: tuple[int, ...], gpus: Sequence[str], folder: Path | None = None) -> Place:
    """Return where work runs that has these cores, sees these GPUs alone, and has its log in its folder."""
    variables = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    if folder is None:
        return Place(cores=cores, variables=variables)
    return Place(cores=cores, variables=variables, folder=str(folder), log=str(folder / "log.txt"))


ANYWHERE, UNLIMITED = Place(), Limits()


@dataclass(frozen=True)
class Order:
    """A piece of work as the supervisor gets it: `call` is a pickled (function, arguments)."""

    call: bytes
    place: Place
    limits: Limits


@dataclass(frozen=True)
class Event:
    """The work with this number has sent something."""

    number: int
    value: Any


@dataclass(frozen=True)
class End:
    """The work with this number has ended, and so has its process: with a result, or with an error."""

    number: int
    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True)
class Failure:
    """An exception of the child, as it travels to the parent."""

    kind: str
    message: str
    traceback: str
    error: BenchError | None


class WorkFailedError(Exception):
    """The work raised an exception that is not a `BenchError`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return f"{self.failure.kind}: {self.failure.message}"


class ServerDiedError(Exception):
    """The process that forks has died; whatever was asked for next starts another."""


class WorkDiedError(Exception):
    """The process ended without an answer. `exit_code` is negative for a signal, as in `subprocess`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"the process ended with exit code {self.exit_code}"


class WorkStoppedError(Exception):
    """The work was ended from outside: it was told to stop, or went beyond a limit (`cause`).

    `last_words` is the message of the error that it ended itself with; empty where it was killed.
    """

    def __init__(self, cause: Cause, limits: Limits, last_words: str = "") -> None:
        super().__init__(cause, limits, last_words)
        self.cause, self.limits, self.last_words = cause, limits, last_words

    def __str__(self) -> str:
        return f"the process was ended: {self.cause}"
