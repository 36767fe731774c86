"""From what went wrong in a trial to the status, reason and message of its record."""

from __future__ import annotations

import signal
from typing import Any

from bench.errors import DataError, DivergedError, PluginError, TrialError, UnsuitableError, is_out_of_memory
from bench.execution.work import ServerDiedError, WorkDiedError, WorkFailedError
from bench.records import Reason, Status


def failure_of(error: Exception, device: str) -> dict[str, Any]:
    """Return status, reason, message and traceback of a trial that raised, or whose process died."""
    status, reason, message = Status.FAILED, Reason.EXCEPTION, str(error)
    match error:
        case UnsuitableError():
            status, reason = Status.SKIPPED, Reason(error.reason)
        case DivergedError():
            status, reason = Status.DIVERGED, Reason(error.reason)
        case TrialError():
            reason = Reason(error.reason)
        case DataError() | PluginError():
            reason = Reason.BAD_DATA
        case WorkFailedError() if is_out_of_memory(error.failure.kind, message):
            on_device = device == "GPU" and error.failure.kind != "MemoryError" and "allocator cpu" not in message
            reason = Reason.OUT_OF_MEMORY_DEVICE if on_device else Reason.OUT_OF_MEMORY_HOST
            message = f"out of memory on the {'device' if on_device else 'host'}: {message}"
        case WorkDiedError() if error.exit_code < 0:
            name = _signal_name(-error.exit_code)
            hint = " On Linux that is often the kernel's out-of-memory killer." if name == "SIGKILL" else ""
            reason, message = Reason.KILLED_BY_SIGNAL, f"the trial's process was killed by {name}.{hint}"
        case ServerDiedError():
            reason = Reason.PROCESS_EXIT
        case WorkDiedError():
            reason = Reason.PROCESS_EXIT
            message = f"the trial's process ended by itself with exit code {error.exit_code}, without a result."
    notes = getattr(error, "__notes__", [])
    return {"status": status, "reason": reason, "message": message, "traceback": "\n".join(notes)}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of the real-time signals have no name
        return f"signal {number}"
