"""How fast a trained model answers: one image after another, and batches of several sizes.

`predict` is given uint8 images (batch, height, width, channels) in host memory and has brought its answer back to host
memory when it returns.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BATCH_SIZES = (1, 8, 32, 128, 512)
MOST_INPUT_BYTES = 32 * 2**20
OBSERVATIONS_BEYOND = 10  # a percentile needs so many observations above it
LEAST_LATENCY_CALLS, MOST_LATENCY_CALLS = 20, 1_000  # the 50th percentile needs 20, the 99th 1,000
LEAST_BATCH_CALLS, MOST_BATCH_CALLS = 5, 1_000
WARMUP_GROUP = 5
WARMUP_TOLERANCE = 0.02
WARMUP_SHARE = 0.2  # of the time there is

Images = npt.NDArray[np.uint8]
Predict = Callable[[Images], Any]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency:
    """The milliseconds of an answer to one image. Percentiles are None where too few calls were made for them.

    `settled` says whether calls had stopped becoming faster when counting began.
    """

    first_call_ms: float
    warmup_calls: int
    settled: bool
    calls: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class BatchSpeed:
    """Images/s at one batch size, median and quartiles over calls; `best` marks the fastest size of its sweep."""

    batch_size: int
    first_call_seconds: float
    warmup_calls: int
    settled: bool
    calls: int
    images_per_second: float
    q1: float
    q3: float
    best: bool = False


@dataclass(frozen=True)
class BatchSweep:
    """Images/s over batch sizes, ascending. `note` says why larger sizes were not tried; empty if all were."""

    speeds: tuple[BatchSpeed, ...]
    note: str

    @property
    def best(self) -> BatchSpeed | None:
        """The fastest size; None where not even the smallest worked."""
        return next((each for each in self.speeds if each.best), None)


def single_image_latency(
    predict: Predict, images: Images, *, budget_seconds: float = 10.0, clock: Clock = time.perf_counter
) -> Latency:
    """Return how long an answer to one image takes, one after another, the given images in turn.

    The first call (it may trace and compile) is apart; then calls warm up until they no longer become faster; then
    1,000 calls count, or as many as begin within the budget, 20 at least.
    """
    one_by_one = _repeat([images[index : index + 1] for index in range(len(images))])
    timer = _Timer(predict, one_by_one, clock)
    first = timer.call()
    warmup_calls, settled = timer.warm_up(WARMUP_SHARE * budget_seconds)
    seconds = timer.measure((1 - WARMUP_SHARE) * budget_seconds, LEAST_LATENCY_CALLS, MOST_LATENCY_CALLS)
    p50, p95, p99 = (percentile(seconds, percent) for percent in (50, 95, 99))
    return Latency(1e3 * first, warmup_calls, settled, len(seconds), _ms(p50), _ms(p95), _ms(p99))


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Return a percentile (linear between observations); None where fewer than ten observations lie beyond it."""
    if len(values) * (100 - percent) < 100 * OBSERVATIONS_BEYOND:
        return None
    return float(np.percentile(values, percent))


def batch_sweep(
    predict: Predict,
    images: Images,
    *,
    sizes: Iterable[int] = BATCH_SIZES,
    most_input_bytes: int = MOST_INPUT_BYTES,
    is_out_of_memory: Callable[[Exception], bool] = lambda error: isinstance(error, MemoryError),
    budget_seconds: float = 2.0,
    clock: Clock = time.perf_counter,
) -> BatchSweep:
    """Return images/s at each batch size, from the smallest on.

    Args:
        predict: as in the module's description; may compile anew for each size.
        images: taken in order, and over again where a batch is larger.
        sizes: the batch sizes.
        most_input_bytes: larger batches of uint8 images are not tried. What a model needs for them is many times that.
        is_out_of_memory: of what `predict` raised, whether it only means that the batch is too large.
        budget_seconds: for each size, warm-up included; five calls count in any case. A size whose calls would
            probably take longer than that is not tried.
        clock: in seconds.

    Raises:
        Exception: what `predict` raised, if it is not for lack of memory.

    """
    speeds: list[BatchSpeed] = []
    note = ""
    for size in sorted(set(sizes)):
        note = _too_large(size, images, most_input_bytes) or _too_slow(size, speeds, budget_seconds)
        if note:
            break
        try:
            speeds.append(_batch_speed(predict, _batch(images, size), budget_seconds, clock))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            note = f"out of memory at a batch of {size}"
            break
    fastest = max(speeds, key=lambda each: each.images_per_second, default=None)
    return BatchSweep(tuple(dataclasses.replace(each, best=each is fastest) for each in speeds), note)


def _too_large(size: int, images: Images, most_input_bytes: int) -> str:
    needed = size * images[0].nbytes
    return (
        f"a batch of {size} has {needed:,} bytes, more than {most_input_bytes:,}" if needed > most_input_bytes else ""
    )


def _too_slow(size: int, speeds: list[BatchSpeed], budget_seconds: float) -> str:
    """A larger batch is seldom slower an image, so the last size's speed bounds the time."""
    seconds = LEAST_BATCH_CALLS * size / speeds[-1].images_per_second if speeds else 0.0
    return f"{LEAST_BATCH_CALLS} batches of {size} would take about {seconds:.0f} s" if seconds > budget_seconds else ""


def _batch(images: Images, size: int) -> Images:
    return np.resize(images, (size, *images.shape[1:]))


def _batch_speed(predict: Predict, batch: Images, budget_seconds: float, clock: Clock) -> BatchSpeed:
    timer = _Timer(predict, _repeat([batch]), clock)
    first = timer.call()
    warmup_calls, settled = timer.warm_up(WARMUP_SHARE * budget_seconds)
    seconds = timer.measure((1 - WARMUP_SHARE) * budget_seconds, LEAST_BATCH_CALLS, MOST_BATCH_CALLS)
    q1, median, q3 = np.quantile(len(batch) / np.array(seconds), (0.25, 0.5, 0.75)).tolist()
    return BatchSpeed(len(batch), first, warmup_calls, settled, len(seconds), median, q1, q3)


class _Timer:
    """Times calls of `predict`, each on the next of its inputs."""

    def __init__(self, predict: Predict, inputs: Iterator[Images], clock: Clock) -> None:
        self._predict, self._inputs, self._clock = predict, inputs, clock

    def call(self) -> float:
        images = next(self._inputs)
        start = self._clock()
        self._predict(images)
        return self._clock() - start

    def warm_up(self, budget_seconds: float) -> tuple[int, bool]:
        """Call until the median of five calls is no longer 2 % below that of the five before, or until time is up.

        Returns the number of calls, and whether they had settled.
        """
        end = self._clock() + budget_seconds
        before, calls = math.inf, 0
        while self._clock() < end:
            median = float(np.median([self.call() for _ in range(WARMUP_GROUP)]))
            calls += WARMUP_GROUP
            if median >= before * (1 - WARMUP_TOLERANCE):
                return calls, True
            before = median
        return calls, False

    def measure(self, budget_seconds: float, least: int, most: int) -> list[float]:
        """Return the seconds of `most` calls, or of as many as begin within the budget, `least` of them at least."""
        end = self._clock() + budget_seconds
        seconds: list[float] = []
        while len(seconds) < least or (len(seconds) < most and self._clock() < end):
            seconds.append(self.call())
        return seconds


def _repeat(batches: Sequence[Images]) -> Iterator[Images]:
    while True:
        yield from batches


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
