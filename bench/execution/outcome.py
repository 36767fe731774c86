"""What a trial measured, by the names of its record: docs/results.md describes each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras

from bench.checkpoints import add_phases
from bench.execution.scoring import Evaluation, also_metrics
from bench.measurement.cost import Cost, parameter_counts
from bench.measurement.energy import Energy
from bench.measurement.phases import Stopwatch
from bench.measurement.sharing import Sharing
from bench.measurement.windows import Steady
from bench.training import Training


def score_metrics(evaluation: Evaluation | None, trained: Training) -> dict[str, Any]:
    """Return how good the trained model is on test and validation images; a search for values sees the latter alone."""
    if evaluation is None:
        return {"validation_accuracy": trained.validation_accuracy}
    scores = evaluation.scores
    return {
        "test_accuracy": scores.accuracy,
        "test_top5_accuracy": scores.top5_accuracy,
        "test_nll": scores.nll,
        "test_ece": scores.ece,
        "test_per_class_accuracy": scores.per_class_accuracy,
        "test_time_accuracy": evaluation.test_time_accuracy,
        "validation_accuracy": trained.validation_accuracy,
        **also_metrics(evaluation.also),
    }


def speed_metrics(speed: Steady, trained: Training, shared: Sharing) -> dict[str, Any]:
    """Return the training speed, and what is to be said against it."""
    if trained.past.continued_at[-1:] == (trained.steps,):  # milliseconds have no share of a processor's time
        shared = replace(shared, other_cpu_share=None, steal_share=None)
    notes = [*([speed.note] if speed.note else []), *shared.notes, *_continuation(trained)]
    if trained.retraced:
        notes.append(f"the training step was compiled {trained.retraced} times more than its shapes need.")
    return {
        "train_images_per_second": speed.images_per_second,
        "train_images_per_second_q1": speed.q1,
        "train_images_per_second_q3": speed.q3,
        "train_images_per_second_low": speed.low,
        "train_images_per_second_high": speed.high,
        "train_images_per_second_mean": speed.mean_images_per_second,
        "train_windows": speed.windows,
        "train_steps_per_window": speed.steps_per_window,
        "train_settled": speed.settled,
        "timing_notes": notes,
        "load_average": shared.load_average,
        "other_cpu_share": shared.other_cpu_share,
        "steal_share": shared.steal_share,
    }


def _continuation(trained: Training) -> list[str]:
    """Return what is to be said of a continued training's timings."""
    steps = trained.past.continued_at
    if not steps:
        return []
    times, at = ("interruption", "step") if len(steps) == 1 else ("interruptions", "steps")
    return [
        f"continued after {len(steps)} {times} (at {at} {', '.join(map(str, steps))}); "
        "sharing was watched in the last part only."
    ]


def energy_metrics(energy: Energy | None, trained: Training, devices: int) -> dict[str, Any]:
    """Return what the training took, validation included; blank where no counter can be read, or saw a part alone:
    the last part of a continued training, or the first of several devices.
    """  # noqa: D205
    known = None if trained.past.continued_at or devices > 1 else energy
    return {
        "training_energy_joules": known.joules if known else None,
        "energy_scope": known.scope if known else None,
    }


def cost_metrics(cost: Cost, model: keras.Model) -> dict[str, Any]:
    """Return what the model costs."""
    parameters, trainable = parameter_counts(model)
    return {
        "parameters": parameters,
        "trainable_parameters": trainable,
        "macs": cost.macs,
        "flops": cost.flops,
        "activations": cost.activations,
        "product_activations": cost.product_activations,
        "cost_notes": [f"MACs are unknown: {', '.join(cost.unknown)} cannot be counted."] if cost.unknown else [],
    }


def phases(watch: Stopwatch, speed: Steady, trained: Training) -> dict[str, float]:
    """Return the seconds of each phase, in order; of a continued trial, those of earlier processes too."""
    steady_seconds = sum(block.seconds for block in trained.blocks) - speed.warmup_seconds
    taken = add_phases(watch.seconds, trained.past.phases)
    before = {name: taken[name] for name in ("data", "build")}
    after = {name: seconds for name, seconds in taken.items() if name not in before}
    training = {
        "first_step": trained.first_step_seconds,
        "warmup": speed.warmup_seconds,
        "training": steady_seconds,
        "validation": trained.validation_seconds,
    }
    return {**before, **training, **after}
