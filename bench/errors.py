"""Every error that this package raises on purpose.

    BenchError                    one clear message for a person; exit code 2, no traceback
    ├── UsageError                the command line, a parameter or an override is wrong
    ├── PluginError               a plugin file is broken or two of them share a name
    ├── DataError                 a data set is absent, damaged or out of reach
    ├── StoreError                the results folder cannot be written or read
    ├── BackendError              a backend is absent, cannot be imported or cannot do what was asked
    └── TrialError                one trial cannot go on; it becomes that trial's record
        ├── BadModelError         what `build` returned cannot be benchmarked
        ├── DivergedError         the loss is no longer a finite number
        ├── StoppedError          its process was asked to end
        └── UnsuitableError       the trial makes no sense (images too small); it is skipped

A message says what was expected, what came, what there is, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OUT_OF_MEMORY_KINDS = {"ResourceExhaustedError", "MemoryError", "OutOfMemoryError"}
OUT_OF_MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "Out of memory", "DefaultCPUAllocator", "not enough memory")


class BenchError(Exception):
    """A mistake that its message explains; the command ends with exit code 2."""

    exit_code = 2


class UsageError(BenchError):
    """The command line, a parameter or an override is wrong."""


class PluginError(BenchError):
    """A plugin file is broken, or two of them share a name."""


class DataError(BenchError):
    """A data set is absent, damaged or out of reach."""


class StoreError(BenchError):
    """The results folder cannot be written or read."""


class BackendError(BenchError):
    """The deep-learning backend cannot be imported, or cannot do what was asked."""


class TrialError(BenchError):
    """One trial cannot go on. `reason` is the enumerated reason of its record."""

    reason = "exception"


class BadModelError(TrialError):
    """What an architecture's `build` returned cannot be benchmarked."""

    reason = "bad_model"


class DivergedError(TrialError):
    """The training loss is no longer a finite number."""

    reason = "non_finite_loss"


class StoppedError(TrialError):
    """The process of the trial was asked to end; the message says what the same command will go on with."""

    reason = "user"


class UnsuitableError(TrialError):
    """The trial makes no sense for this data set, and is skipped."""

    reason = "images_too_small"


def unknown_name(kind: str, name: str, available: Iterable[str]) -> UsageError:
    """Return the error for a name that does not exist: the nearest names first, then all there are."""
    names = sorted(available)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return UsageError(f"unknown {kind} {name!r}. {hint}Available: {', '.join(names) or 'none'}.")


def is_out_of_memory(kind: str, message: str) -> bool:
    """Return whether an exception's class name and message say that memory ran out, on whichever backend."""
    return kind in OUT_OF_MEMORY_KINDS or any(words in message for words in OUT_OF_MEMORY_WORDS)
