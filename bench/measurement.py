"""What is measured of a trial besides accuracy: seconds of each phase, inference speed, size, and peak memory."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

INFERENCE_SECONDS = 1.0
INFERENCE_LEAST_CALLS = 5
MOVING_STATISTICS = {"moving_mean", "moving_variance"}


class Stopwatch:
    """Collects the seconds of named phases, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside; a phase entered twice adds up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def inference_images_per_second(
    predict: Callable[[npt.NDArray[np.uint8]], Any],
    images: npt.NDArray[np.uint8],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return images/s of `predict` on one batch of images in host memory, its answer brought back to the host.

    One call is not counted (it may trace); then calls are repeated for a second, five times at least.
    """
    predict(images)
    start, calls = clock(), 0
    while calls < INFERENCE_LEAST_CALLS or clock() - start < INFERENCE_SECONDS:
        predict(images)
        calls += 1
    return calls * len(images) / (clock() - start)


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return the parameters, trainable and frozen, and the trainable ones alone.

    BatchNorm's moving statistics are state, not parameters; a frozen kernel is a parameter.
    """
    counted = [variable for variable in model.weights if variable.name not in MOVING_STATISTICS]
    return _size(counted), _size(model.trainable_variables)


def _size(variables: list[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def peak_memory_bytes(device: str) -> int:
    """Return the peak memory: of the device where it is a GPU, else of this process (resident set size)."""
    if device == "GPU":
        import tensorflow as tf

        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
