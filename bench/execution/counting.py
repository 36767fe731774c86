"""What the models of planned trials cost: from earlier records, or else counted from models that forks build."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.api import ImageShape
from bench.errors import BenchError
from bench.execution.planning import Trial
from bench.execution.server import ForkServer
from bench.execution.work import Place, ServerDiedError, WorkDiedError, WorkFailedError
from bench.plugins import Plugin
from bench.records import TrialRecord
from bench.spec import TrialSpec

MOST_SECONDS = 60  # for one model; a fork that takes longer is killed, and its model's cost stays unknown


@dataclass(frozen=True)
class Counts:
    """What a model costs: parameters, and multiply-adds and activations for one image; None where not known."""

    parameters: int
    macs: int | None
    activations: int | None


def model_key(spec: TrialSpec) -> Hashable:
    """Return what two trials share that train the same model on images of the same shape and classes."""
    return spec.architecture.label, spec.architecture.source_hash, spec.dataset.label, spec.data_fingerprint


def recorded_counts(records: Iterable[TrialRecord]) -> dict[Hashable, Counts]:
    """Return the costs that records tell, by `model_key`."""
    found = {}
    for record in records:
        parameters, macs, activations = (figure(record.metrics, name) for name in ("parameters", "macs", "activations"))
        if parameters is not None and macs is not None and activations is not None:
            found[model_key(record.spec)] = Counts(round(parameters), round(macs), round(activations))
    return found


def figure(values: Mapping[str, Any], name: str) -> float | None:
    """Return a figure of a record; None where it has none, or no number above 0, for anybody may have written it."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 < value < math.inf else None


def count_missing(
    trials: Iterable[Trial], known: Mapping[Hashable, Counts], seconds: int = MOST_SECONDS
) -> dict[Hashable, Counts]:
    """Return the known costs and those of the other trials' models, counted now; what cannot be counted is absent.

    Counting one may take so many seconds.
    """
    found = dict(known)
    tried = set(known)
    for trial in trials:
        key = model_key(trial.spec)
        if key not in tried:
            tried.add(key)
            counts = _count(trial, seconds)
            found |= {} if counts is None else {key: counts}
    return found


def _count(trial: Trial, seconds: int) -> Counts | None:
    info = trial.prepared.info
    model = trial.architecture, trial.spec, info.image_shape, len(info.class_names)
    no_gpu = Place(variables={"CUDA_VISIBLE_DEVICES": "-1"})  # nothing is computed
    try:
        return ForkServer(trial.spec.backend).run(  # type: ignore[no-any-return]
            count_in_fork, *model, seconds, on_event=lambda _: None, place=no_gpu
        )
    except (BenchError, ServerDiedError, WorkDiedError, WorkFailedError):
        return None  # the trial itself will say what is wrong


def count_in_fork(
    plugin: Plugin, spec: TrialSpec, shape: ImageShape, classes: int, seconds: int, _send: Callable[[Any], None]
) -> Counts:
    """Build a model and count its cost; called in a fork."""
    signal.alarm(seconds)  # ends the process
    from bench.execution.model import build_model
    from bench.measurement.cost import count_cost

    cost = count_cost(build_model(plugin, spec, shape, classes), shape)
    return Counts(cost.parameters, cost.macs, cost.activations)
