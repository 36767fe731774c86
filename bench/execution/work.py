"""What travels between the command, the supervisor and the process that does a piece of work."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import BenchError


class Message:
    """The first byte of a message, which says what it is."""

    RUN = b"r"
    CANCEL = b"c"
    EVENT = b"e"
    RESULT = b"R"
    FAILURE = b"F"
    DIED = b"D"
    CANCELLED = b"C"


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
        super().__init__(f"{failure.kind}: {failure.message}")
        self.failure = failure


class ServerDiedError(Exception):
    """The process that forks, or its supervisor, has died; whatever was asked for next starts another."""


class WorkDiedError(Exception):
    """The process ended without an answer. `exit_code` is negative for a signal, as in `subprocess`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the process ended with exit code {exit_code}")
        self.exit_code = exit_code
