"""What one attempt at a trial left behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bench.environment import Environment
from bench.spec import TrialSpec

SCHEMA_VERSION = 2


class Status(StrEnum):
    """How an attempt ended."""

    OK = "ok"
    FAILED = "failed"
    DIVERGED = "diverged"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"
    TIMEOUT = "timeout"

    @property
    def is_failure(self) -> bool:
        """Whether the attempt ended by its own fault, so that a retry makes sense."""
        return self in (Status.FAILED, Status.DIVERGED, Status.TIMEOUT)


class Reason(StrEnum):
    """Why an attempt did not end well; empty for one that did."""

    NONE = ""
    EXCEPTION = "exception"
    BAD_PLUGIN = "bad_plugin"
    BAD_MODEL = "bad_model"
    IMAGES_TOO_SMALL = "images_too_small"
    NON_FINITE_LOSS = "non_finite_loss"
    OUT_OF_MEMORY_HOST = "out_of_memory_host"
    OUT_OF_MEMORY_DEVICE = "out_of_memory_device"
    MEMORY_LIMIT = "memory_limit"
    DISK_LIMIT = "disk_limit"
    TIME_LIMIT = "time_limit"
    DISK_FULL = "disk_full"
    KILLED_BY_SIGNAL = "killed_by_signal"
    PROCESS_EXIT = "process_exit"
    BAD_DATA = "bad_data"
    USER = "user"


CONTINUABLE = {  # nothing that the training itself did: its saved state is worth going on from
    Reason.USER,
    Reason.TIME_LIMIT,
    Reason.MEMORY_LIMIT,
    Reason.DISK_FULL,
    Reason.KILLED_BY_SIGNAL,
    Reason.PROCESS_EXIT,
}


@dataclass(frozen=True)
class Outcome:
    """What a trial that ended well measured.

    `metrics` and `resolved` are described, with units, in docs/results.md; `phases` are seconds.
    """

    metrics: Mapping[str, Any]
    phases: Mapping[str, float]
    resolved: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One attempt at a trial, whichever way it ended."""

    trial_id: str
    attempt: str
    status: Status
    spec: TrialSpec
    environment: Environment
    started_at: str
    seconds: float
    reason: Reason = Reason.NONE
    message: str = ""
    traceback: str = ""
    log_tail: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        shallow = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {**shallow, "spec": self.spec.to_json(), "environment": self.environment.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrialRecord:
        """Return the record that `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: the value is not such a record.

        """
        return cls(
            **{
                **value,
                "status": Status(value["status"]),
                "reason": Reason(value["reason"]),
                "spec": TrialSpec.from_json(value["spec"]),
                "environment": Environment.from_json(value["environment"]),
            }
        )


def last_attempts(
    records: Iterable[TrialRecord], key: Callable[[TrialRecord], Hashable]
) -> dict[Hashable, TrialRecord]:
    """Return the last record of each key, given oldest first; an interrupted one only where there is no other."""
    last: dict[Hashable, TrialRecord] = {}
    for record in records:
        if record.status != Status.INTERRUPTED or last.get(key(record), record).status == Status.INTERRUPTED:
            last[key(record)] = record
    return last
