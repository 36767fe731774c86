"""Which trials a sweep has, which of them have not ended yet, and which are here again because a source changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.data.cache import DataInfo, DataSource, Prepared, find, prepare
from bench.data.splits import trained_images
from bench.errors import DataError, UsageError
from bench.execution.server import ForkServer
from bench.execution.work import WorkDiedError, WorkFailedError
from bench.plugins import Plugin, PluginChoice
from bench.recipes import Recipe
from bench.records import Status, TrialRecord, last_attempts
from bench.spec import AlsoSpec, PluginSpec, TrialSpec


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A combination of the sweep's axes, with what its names stand for; `precision` is never `auto`."""

    architecture: PluginChoice
    source: DataSource
    recipe: Recipe
    precision: str
    backend: str
    devices: int
    seed: int
    train_fraction: float = 1.0
    evaluate_also: tuple[DataSource, ...] = ()
    tuning: bool = False


@dataclass(frozen=True)
class Also:
    """A further data set that a trained model is evaluated on."""

    source: DataSource
    prepared: Prepared


@dataclass(frozen=True)
class Trial:
    """A trial of the sweep, with what running it takes."""

    spec: TrialSpec
    architecture: Plugin
    source: DataSource
    prepared: Prepared
    also: tuple[Also, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Which trials are run although they have ended before."""

    force: bool = False
    retry_failed: bool = False

    def runs(self, last: TrialRecord | None) -> bool:
        """Return whether a trial whose last record this is is to be run."""
        if self.force or last is None or last.status == Status.INTERRUPTED:
            return True
        return self.retry_failed and last.status.is_failure


def prepare_sources(
    sources: Iterable[DataSource], server: ForkServer, progress: Callable[[str, int, int], None]
) -> dict[str, Prepared]:
    """Return each data set in the cache, by its label, after preparing those that are not there yet.

    Raises:
        DataError, PluginError: a data set cannot be had.

    """
    by_label = {source.choice.label: source for source in sources}
    known = {label: find(source) for label, source in by_label.items()}  # all first: what is absent shows in seconds
    return {label: known[label] or _prepare(source, server, progress) for label, source in by_label.items()}


def _prepare(source: DataSource, server: ForkServer, progress: Callable[[str, int, int], None]) -> Prepared:
    try:
        return server.run(prepare_in_fork, source, on_event=lambda event: progress(*event))  # type: ignore[no-any-return]
    except (WorkFailedError, WorkDiedError) as error:
        raise DataError(f"data set {source.choice.label} cannot be prepared: {error}") from error


def prepare_in_fork(source: DataSource, send: Callable[[Any], None]) -> Prepared:
    """Prepare a data set; called in a fork of the server."""
    return prepare(source, lambda what, done, total: send((what, done, total)))


def plan(choices: Iterable[Choice], prepared: Mapping[str, Prepared]) -> list[Trial]:
    """Return the sweep's trials, in the order of the choices; what is named twice is one trial.

    Raises:
        UsageError: a batch is larger than a training set, or cannot be shared out over the devices, or mixed there.

    """
    trials: dict[str, Trial] = {}
    checked: set[tuple[Recipe, str, str, int, float]] = set()
    for choice in choices:
        data = prepared[choice.source.choice.label]
        key = choice.recipe, choice.source.choice.label, choice.backend, choice.devices, choice.train_fraction
        if key not in checked:
            _check_batches(choice, data.info)
            checked.add(key)
        also = tuple(Also(source, prepared[source.choice.label]) for source in choice.evaluate_also)
        trial = _trial(choice, data, () if choice.tuning else also)
        trials.setdefault(trial.spec.trial_id, trial)
    return list(trials.values())


def remaining(
    trials: Sequence[Trial], records: Sequence[TrialRecord], machines: set[str], policy: Policy
) -> list[Trial]:
    """Return the trials that have not ended on these machines, and those that the policy runs again."""
    last = last_of(records, machines)
    return [trial for trial in trials if policy.runs(last.get(trial.spec.trial_id))]


def too_small(architecture: Plugin, data: Prepared) -> bool:
    """Return whether a data set's images are smaller than the architecture takes, so that its trials are skipped."""
    return not architecture.error and min(data.info.image_shape[:2]) < architecture.info.min_size


def last_of(records: Iterable[TrialRecord], machines: set[str]) -> Mapping[Any, TrialRecord]:
    """Return the last record of each trial on these machines, by its id."""
    here = [record for record in records if record.environment.machine in machines]
    return last_attempts(here, lambda record: record.trial_id)


def stale(trials: Sequence[Trial], records: Sequence[TrialRecord]) -> dict[str, str]:
    """Return why trials that had ended are trials of the sweep again, by their ids: what of them has changed."""
    ended: dict[Any, TrialSpec] = {
        _without_sources(record.spec): record.spec for record in records if record.status != Status.INTERRUPTED
    }
    known = {record.trial_id for record in records}
    found = {}
    for trial in trials:
        before = None if trial.spec.trial_id in known else ended.get(_without_sources(trial.spec))
        if before is not None:
            found[trial.spec.trial_id] = "; ".join(_changes(before, trial.spec))
    return found


def _changes(before: TrialSpec, now: TrialSpec) -> Iterator[str]:
    for kind, old, new in (
        ("architecture", before.architecture, now.architecture),
        ("data set", before.dataset, now.dataset),
    ):
        if old.source_hash != new.source_hash:
            yield f"the file of {kind} {new.name} has changed"
        for name in sorted({*old.modules, *new.modules}):
            if old.modules.get(name) != new.modules.get(name):
                module = name.removeprefix(".")
                yield f"{module}, which {kind} {new.name} imports, has changed"
    if before.data_fingerprint != now.data_fingerprint:
        yield f"the images of data set {now.dataset.name} have changed"
    if before.evaluate_also != now.evaluate_also:
        yield "what --evaluate-also names has changed"


def _without_sources(spec: TrialSpec) -> Any:
    parts = [spec.architecture.label, spec.dataset.label, spec.recipe, spec.precision, spec.backend]
    return *parts, spec.devices, spec.seed, spec.train_fraction, spec.tuning


def _trial(choice: Choice, data: Prepared, also: tuple[Also, ...]) -> Trial:
    spec = TrialSpec(
        architecture=_plugin_spec(choice.architecture),
        dataset=_plugin_spec(choice.source.choice),
        data_fingerprint=data.info.fingerprint,
        recipe=choice.recipe,
        precision=choice.precision,
        backend=choice.backend,
        devices=choice.devices,
        seed=choice.seed,
        train_fraction=choice.train_fraction,
        evaluate_also=tuple(
            AlsoSpec(dataset=_plugin_spec(each.source.choice), fingerprint=each.prepared.info.fingerprint)
            for each in also
        ),
        tuning=choice.tuning,
    )
    return Trial(spec, choice.architecture.plugin, choice.source, data, also)


def _plugin_spec(choice: PluginChoice) -> PluginSpec:
    return PluginSpec(
        name=choice.plugin.name,
        label=choice.label,
        parameters=dict(choice.parameters),
        source_hash=choice.plugin.source_hash,
        modules=dict(choice.plugin.modules.hashes),
    )


def _check_batches(choice: Choice, info: DataInfo) -> None:
    recipe, label = choice.recipe, choice.source.choice.label
    images = trained_images(info.counts, recipe.validation_fraction, choice.train_fraction)
    if recipe.batch_size > images:
        raise UsageError(
            f"a batch of {recipe.batch_size} is larger than the {images} training images of {label} "
            f"(of {info.counts['train']}, the rest is held out for validation or left out by --train-fraction). "
            "Set a smaller --batch-size."
        )
    if (recipe.mixup or recipe.cutmix) and choice.devices > 1 and choice.backend == "tensorflow":
        raise UsageError("mixup and cutmix mix images of a whole batch: on TensorFlow they need --devices 1.")
    parts = {"a batch of": recipe.batch_size}
    if not recipe.drop_remainder and images % recipe.batch_size:
        parts["the last batch of an epoch,"] = images % recipe.batch_size
    if not recipe.drop_remainder and choice.train_fraction < 1 and choice.devices > 1:
        raise UsageError("the last batch of a part of the images cannot be shared out: set drop_remainder=true.")
    for what, size in parts.items():
        if size % choice.devices:
            raise UsageError(
                f"{what} {size} cannot be shared out evenly over {choice.devices} devices. Set a --batch-size that is "
                f"a multiple of {choice.devices} (it is that of all devices together), and drop_remainder=true."
            )
