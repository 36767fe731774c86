"""Runs trials one after another, and turns whatever happens to them into a record."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.environment import Device, Environment
from bench.errors import DataError, DivergedError, PluginError, TrialError, UnsuitableError, is_out_of_memory
from bench.events import Epoch
from bench.execution.job import TrialJob
from bench.execution.planning import Trial
from bench.execution.server import ForkServer
from bench.execution.signals import sigterm_as_interrupt, uninterrupted
from bench.execution.work import WorkDiedError, WorkFailedError
from bench.records import Outcome, Reason, Status, TrialRecord
from bench.spec import TrialSpec
from bench.store import Attempt, Store

PROFILED = "model_file_bytes"  # a figure that every full measurement has


class Observer(Protocol):
    """Watches a sweep."""

    def trial_started(self, trial: Trial) -> None:
        """See a trial's process about to start."""

    def trial_event(self, event: Any) -> None:
        """See what the running trial sent: a `Phase`, a `Step` or an `Epoch`."""

    def trial_ended(self, record: TrialRecord) -> None:
        """See a trial's record, once it has been written."""


class Profiles:
    """Which architectures have been measured in full already: in this environment, in the same setting, any seed.

    Trials that are about to run again do not count, as their new attempt replaces the old one.
    """

    def __init__(
        self, environment: Environment, records: Sequence[TrialRecord], todo: Sequence[Trial], *, wanted: bool
    ) -> None:
        self.environment, self.wanted = environment, wanted
        self.known: set[Hashable] = set()
        again = {trial.spec.trial_id for trial in todo}
        for record in records:
            if record.trial_id not in again:
                self.note(record)

    def is_missing(self, spec: TrialSpec) -> bool:
        """Return whether the trial is to be measured in full: nothing like it has been."""
        return self.wanted and self._key(spec) not in self.known

    def note(self, record: TrialRecord) -> None:
        """Remember a record that has what is measured once."""
        here, there = self.environment, record.environment
        if PROFILED in record.metrics and (here.machine, here.software) == (there.machine, there.software):
            self.known.add(self._key(record.spec))

    @staticmethod
    def _key(spec: TrialSpec) -> Hashable:
        return dataclasses.replace(spec, seed=0).trial_id


@dataclass(frozen=True)
class Runner:
    """Runs trials one after another, each in a fresh process, and leaves a record of each."""

    store: Store
    server: ForkServer
    device: Device
    environment: Environment
    logits_dtype: str
    observer: Observer
    profiles: Profiles
    peak_flops: float | None = None

    def run(self, trials: Sequence[Trial]) -> list[TrialRecord]:
        """Run the trials and return their records.

        Raises:
            KeyboardInterrupt: after the running trial was recorded as interrupted.
            StoreError: a record cannot be written.

        """
        with sigterm_as_interrupt():
            return [self._run_one(trial) for trial in trials]

    def _run_one(self, trial: Trial) -> TrialRecord:
        attempt = self.store.begin(trial.spec.trial_id)
        self.observer.trial_started(trial)
        history: list[Epoch] = []
        start = time.monotonic()
        try:
            outcome = self._work(trial, attempt, history)
            ended: dict[str, Any] = {"status": Status.OK, **vars(outcome)}
        except Exception as error:  # whatever it is, it becomes this trial's record, and the others go on
            ended = failure_of(error, self.device.kind)
        except BaseException:  # Ctrl-C, or whoever reads our output has gone
            ended = {"status": Status.INTERRUPTED, "reason": Reason.USER, "message": "interrupted by the user"}
            self._finish(trial, attempt, history, start, ended)
            raise
        return self._finish(trial, attempt, history, start, ended)

    def _work(self, trial: Trial, attempt: Attempt, history: list[Epoch]) -> Outcome:
        _check_image_size(trial)
        full = self.profiles.is_missing(trial.spec)
        work = TrialJob(trial, self.device, attempt.folder.resolve(), self.logits_dtype, full, self.peak_flops)

        def receive(event: Any) -> None:
            if isinstance(event, Epoch):
                history.append(event)
            self.observer.trial_event(event)

        return self.server.run(run_in_fork, work, on_event=receive, log=attempt.log)  # type: ignore[no-any-return]

    def _finish(
        self, trial: Trial, attempt: Attempt, history: list[Epoch], start: float, ended: dict[str, Any]
    ) -> TrialRecord:
        record = TrialRecord(
            trial_id=trial.spec.trial_id,
            attempt=attempt.name,
            spec=trial.spec,
            environment=self.environment,
            started_at=attempt.started.isoformat(),
            seconds=time.monotonic() - start,
            **ended,
        )
        with uninterrupted():
            attempt.commit(record, history)
        self.profiles.note(record)
        self.observer.trial_ended(record)
        return record


def run_in_fork(job: TrialJob, send: Callable[[Any], None]) -> Outcome:
    """Run a trial; called in a fork of the server, where the backend is imported already."""
    from bench.execution.trial import run_trial

    return run_trial(job, send)


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
            name = signal.Signals(-error.exit_code).name
            hint = " On Linux that is often the kernel's out-of-memory killer." if name == "SIGKILL" else ""
            reason, message = Reason.KILLED_BY_SIGNAL, f"the trial's process was killed by {name}.{hint}"
        case WorkDiedError():
            reason = Reason.PROCESS_EXIT
            message = f"the trial's process ended by itself with exit code {error.exit_code}, without a result."
    notes = getattr(error, "__notes__", [])
    return {"status": status, "reason": reason, "message": message, "traceback": "\n".join(notes)}


def _check_image_size(trial: Trial) -> None:
    height, width, _ = trial.prepared.info.image_shape
    least = trial.architecture.info.min_size
    if min(height, width) < least:
        raise UnsuitableError(
            f"{trial.spec.architecture.label} needs images of at least {least}x{least} pixels; "
            f"{trial.spec.dataset.label} has {height}x{width}."
        )
