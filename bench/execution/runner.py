"""Hands a sweep's trials to an engine, and turns whatever happens to them into records.

One thread, one loop: what is free gets the next trial, what has arrived is written down. Several processes can do that
with one results folder: a trial that another has claimed is left to it, and taken up if it dies.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bench.checkpoints import SECONDS
from bench.errors import StoreError, UnsuitableError
from bench.events import Epoch, Resumed
from bench.execution.engine import Engine, LostError, Setting, Unit
from bench.execution.failures import BrokenPluginError, failure_of
from bench.execution.job import TrialJob
from bench.execution.planning import Policy, Trial, too_small
from bench.execution.profiles import Profiles
from bench.execution.signals import sigterm_as_interrupt, uninterrupted
from bench.execution.work import End, Event, Limits
from bench.records import CONTINUABLE, Reason, Status, TrialRecord
from bench.store import Attempt, Store

POLL_SECONDS = 1.0
MOST_LOSSES = 3  # after so many, the trial itself is taken for the cause


class Observer:
    """Watches a sweep; this one does nothing about it. A trial is named by the number that it has while it runs."""

    def trial_started(self, number: int, trial: Trial, units: Sequence[Unit]) -> None:
        """See a trial start."""

    def trial_event(self, number: int, event: Any) -> None:
        """See what a running trial sent: one of `bench.events`."""

    def trial_ended(self, number: int, record: TrialRecord) -> None:
        """See a trial's record, once it has been written."""

    def trial_lost(self, number: int, why: str) -> None:
        """See a running trial go back to those that wait, since what ran it is gone."""

    def trial_left(self, trial: Trial) -> None:
        """See a trial that another process has ended meanwhile."""

    def looked(self, waiting: int, elsewhere: int) -> None:
        """See the loop go round, about every second: how many trials wait, and how many others work on."""

    def ending(self) -> None:
        """See the sweep begin to end early: what runs is asked to save."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How trials are run.

    Attributes:
        logits_dtype: of stored predictions.
        policy: which trials are run again.
        limits: of each trial.
        checkpoint_seconds: from one saving of a training's state to the next.
        exclusive: whether a trial that is measured in full has its machine for itself.

    """

    logits_dtype: str = "float32"
    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    checkpoint_seconds: float = SECONDS
    exclusive: bool = False


@dataclass
class Running:
    """A trial that an engine works on."""

    trial: Trial
    units: tuple[Unit, ...]
    setting: Setting
    attempt: Attempt
    alone: bool
    started: float = field(default_factory=time.monotonic)
    seconds_before: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    others: int = 0

    def see(self, event: Any) -> None:
        """Note what belongs into the record."""
        if isinstance(event, Epoch):
            self.history.append(event)
        elif isinstance(event, Resumed):
            self.history, self.seconds_before = list(event.history), event.seconds


class Runner:
    """Runs trials, and leaves a record of each."""

    def __init__(self, store: Store, engine: Engine, observer: Observer, profiles: Profiles, options: Options) -> None:
        self.store, self.engine, self.observer = store, engine, observer
        self.profiles, self.options = profiles, options
        self.waiting: deque[Trial] = deque()
        self.elsewhere: list[Trial] = []
        self.running: dict[int, Running] = {}
        self.arrived: deque[Event | End] = deque()  # what the engine has told, and is still to be dealt with
        self.losses: Counter[str] = Counter()
        self.unstarted = 0  # numbers of trials that end without having run: below 0

    def run(self, trials: Sequence[Trial], known: Mapping[str, set[str]]) -> None:
        """Run the trials.

        Args:
            trials: what is to be run, in this order.
            known: the names of the attempts that each trial had when that was decided.

        Raises:
            KeyboardInterrupt: after what ran was saved and recorded as interrupted.
            StoreError: a record cannot be written.
            BackendError: a backend cannot be used.

        """
        self.waiting.extend(trials)
        self.known = known
        with sigterm_as_interrupt():
            try:
                while self.waiting or self.running or self.elsewhere:
                    self._start_what_fits()
                    self._receive()
                    self.observer.looked(len(self.waiting), len(self.elsewhere))
            finally:
                self._wind_down()

    def _start_what_fits(self) -> None:
        if not self.waiting and not self.running:  # what others have claimed may be free by now
            self.waiting.extend(self.elsewhere)
            self.elsewhere.clear()
        while self.waiting:
            place = self._find_place(self.waiting[0])
            if place is None:
                return
            self._begin(self.waiting.popleft(), *place)

    def _find_place(self, trial: Trial) -> tuple[tuple[Unit, ...], Setting, bool] | None:
        """Return free units for the trial, what it finds there, and whether it must stay alone on their machine."""
        machines: dict[str, list[Unit]] = {}
        for unit in self.engine.units():
            machines.setdefault(unit.machine, []).append(unit)
        for units in machines.values():
            working = self._on(units[0].machine)
            taken = {unit for each in working for unit in each.units}
            free = [unit for unit in units if unit not in taken]
            if not free or any(each.alone for each in working):
                continue
            setting = self.engine.setting(free[:1], trial.spec.backend)
            needed = trial.spec.devices if setting.device.kind == "GPU" else 1
            alone = self.options.exclusive and self._is_full(trial, setting)
            last_try = self.losses[trial.spec.trial_id] == MOST_LOSSES - 1  # alone, so that no other is lost with it
            alone = alone or last_try
            if len(free) >= needed and not (alone and working):
                return tuple(free[:needed]), setting, alone
        return None

    def _on(self, machine: str) -> list[Running]:
        return [each for each in self.running.values() if each.units[0].machine == machine]

    def _begin(self, trial: Trial, units: tuple[Unit, ...], setting: Setting, alone: bool) -> None:
        """Claim the trial, and start it, unless that is another process's or needs no process."""
        attempt = self.store.begin(trial.spec.trial_id)
        if attempt is None:
            self.elsewhere.append(trial)
            return
        if not self.options.policy.force and self._has_ended(trial, setting):
            attempt.abandon()
            self.observer.trial_left(trial)
            return
        if self.options.policy.force:
            attempt.checkpoint.unlink(missing_ok=True)
        run = Running(trial, units, setting, attempt, alone)
        try:
            _check(trial)
            number = self._start(run)
        except (BrokenPluginError, UnsuitableError) as error:
            self.unstarted -= 1
            self.observer.trial_started(self.unstarted, trial, units)
            self._finish(self.unstarted, run, End(self.unstarted, error=error))
            return
        except BaseException:
            attempt.abandon()
            raise
        run.started = time.monotonic()  # what it took to import a backend is not the trial's
        self.running[number] = run
        self.observer.trial_started(number, trial, units)
        together = self._on(units[0].machine)
        for each in together:
            each.others = max(each.others, len(together) - 1)

    def _has_ended(self, trial: Trial, setting: Setting) -> bool:
        """Return whether the trial has ended since it was planned, by another process's doing."""
        trial_id = trial.spec.trial_id
        new = self.store.attempts(trial_id) - self.known.get(trial_id, set())
        return bool(new) and any(
            record.attempt in new
            and record.status != Status.INTERRUPTED
            and record.environment.machine == setting.environment.machine
            for record in self.store.read([trial_id]).records
        )

    def _is_full(self, trial: Trial, setting: Setting) -> bool:
        """Return whether latency and so on are measured with this trial: not with each candidate of a search."""
        return not trial.spec.tuning and self.profiles.is_missing(trial.spec, setting.environment)

    def _start(self, run: Running) -> int:
        trial, setting = run.trial, run.setting
        full = self._is_full(trial, setting)
        if full:
            self.profiles.reserve(trial.spec, setting.environment)
        job = TrialJob(
            trial=trial,
            device=setting.device,
            folder=run.attempt.folder.resolve(),
            logits_dtype=self.options.logits_dtype,
            full=full,
            peak_flops=self.engine.peak(run.units[0], trial.spec.backend, trial.spec.precision, measure=False),
            checkpoint=run.attempt.checkpoint.parent.resolve() / run.attempt.checkpoint.name,  # no link is followed
            checkpoint_seconds=self.options.checkpoint_seconds,
            checkpoint_key=f"{trial.spec.trial_id}\n{setting.environment.machine}\n{setting.environment.software}",
        )
        return self.engine.start(job, run.units, self.options.limits)

    def _receive(self) -> None:
        self.arrived.extend(self.engine.poll(POLL_SECONDS))
        while self.arrived:
            message = self.arrived.popleft()
            if isinstance(message, Event):
                self._see(message)
                continue
            with uninterrupted():  # it was taken from the engine, which will not tell it again
                self._end_or_try_again(message)

    def _see(self, event: Event) -> None:
        self.running[event.number].see(event.value)
        self.observer.trial_event(event.number, event.value)

    def _end_or_try_again(self, end: End) -> None:
        run = self.running.pop(end.number)
        if isinstance(end.error, LostError) and self._may_try_again(run.trial):
            run.attempt.abandon()
            self.waiting.appendleft(run.trial)
            self.observer.trial_lost(end.number, str(end.error))
        else:
            self._finish(end.number, run, end)

    def _may_try_again(self, trial: Trial) -> bool:
        self.losses[trial.spec.trial_id] += 1
        return self.losses[trial.spec.trial_id] < MOST_LOSSES

    def _finish(self, number: int, run: Running, end: End) -> None:
        """Write the record, whichever way the trial ended.

        Raises:
            StoreError: it cannot be written, or the trial found the disk full.

        """
        spec, environment = run.trial.spec, run.setting.environment
        if end.error is None:
            ended: dict[str, Any] = {"status": Status.OK, **_with_company(end.result, run.others)}
        else:
            ended = failure_of(end.error, spec, run.setting.device.kind) | {"log_tail": run.attempt.log_tail()}
        record = TrialRecord(
            trial_id=spec.trial_id,
            attempt=run.attempt.name,
            spec=spec,
            environment=environment,
            started_at=run.attempt.started.isoformat(),
            seconds=run.seconds_before + time.monotonic() - run.started,
            **ended,
        )
        with uninterrupted():
            run.attempt.commit(record, run.history, keep_checkpoint=record.reason in CONTINUABLE)
        self.profiles.note(record)
        self.observer.trial_ended(number, record)
        if record.reason == Reason.DISK_FULL:
            raise StoreError(f"{record.message} Free some space; the same command goes on with what has not ended.")

    def _wind_down(self) -> None:
        """End what still runs: it may save what it has; a second Ctrl-C ends it at once."""
        if not self.running:
            return
        try:
            with suppress(OSError):  # nobody may read our output any more
                self.observer.ending()
            for number in self.running:
                self.engine.stop(number)
            self._wait_for_ends()
        except KeyboardInterrupt:
            with uninterrupted():
                for number in self.running:
                    self.engine.kill(number)
                self._wait_for_ends()

    def _wait_for_ends(self) -> None:
        while self.running:
            self.arrived.extend(self.engine.poll(0 if self.arrived else POLL_SECONDS))
            while self.arrived:
                with suppress(StoreError, OSError):  # what had this sweep end may be that: a full disk, a closed output
                    self._take_last(self.arrived.popleft())
            with suppress(OSError):
                self.observer.looked(len(self.waiting), len(self.elsewhere))

    def _take_last(self, message: Event | End) -> None:
        if isinstance(message, Event):
            self._see(message)
            return
        with uninterrupted():
            self._finish(message.number, self.running.pop(message.number), message)


def _check(trial: Trial) -> None:
    """Raise for a trial that needs no process to fail."""
    if trial.architecture.error:
        raise BrokenPluginError(f"{trial.architecture.path}: {trial.architecture.error}")
    if too_small(trial.architecture, trial.prepared):
        least, (height, width, _) = trial.architecture.info.min_size, trial.prepared.info.image_shape
        raise UnsuitableError(
            f"{trial.spec.architecture.label} needs images of at least {least}x{least} pixels; "
            f"{trial.spec.dataset.label} has {height}x{width}."
        )


def _with_company(outcome: Any, others: int) -> dict[str, Any]:
    """Return the parts of an outcome, with how many other trials ran on the machine at the same time."""
    metrics = dict(outcome.metrics)
    if others:
        note = f"up to {others} other trial{'s' * (others != 1)} ran on the machine at the same time."
        for notes in ("timing_notes", *(["profile_notes"] if "profile_notes" in metrics else [])):
            metrics[notes] = [*metrics.get(notes, []), note]
    return {"metrics": metrics, "phases": outcome.phases, "resolved": {**outcome.resolved, "other_trials": others}}
