"""What planned trials will take: time, memory and disk, from earlier records or else from what their models cost."""

from __future__ import annotations

import dataclasses
import heapq
import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.data.splits import held_out
from bench.environment import Environment
from bench.execution.counting import Counts, model_key
from bench.execution.planning import Trial
from bench.records import Status, TrialRecord
from bench.spec import TrialSpec

FLOPS = 6  # for each multiply-add of a forward pass, in training: two, and a backward pass is twice the forward one
PEAK_SHARE = 0.25  # of the matrix-product peak, where there are no records to say better
RECORD_BYTES = 100_000  # of a trial without its predictions: record, history, log, layers
LOGIT_BYTES = {"float32": 4, "float16": 2}
STATE_COPIES = {"sgd": 2, "adamw": 3}  # of the weights, in a training's saved state


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
            records: of whichever machines; those of other machines are left aside.
            environments: where the trials will run, by backend.
            counts: what models cost, by `model_key`, as `count_missing` returns it.
            peak_of: returns the matrix-product peak in FLOP/s with a backend in a precision, None where not known.

        """
        self._environments, self._counts, self._peak_of = environments, counts, peak_of
        self._rows: dict[Hashable, list[TrialRecord]] = defaultdict(list)
        self._settings: dict[Hashable, list[TrialRecord]] = defaultdict(list)
        for record in records:
            if record.status == Status.OK:
                self._rows[_place(record.spec, record.environment), _row(record.spec)].append(record)
                self._settings[_place(record.spec, record.environment)].append(record)

    def estimate(self, trial: Trial, logits: str) -> Estimate:
        """Return what a trial will take, its predictions stored as `logits` says (`float32` or `float16`)."""
        counts = self._counts.get(model_key(trial.spec))
        place = _place(trial.spec, self._environments[trial.spec.backend])
        same, others = self._rows.get((place, _row(trial.spec)), []), self._settings.get(place, [])
        return Estimate(
            trial=trial,
            seconds=_of_the_same(same, "seconds", statistics.median) or self._seconds(trial, counts, others),
            memory_bytes=_of_the_same(same, "peak_memory_bytes", max) or _memory(trial, counts, others),
            disk_bytes=disk_bytes(trial, logits),
            state_bytes=2 * STATE_COPIES[trial.spec.recipe.optimizer] * 4 * counts.parameters if counts else None,
        )

    def _seconds(self, trial: Trial, counts: Counts | None, others: Sequence[TrialRecord]) -> Figure:
        """Estimate from the speeds of other trials here: of the same architecture if there are any, else of all."""
        timed = [record for record in others if record.metrics.get("train_images_per_second")]
        alike = [record for record in timed if record.spec.architecture.label == trial.spec.architecture.label]
        same_images = [record for record in alike if record.spec.dataset.label == trial.spec.dataset.label]
        if same_images:
            speed = statistics.median(record.metrics["train_images_per_second"] for record in same_images)
            return _at_speed(trial, speed, same_images, f"speed of {_counted(same_images)} on these images")
        if counts is None or not counts.macs:
            return Figure(None, "unknown: no records on these images, and no count of MACs")
        return (
            self._at_rate(trial, counts.macs, alike, "of the architecture")
            or self._at_rate(trial, counts.macs, timed, "of other architectures")
            or self._at_peak(trial, counts.macs)
        )

    def _at_rate(self, trial: Trial, macs: int, records: Sequence[TrialRecord], whose: str) -> Figure | None:
        known = [record for record in records if self._rate(record) is not None]
        if not known:
            return None
        rate = statistics.median(self._rate(record) or 0.0 for record in known)
        basis = f"MACs at {rate / 1e9:,.3g} GFLOP/s, from {_counted(known)} {whose}"
        return _at_speed(trial, rate / FLOPS / macs, known, basis)

    def _at_peak(self, trial: Trial, macs: int) -> Figure:
        peak = self._peak_of(trial.spec.backend, trial.spec.precision)
        if not peak:
            return Figure(None, "unknown: no records to go by")
        basis = f"MACs at {PEAK_SHARE:.0%} of the matrix-product peak of {peak / 1e9:,.3g} GFLOP/s"
        return _at_speed(trial, PEAK_SHARE * peak / FLOPS / macs, [], basis)

    def _rate(self, record: TrialRecord) -> float | None:
        """Return the FLOP/s that a training reached; None where its MACs are not known."""
        counts = self._counts.get(model_key(record.spec))
        macs = counts.macs if counts else record.metrics.get("macs")
        return FLOPS * macs * record.metrics["train_images_per_second"] if macs else None


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


def _place(spec: TrialSpec, environment: Environment) -> Hashable:
    return environment.machine, environment.cores_used, spec.backend, spec.precision, spec.devices


def _row(spec: TrialSpec) -> Hashable:
    return dataclasses.replace(spec, seed=0).trial_id


def _of_the_same(records: Sequence[TrialRecord], name: str, choose: Callable[[Any], float]) -> Figure | None:
    """Return what trials took that differ in the seed alone; None where there are none."""
    values = [record.seconds if name == "seconds" else record.metrics.get(name) for record in records]
    known = [value for value in values if value is not None]
    return Figure(choose(known), f"{_counted(records)} of the same setting") if known else None


def _at_speed(trial: Trial, speed: float, records: Sequence[TrialRecord], basis: str) -> Figure:
    """Return the seconds of a training at this speed in images/s, and what the records took besides training."""
    recipe, counts = trial.spec.recipe, trial.prepared.info.counts
    images = counts["train"] - held_out(counts, recipe.validation_fraction)
    besides = [
        record.seconds - record.resolved["steps"] * record.spec.recipe.batch_size / speed_
        for record in records
        if (speed_ := record.metrics["train_images_per_second"]) and "steps" in record.resolved
    ]
    rest = max(0.0, statistics.median(besides)) if besides else 0.0
    return Figure(images * recipe.total_epochs(images) / speed + rest, basis)


def _memory(trial: Trial, counts: Counts | None, others: Sequence[TrialRecord]) -> Figure:
    spec = trial.spec
    measured = [record for record in others if record.metrics.get("peak_memory_bytes")]
    alike = [
        record.metrics["peak_memory_bytes"]
        for record in measured
        if model_key(record.spec) == model_key(spec) and record.spec.recipe.batch_size == spec.recipe.batch_size
    ]
    if alike:
        return Figure(max(alike), "the same model and batch size, trained otherwise")
    if counts is None or counts.activations is None:
        return Figure(None, "unknown: no such records, and no count of activations")
    least = min((record.metrics["peak_memory_bytes"] for record in measured), default=0)
    width = 4 if spec.precision == "float32" else 2
    weights = (1 + STATE_COPIES[spec.recipe.optimizer]) * 4 * counts.parameters
    basis = "parameters and activations" + (", on top of the smallest trial here" if least else ", the backend aside")
    return Figure(least + weights + width * counts.activations * spec.recipe.batch_size, basis)


def _counted(records: Sequence[TrialRecord]) -> str:
    return f"{len(records)} record{'s' * (len(records) != 1)}"
