"""A sweep: which trials it has, which of them have ended before, and running the others one after another."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from bench.data.cache import DataInfo, DataSource, find, prepare
from bench.data.splits import held_out
from bench.environment import Device, Environment
from bench.errors import BenchError, DataError, DivergedError, PluginError, TrialError, UnsuitableError, UsageError
from bench.events import Epoch
from bench.execution import job
from bench.execution.server import ForkServer, WorkDiedError, WorkFailedError
from bench.plugins import Plugin, PluginChoice
from bench.recipes import Recipe
from bench.records import Outcome, Reason, Status, TrialRecord
from bench.spec import PluginSpec, TrialSpec
from bench.store import Attempt, Store

RETRIED = {Status.FAILED, Status.DIVERGED, Status.TIMEOUT}
OUT_OF_MEMORY = {"ResourceExhaustedError", "MemoryError"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for: every architecture on every data set with every seed."""

    architectures: Sequence[PluginChoice]
    sources: Sequence[DataSource]
    recipe: Recipe
    precision: str
    backend: str
    seeds: int


@dataclass(frozen=True)
class Trial:
    """A trial of the sweep, with what running it takes."""

    spec: TrialSpec
    architecture: Plugin
    source: DataSource
    info: DataInfo


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Which trials are run although they have ended before, and how their logits are stored."""

    force: bool = False
    retry_failed: bool = False
    logits_dtype: str = "float32"


class Observer(Protocol):
    """Watches a sweep."""

    def trial_started(self, trial: Trial) -> None:
        """A trial's process is about to start."""

    def trial_event(self, event: Any) -> None:
        """The running trial sent a `Phase`, a `Progress` or an `Epoch`."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial's record has been written."""


def prepare_sources(
    sources: Sequence[DataSource], server: ForkServer, progress: Callable[[str, int, int], None]
) -> list[DataInfo]:
    """Return what is known of each data set, after preparing those that are not in the cache yet.

    Raises:
        DataError, PluginError: a data set cannot be had.
    """
    known = [find(source) for source in sources]  # all of them first: what is absent shows within seconds
    return [info or _prepare(source, server, progress) for source, info in zip(sources, known, strict=True)]


def _prepare(source: DataSource, server: ForkServer, progress: Callable[[str, int, int], None]) -> DataInfo:
    try:
        return server.run(prepare_in_fork, source, on_event=lambda event: progress(*event))  # type: ignore[no-any-return]
    except (WorkFailedError, WorkDiedError) as error:
        raise DataError(f"data set {source.choice.label} cannot be prepared: {error}") from error


def prepare_in_fork(source: DataSource, send: Callable[[Any], None]) -> DataInfo:
    """Prepare a data set; called in a fork of the server."""
    return prepare(source, lambda what, done, total: send((what, done, total)))


def plan(request: Request, infos: Sequence[DataInfo]) -> list[Trial]:
    """Return the sweep's trials: seed by seed, so that a cut-off sweep has compared all architectures already.

    Raises:
        UsageError: the batch is larger than a training set.
    """
    for source, info in zip(request.sources, infos, strict=True):
        _check_batch_size(request.recipe, source, info)
    trials = [
        _trial(request, architecture, source, info, seed)
        for source, info in zip(request.sources, infos, strict=True)
        for seed in range(request.seeds)
        for architecture in request.architectures
    ]
    return list({trial.spec.trial_id: trial for trial in trials}.values())  # what is named twice runs once


def remaining(trials: Sequence[Trial], records: Sequence[TrialRecord], machine: str, policy: Policy) -> list[Trial]:
    """Return the trials that have not ended on this machine, and those that the policy runs again."""
    last = {record.trial_id: record for record in records if record.environment.machine == machine}

    def runs(trial: Trial) -> bool:
        record = last.get(trial.spec.trial_id)
        if policy.force or record is None or record.status == Status.INTERRUPTED:
            return True
        return policy.retry_failed and record.status in RETRIED

    return [trial for trial in trials if runs(trial)]


@dataclass(frozen=True)
class Runner:
    """Runs trials one after another, each in a fresh process, and leaves a record of each."""

    store: Store
    server: ForkServer
    device: Device
    environment: Environment
    policy: Policy
    observer: Observer

    def run(self, trials: Sequence[Trial]) -> list[TrialRecord]:
        """Run the trials and return their records.

        Raises:
            KeyboardInterrupt: after the running trial was recorded as interrupted.
            StoreError: a record cannot be written.
        """
        with _terminate_as_interrupt():
            return [self._run_one(trial) for trial in trials]

    def _run_one(self, trial: Trial) -> TrialRecord:
        attempt = self.store.begin(trial.spec.trial_id)
        self.observer.trial_started(trial)
        history: list[Epoch] = []
        start = time.monotonic()
        try:
            outcome = self._work(trial, attempt, history)
            ended: dict[str, Any] = {"status": Status.OK, **vars(outcome)}
        except (BenchError, WorkFailedError, WorkDiedError) as error:
            ended = failure_of(error)
        except KeyboardInterrupt:
            ended = {"status": Status.INTERRUPTED, "reason": Reason.USER, "message": "interrupted by the user"}
            self._finish(trial, attempt, history, start, ended)
            raise
        return self._finish(trial, attempt, history, start, ended)

    def _work(self, trial: Trial, attempt: Attempt, history: list[Epoch]) -> Outcome:
        _check_image_size(trial)
        work = job.TrialJob(
            trial.spec,
            trial.architecture,
            trial.source,
            trial.info,
            self.device,
            attempt.folder,
            self.policy.logits_dtype,
        )

        def receive(event: Any) -> None:
            if isinstance(event, Epoch):
                history.append(event)
            self.observer.trial_event(event)

        return self.server.run(job.run, work, on_event=receive, log=attempt.log)  # type: ignore[no-any-return]

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
        attempt.commit(record, history)
        self.observer.trial_ended(record)
        return record


def failure_of(error: BenchError | WorkFailedError | WorkDiedError) -> dict[str, Any]:
    """Return status, reason, message and traceback of a trial that raised, or whose process died."""
    status, reason, message = Status.FAILED, Reason.EXCEPTION, str(error)
    match error:
        case UnsuitableError():
            status, reason = Status.SKIPPED, Reason(error.reason)
        case DivergedError():
            status, reason = Status.DIVERGED, Reason(error.reason)
        case TrialError():
            reason = Reason(error.reason)
        case PluginError():
            reason = Reason.BAD_MODEL
        case DataError():
            reason = Reason.BAD_DATA
        case WorkFailedError() if error.failure.kind in OUT_OF_MEMORY:
            on_device = "GPU" in message
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


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that a job that is told to end leaves its record."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _trial(request: Request, architecture: PluginChoice, source: DataSource, info: DataInfo, seed: int) -> Trial:
    spec = TrialSpec(
        architecture=_plugin_spec(architecture),
        dataset=_plugin_spec(source.choice),
        data_fingerprint=info.fingerprint,
        recipe=request.recipe,
        precision=request.precision,
        backend=request.backend,
        seed=seed,
    )
    return Trial(spec, architecture.plugin, source, info)


def _plugin_spec(choice: PluginChoice) -> PluginSpec:
    return PluginSpec(
        name=choice.plugin.name,
        label=choice.label,
        parameters=dict(choice.parameters),
        source_hash=choice.plugin.source_hash,
    )


def _check_batch_size(recipe: Recipe, source: DataSource, info: DataInfo) -> None:
    images = info.counts["train"] - held_out(info.counts, recipe.validation_fraction)
    if recipe.batch_size > images:
        raise UsageError(
            f"a batch of {recipe.batch_size} is larger than the {images} training images of {source.choice.label} "
            f"(of {info.counts['train']}, the rest is held out for validation). Set a smaller --batch-size."
        )


def _check_image_size(trial: Trial) -> None:
    height, width, _ = trial.info.image_shape
    least = trial.architecture.info.min_size
    if min(height, width) < least:
        raise UnsuitableError(
            f"{trial.spec.architecture.label} needs images of at least {least}x{least} pixels; "
            f"{trial.spec.dataset.label} has {height}x{width}."
        )
