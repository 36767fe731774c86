"""From what went wrong in a trial to the status, reason and message of its record."""

from __future__ import annotations

import errno
import signal
from typing import Any

from bench.errors import (
    BenchError,
    DataError,
    DivergedError,
    PluginError,
    StoppedError,
    TrialError,
    UnsuitableError,
    is_out_of_memory,
)
from bench.execution.engine import LostError
from bench.execution.work import Cause, WorkDiedError, WorkFailedError, WorkStoppedError
from bench.records import Reason, Status
from bench.spec import TrialSpec
from bench.units import format_bytes, format_seconds

NO_ROOM = f"[Errno {errno.ENOSPC}]"


class BrokenPluginError(TrialError):
    """The architecture's file cannot be read."""

    reason = "bad_plugin"


def failure_of(error: Exception, spec: TrialSpec, device: str) -> dict[str, Any]:
    """Return status, reason, message and traceback of a trial that raised, or whose process died."""
    status, reason, message = _judge(error, f"at a batch size of {spec.recipe.batch_size}", device)
    notes = getattr(error, "__notes__", [])
    return {"status": status, "reason": reason, "message": message, "traceback": "\n".join(notes)}


def _judge(error: Exception, batch: str, device: str) -> tuple[Status, Reason, str]:
    match error:
        case BenchError():
            judged = _of_bench(error)
        case WorkStoppedError():
            judged = _ended(error, batch)
        case WorkDiedError():
            judged = _died(error.exit_code, batch)
        case LostError():
            judged = Status.FAILED, Reason.PROCESS_EXIT, f"what ran it was lost again and again: {error}"
        case WorkFailedError() if is_out_of_memory(error.failure.kind, str(error)):
            judged = _out_of_memory(error, batch, device)
        case WorkFailedError() if NO_ROOM in str(error):
            judged = Status.INTERRUPTED, Reason.DISK_FULL, f"the disk is full: {error}"
        case _:
            judged = Status.FAILED, Reason.EXCEPTION, str(error)
    return judged


def _of_bench(error: BenchError) -> tuple[Status, Reason, str]:
    status, reason = Status.FAILED, Reason.EXCEPTION
    match error:
        case UnsuitableError():
            status, reason = Status.SKIPPED, Reason(error.reason)
        case DivergedError():
            status, reason = Status.DIVERGED, Reason(error.reason)
        case StoppedError():
            status, reason = Status.INTERRUPTED, Reason.USER
        case TrialError():
            reason = Reason(error.reason)
        case DataError() | PluginError():
            reason = Reason.BAD_DATA
    return status, reason, str(error)


def _ended(error: WorkStoppedError, batch: str) -> tuple[Status, Reason, str]:
    """Return how a trial that was ended from outside is recorded."""
    limits = error.limits
    match error.cause:
        case Cause.TIME:
            limit = format_seconds(limits.seconds or 0)
            hint = "goes on from what it saved" if "goes on from step" in error.last_words else "runs it again"
            text = f"it took longer than --timeout {limit}; --retry-failed with a longer one {hint}."
            return Status.TIMEOUT, Reason.TIME_LIMIT, text
        case Cause.MEMORY:
            limit = format_bytes(limits.memory_bytes or 0)
            return Status.FAILED, Reason.MEMORY_LIMIT, f"it used more memory than --memory-limit {limit} {batch}."
        case Cause.DISK:
            limit = format_bytes(limits.disk_bytes or 0)
            text = f"it wrote more into its folder, or printed more, than --disk-limit {limit}."
            return Status.FAILED, Reason.DISK_LIMIT, text
    return Status.INTERRUPTED, Reason.USER, error.last_words or "interrupted by the user"


def _died(exit_code: int, batch: str) -> tuple[Status, Reason, str]:
    if exit_code >= 0:
        text = f"the trial's process ended by itself with exit code {exit_code}, without a result."
        return Status.FAILED, Reason.PROCESS_EXIT, text
    name = _signal_name(-exit_code)
    hint = f" On Linux that is often the kernel's out-of-memory killer ({batch})." if name == "SIGKILL" else ""
    return Status.FAILED, Reason.KILLED_BY_SIGNAL, f"the trial's process was killed by {name}.{hint}"


def _out_of_memory(error: WorkFailedError, batch: str, device: str) -> tuple[Status, Reason, str]:
    on_device = device == "GPU" and error.failure.kind != "MemoryError" and "allocator cpu" not in str(error)
    reason = Reason.OUT_OF_MEMORY_DEVICE if on_device else Reason.OUT_OF_MEMORY_HOST
    return Status.FAILED, reason, f"out of memory on the {'device' if on_device else 'host'} {batch}: {error}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of the real-time signals have no name
        return f"signal {number}"
