"""How fast a trained model answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

INFERENCE_SECONDS = 1.0
INFERENCE_LEAST_CALLS = 5


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
