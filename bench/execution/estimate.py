"""What planned trials will take: time, memory and disk, from earlier records or else from what their models cost."""

from __future__ import annotations

import dataclasses
import heapq
import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.data.splits import trained_images
from bench.environment import Environment
from bench.execution.counting import Counts, figure, model_key
from bench.execution.planning import Trial
from bench.recipes import Recipe
from bench.records import Status, TrialRecord
from bench.spec import TrialSpec
from bench.units import format_bytes

FLOPS = 6  # for each multiply-add of a forward pass, in training: two, and a backward pass is twice the forward one
BESIDES_SECONDS = 2.0  # of a trial that are not training, where there are no records to say better
PEAK_SHARE = 0.25  # of the matrix-product peak, where there are no records to say better
RECORD_BYTES = 100_000  # of a trial without its predictions: record, history, log, layers
LOGIT_BYTES = {"float32": 4, "float16": 2}
BACKEND_BYTES = 400e6  # about what a process takes that has imported one and trained next to nothing
STATE_COPIES = {"sgd": 2, "adam": 3, "adamw": 3, "lamb": 3, "lion": 2, "muon": 3}  # of weights, in a saved state


@dataclass(frozen=True)
class Figure:
    """An estimate, None where nothing is known, and in words what it rests on."""

    value: float | None
    basis: str


@dataclass(frozen=True)
class Estimate:
    """What one trial will take.

    Attributes:
        trial: the trial.
        seconds: from its start to its record.
        memory_bytes: at its peak.
        disk_bytes: what it leaves in the results folder, at most.
        state_bytes: what its saved state takes while it runs, at most; None where its parameters are not known.

    """

    trial: Trial
    seconds: Figure
    memory_bytes: Figure
    disk_bytes: int
    state_bytes: int | None


@dataclass(frozen=True)
class Total:
    """What all trials will take.

    Attributes:
        seconds: until the last one ends, those aside that nothing is known of.
        unknown: how many those are.
        memory_bytes: of the trials side by side, if the largest ones meet; None where nothing is known of any.
        disk_bytes: what they leave, and the saved states while they run.

    """

    seconds: float
    unknown: int
    memory_bytes: float | None
    disk_bytes: int


class Estimator:
    """Estimates trials from earlier records."""

    def __init__(
        self,
        records: Iterable[TrialRecord],
        environments: Mapping[str, Environment],
        counts: Mapping[Hashable, Counts],
        peak_of: Callable[[str, str], float | None],
    ) -> None:
        """Sort the records.

        Args:
            records: of whichever machines; those of other machines, and of other shares of its cores, tell nothing.
            environments: where the trials will run, by backend.
            counts: what models cost, by `model_key`, as `count_missing` returns it.
            peak_of: returns the matrix-product peak in FLOP/s with a backend in a precision, None where not known.

        """
        self._environments, self._counts, self._peak_of = environments, counts, peak_of
        self._groups: dict[Hashable, list[TrialRecord]] = defaultdict(list)
        self._summaries: dict[Hashable, _Summary] = {}
        for record in records:
            if record.status == Status.OK:
                for key in _keys(record.spec, record.environment).values():
                    self._groups[key].append(record)

    def estimate(self, trial: Trial, logits: str) -> Estimate:
        """Return what a trial will take, its predictions stored as `logits` says (`float32` or `float16`)."""
        counts = self._counts.get(model_key(trial.spec))
        keys = _keys(trial.spec, self._environments[trial.spec.backend])
        groups = {name: self._summary(key) for name, key in keys.items()}
        return Estimate(
            trial=trial,
            seconds=self._seconds(trial, counts, groups),
            memory_bytes=_memory(trial, counts, groups),
            disk_bytes=disk_bytes(trial, logits),
            state_bytes=2 * _copies(trial.spec.recipe) * 4 * counts.parameters if counts else None,
        )

    def _summary(self, key: Hashable) -> _Summary:
        if key not in self._summaries:
            self._summaries[key] = _summarize(self._groups.get(key, ()), self._counts)
        return self._summaries[key]

    def _seconds(self, trial: Trial, counts: Counts | None, groups: Mapping[str, _Summary]) -> Figure:
        """Estimate from the records that are most like the trial."""
        row, images = groups["row"], groups["images"]
        if row.seconds is not None:
            return Figure(row.seconds, f"{row.records} of the same setting")
        budget, known = trial.spec.recipe.budget_flops, counts is not None and counts.macs
        if images.speed is not None and (known or not budget):
            basis = f"speed of {images.records} on these images"
            return Figure(_images(trial, counts) / images.speed + images.besides, basis)
        if counts is None or not known:
            lacking = "of the same setting" if budget else "on these images"
            return Figure(None, f"unknown: no records {lacking}, and no count of MACs")
        flops = FLOPS * known * _images(trial, counts)
        for group, whose in ((groups["architecture"], "the architecture"), (groups["all"], "other architectures")):
            if group.rate is not None:
                basis = f"MACs at {group.rate / 1e9:,.3g} GFLOP/s, from {group.records} of {whose}"
                return Figure(flops / group.rate + group.besides, basis)
        peak = self._peak_of(trial.spec.backend, trial.spec.precision)
        if not peak:
            return Figure(None, "unknown: no records to go by")
        basis = f"MACs at {PEAK_SHARE:.0%} of the matrix-product peak of {peak / 1e9:,.3g} GFLOP/s"
        return Figure(flops / (PEAK_SHARE * peak) + BESIDES_SECONDS, basis)


def disk_bytes(trial: Trial, logits: str) -> int:
    """Return what a trial leaves in the results folder at most, its predictions not compressed."""
    classes, images = len(trial.prepared.info.class_names), trial.prepared.info.counts["test"]
    return images * (classes * LOGIT_BYTES[logits] + 4) + 4 * classes**2 + RECORD_BYTES


def total(estimates: Sequence[Estimate], jobs: int) -> Total:
    """Return what the trials will take in this order, `jobs` side by side; one on several devices takes as many."""
    free = [0.0] * jobs
    for each in estimates:
        taken = [heapq.heappop(free) for _ in range(min(each.trial.spec.devices, jobs))]
        for _ in taken:
            heapq.heappush(free, max(taken) + (each.seconds.value or 0.0))
    memory = [each.memory_bytes.value for each in estimates if each.memory_bytes.value is not None]
    states = [each.state_bytes for each in estimates if each.state_bytes is not None]
    return Total(
        seconds=max(free),
        unknown=sum(each.seconds.value is None for each in estimates),
        memory_bytes=sum(heapq.nlargest(jobs, memory)) if memory else None,
        disk_bytes=sum(each.disk_bytes for each in estimates) + sum(heapq.nlargest(jobs, states)),
    )


@dataclass(frozen=True)
class _Summary:
    """What a group of records tells: medians of what they have, None where none has it.

    Attributes:
        number: how many records there are.
        seconds: of a trial.
        speed: of training, in images/s.
        rate: of training, in FLOP/s.
        besides: seconds of a trial that were not training.
        memory: the least and the greatest peak.

    """

    number: int
    seconds: float | None
    speed: float | None
    rate: float | None
    besides: float
    memory: tuple[float, float] | None

    @property
    def records(self) -> str:
        return f"{self.number} record{'s' * (self.number != 1)}"


def _keys(spec: TrialSpec, environment: Environment) -> dict[str, Hashable]:
    """Return the groups that a trial belongs to, from the narrowest to the widest."""
    place = environment.machine, environment.cores_used, spec.backend, spec.precision, spec.devices
    architecture = spec.architecture.label
    return {
        "row": ("row", place, dataclasses.replace(spec, seed=0).trial_id),
        "model": ("model", place, model_key(spec), spec.recipe.batch_size),
        "images": ("images", place, architecture, spec.dataset.label),
        "architecture": ("architecture", place, architecture),
        "all": ("all", place),
    }


def _summarize(records: Sequence[TrialRecord], counts: Mapping[Hashable, Counts]) -> _Summary:
    speeds, rates, besides = [], [], []
    for record in records:
        speed, steps = figure(record.metrics, "train_images_per_second"), figure(record.resolved, "steps")
        if speed and steps:
            speeds.append(speed)
            besides.append(_seconds_of(record) - steps * record.spec.recipe.batch_size / speed)
            known = counts.get(model_key(record.spec))
            rates += [FLOPS * known.macs * speed] if known and known.macs else []
    peaks = [peak for record in records if (peak := figure(record.metrics, "peak_memory_bytes"))]
    return _Summary(
        number=len(records),
        seconds=_median([_seconds_of(record) for record in records]),
        speed=_median(speeds),
        rate=_median(rates),
        besides=max(0.0, _median(besides) or 0.0),
        memory=(min(peaks), max(peaks)) if peaks else None,
    )


def _seconds_of(record: TrialRecord) -> float:
    """Return what a trial took, without what is measured once for an architecture."""
    return record.seconds - record.phases.get("profile", 0.0)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _images(trial: Trial, counts: Counts | None) -> int:
    """Return how many images a trial trains on, each as often as it does."""
    recipe, splits = trial.spec.recipe, trial.prepared.info.counts
    images = trained_images(splits, recipe.validation_fraction, trial.spec.train_fraction)
    return recipe.batch_size * recipe.total_steps(images, counts.macs if counts else None)


def _copies(recipe: Recipe) -> int:
    """Return how many copies of the weights a training's state holds."""
    return STATE_COPIES[recipe.optimizer] + (recipe.average != "none")


def _memory(trial: Trial, counts: Counts | None, groups: Mapping[str, _Summary]) -> Figure:
    row, model, all_ = groups["row"], groups["model"], groups["all"]
    if row.memory:
        return Figure(row.memory[1], f"{row.records} of the same setting")
    if model.memory:
        return Figure(model.memory[1], f"{model.records} of the same model and batch size")
    if counts is None or counts.activations is None:
        return Figure(None, "unknown: no such records, and no count of activations")
    recipe, width = trial.spec.recipe, 4 if trial.spec.precision == "float32" else 2
    weights = (1 + _copies(recipe)) * 4 * counts.parameters
    beside = "the smallest trial here" if all_.memory else f"{format_bytes(BACKEND_BYTES)} for the backend"
    basis = f"parameters and activations on top of {beside}"
    least = all_.memory[0] if all_.memory else BACKEND_BYTES
    return Figure(least + weights + width * counts.activations * recipe.batch_size, basis)
