"""What a trained model is worth on held-out images, from the logits of every image exactly once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.api import ImageShape
from bench.data.augmentation import Allowed, weighted_views
from bench.data.pipeline import batches, prefetch
from bench.data.splits import Subset

if TYPE_CHECKING:
    from bench.backends.interface import Steps

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]
BATCH_SIZE = 256
ECE_BINS = 15
NOTHING = Allowed(crop=False, recolor=False)
TOP_K = 5


@dataclass(frozen=True)
class Scores:
    """Scores of logits against labels. Accuracies are fractions, the log-likelihood is in nats an image.

    `top5_accuracy` is None below 6 classes; a class without test images has None in `per_class_accuracy`.
    """

    accuracy: float
    top5_accuracy: float | None
    nll: float
    ece: float
    per_class_accuracy: tuple[float | None, ...]
    confusion_matrix: npt.NDArray[np.int64]


def collect_logits(
    steps: Steps, subset: Subset, shape: ImageShape, test_time: str = "none", allowed: Allowed = NOTHING
) -> npt.NDArray[np.float32]:
    """Return the logits of every image of the subset exactly once, in order: float32 (images, classes).

    With `test_time`, those of several views of each are averaged, as far as the views are allowed.
    """
    parts = []
    for batch in prefetch(batches(subset, shape, BATCH_SIZE)):
        views = weighted_views(batch, test_time, allowed) if test_time != "none" else ((1.0, batch),)
        parts.append(sum(np.float32(weight) * predict(steps, view) for weight, view in views))
    return np.concatenate(parts)


def predict(steps: Steps, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return a batch's logits; where XLA would compile each new size, a smaller batch is filled up with zeros."""
    missing = BATCH_SIZE - len(batch)
    if not steps.tuning.jit_compile or missing <= 0:
        return steps.predict(batch)
    return steps.predict(np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0))))[: len(batch)]


def score(logits: Floats, labels: Labels) -> Scores:
    """Score logits (images, classes) against labels (images,)."""
    from sklearn.metrics import accuracy_score, confusion_matrix, top_k_accuracy_score

    classes = np.arange(logits.shape[1])
    predicted = logits.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, labels=classes)
    enough = len(classes) > TOP_K
    return Scores(
        accuracy=float(accuracy_score(labels, predicted)),
        top5_accuracy=float(top_k_accuracy_score(labels, logits, k=TOP_K, labels=classes)) if enough else None,
        nll=negative_log_likelihood(logits, labels),
        ece=expected_calibration_error(logits, labels),
        per_class_accuracy=tuple(
            float(row[index] / row.sum()) if row.sum() else None for index, row in enumerate(confusion)
        ),
        confusion_matrix=confusion,
    )


def quick_scores(logits: Floats, labels: Labels) -> tuple[float, float]:
    """Return negative log-likelihood and accuracy, as a validation during training needs them."""
    return negative_log_likelihood(logits, labels), float((logits.argmax(axis=1) == labels).mean())


def negative_log_likelihood(logits: Floats, labels: Labels) -> float:
    """Return the mean negative log-likelihood in nats, from logits rather than probabilities, so that none is 0."""
    from scipy.special import log_softmax

    chosen = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    return float(-chosen.mean())


def expected_calibration_error(logits: Floats, labels: Labels, bins: int = ECE_BINS) -> float:
    """Return the top-label calibration error over equal-width bins of confidence (Guo et al. 2017, equation 3).

    Bin m holds the confidences in ((m-1)/bins, m/bins].
    """
    from scipy.special import softmax

    probabilities = softmax(logits.astype(np.float64), axis=1)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(number, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
