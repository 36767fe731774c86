"""Runs trials one after another, and turns whatever happens to them into a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.environment import Device, Environment
from bench.errors import UnsuitableError
from bench.events import Epoch
from bench.execution.failures import failure_of
from bench.execution.job import TrialJob
from bench.execution.planning import Trial
from bench.execution.profiles import Profiles
from bench.execution.server import ForkServer
from bench.execution.signals import sigterm_as_interrupt, uninterrupted
from bench.records import Outcome, Reason, Status, TrialRecord
from bench.store import Attempt, Store


class Observer(Protocol):
    """Watches a sweep."""

    def trial_started(self, trial: Trial) -> None:
        """See a trial's process about to start."""

    def trial_event(self, event: Any) -> None:
        """See what the running trial sent: a `Phase`, a `Step` or an `Epoch`."""

    def trial_ended(self, record: TrialRecord) -> None:
        """See a trial's record, once it has been written."""


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


def _check_image_size(trial: Trial) -> None:
    height, width, _ = trial.prepared.info.image_shape
    least = trial.architecture.info.min_size
    if min(height, width) < least:
        raise UnsuitableError(
            f"{trial.spec.architecture.label} needs images of at least {least}x{least} pixels; "
            f"{trial.spec.dataset.label} has {height}x{width}."
        )
