"""Which trials a sweep has, and which of them have not ended yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.data.cache import DataInfo, DataSource, Prepared, find, prepare
from bench.data.splits import held_out
from bench.errors import DataError, UsageError
from bench.execution.server import ForkServer
from bench.execution.work import WorkDiedError, WorkFailedError
from bench.plugins import Plugin, PluginChoice
from bench.recipes import Recipe
from bench.records import Status, TrialRecord, last_attempts
from bench.spec import PluginSpec, TrialSpec


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
    prepared: Prepared


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Which trials are run although they have ended before."""

    force: bool = False
    retry_failed: bool = False


def prepare_sources(
    sources: Sequence[DataSource], server: ForkServer, progress: Callable[[str, int, int], None]
) -> list[Prepared]:
    """Return each data set in the cache, after preparing those that are not there yet.

    Raises:
        DataError, PluginError: a data set cannot be had.

    """
    known = [find(source) for source in sources]  # all of them first: what is absent shows within seconds
    return [found or _prepare(source, server, progress) for source, found in zip(sources, known, strict=True)]


def _prepare(source: DataSource, server: ForkServer, progress: Callable[[str, int, int], None]) -> Prepared:
    try:
        return server.run(prepare_in_fork, source, on_event=lambda event: progress(*event))  # type: ignore[no-any-return]
    except (WorkFailedError, WorkDiedError) as error:
        raise DataError(f"data set {source.choice.label} cannot be prepared: {error}") from error


def prepare_in_fork(source: DataSource, send: Callable[[Any], None]) -> Prepared:
    """Prepare a data set; called in a fork of the server."""
    return prepare(source, lambda what, done, total: send((what, done, total)))


def plan(request: Request, prepared: Sequence[Prepared]) -> list[Trial]:
    """Return the sweep's trials: seed by seed, so that a cut-off sweep has compared all architectures already.

    Raises:
        UsageError: the batch is larger than a training set.

    """
    for source, data in zip(request.sources, prepared, strict=True):
        _check_batch_size(request.recipe, source, data.info)
    trials = [
        _trial(request, architecture, source, data, seed)
        for source, data in zip(request.sources, prepared, strict=True)
        for seed in range(request.seeds)
        for architecture in request.architectures
    ]
    return list({trial.spec.trial_id: trial for trial in trials}.values())  # what is named twice runs once


def remaining(trials: Sequence[Trial], records: Sequence[TrialRecord], machine: str, policy: Policy) -> list[Trial]:
    """Return the trials that have not ended on this machine, and those that the policy runs again."""
    here = [record for record in records if record.environment.machine == machine]
    last = last_attempts(here, lambda record: record.trial_id)

    def runs(trial: Trial) -> bool:
        record = last.get(trial.spec.trial_id)
        if policy.force or record is None or record.status == Status.INTERRUPTED:
            return True
        return policy.retry_failed and record.status.is_failure

    return [trial for trial in trials if runs(trial)]


def _trial(request: Request, architecture: PluginChoice, source: DataSource, data: Prepared, seed: int) -> Trial:
    spec = TrialSpec(
        architecture=_plugin_spec(architecture),
        dataset=_plugin_spec(source.choice),
        data_fingerprint=data.info.fingerprint,
        recipe=request.recipe,
        precision=request.precision,
        backend=request.backend,
        seed=seed,
    )
    return Trial(spec, architecture.plugin, source, data)


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
