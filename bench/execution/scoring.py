"""What a trial's trained model is worth: on the test images, on several views of them, and on further data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.api import Split
from bench.backends.interface import Steps
from bench.data.cache import open_test_sets
from bench.data.splits import Subset, everything
from bench.errors import DivergedError
from bench.evaluation import Scores, collect_logits, score
from bench.execution.job import TrialJob
from bench.execution.setup import allowed
from bench.store import write_predictions


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth.

    Attributes:
        scores: on the test images.
        test_time_accuracy: on several views of each, where the recipe has them.
        also: by data set, the accuracy on each of its sets.

    """

    scores: Scores
    test_time_accuracy: float | None
    also: Mapping[str, Mapping[str, float]]


def evaluate(job: TrialJob, steps: Steps, test: Subset) -> Evaluation:
    """Score the model, and leave its predictions in the attempt's folder.

    Raises:
        DivergedError: its logits are not all finite.

    """
    shape, recipe = job.trial.prepared.info.image_shape, job.trial.spec.recipe
    labels, logits = test.split.labels, collect_logits(steps, test, shape)
    if not np.isfinite(logits).all():
        raise DivergedError("the trained model's logits of the test images are not all finite numbers.")
    scores = score(logits, labels)
    write_predictions(job.folder, logits.astype(job.logits_dtype), labels, scores.confusion_matrix)
    views = None
    if recipe.test_time != "none":
        averaged = collect_logits(steps, test, shape, recipe.test_time, allowed(job))
        views = float((averaged.argmax(axis=1) == labels).mean())
    return Evaluation(scores, views, _also(job, steps))


def also_metrics(also: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return the accuracies on further data sets, by the names of a record."""
    means = {name: float(np.mean(list(sets.values()))) for name, sets in also.items()}
    return {"also_accuracy": means, "also_sets": dict(also)} if also else {}


def _also(job: TrialJob, steps: Steps) -> dict[str, dict[str, float]]:
    shape = job.trial.prepared.info.image_shape
    found = {}
    for each in job.trial.also:
        sets = open_test_sets(each.source, each.prepared).sets
        found[each.source.choice.label] = {name: _accuracy(steps, split, shape) for name, split in sets.items()}
    return found


def _accuracy(steps: Steps, split: Split, shape: tuple[int, int, int]) -> float:
    logits = collect_logits(steps, everything(split), shape)
    return float((logits.argmax(axis=1) == split.labels).mean())
