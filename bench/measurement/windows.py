"""Training speed once it is steady: timed blocks become windows, the warm-up is left out, the rest has an interval.

The figure is the median over windows of a window's images/s. Its interval is for that median: of windows as long as
these, in a training that goes on like this one. It says nothing of other seeds, other processes or other days.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

LEAST_WINDOWS = 30  # fewer have no interval: with correlated windows it would be too narrow
MOST_WINDOWS = 60
SEARCH_WINDOWS = 120  # shorter ones to find the end of the warm-up
FLOOR = 0.01
WARMUP_GAIN = 1.05
WARMUP_MARGIN = 1.5
DRIFT = 0.05  # the halves' medians may differ by so much
RESAMPLES = 1_000
MOST_AUTOCORRELATION = 0.9
BURN_IN = 30  # windows after which a resampled series has forgotten its start

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TimedBlock:
    """Training steps that were timed together, until a figure of the last one had arrived on the host."""

    steps: int
    images: int
    seconds: float

    def __add__(self, other: TimedBlock) -> TimedBlock:
        return TimedBlock(self.steps + other.steps, self.images + other.images, self.seconds + other.seconds)


class Recorder:
    """The clock of a training loop: collects its blocks in order.

    `start` before the first block and after each pause; `lap` at the end of each block; `skip` instead of `lap` for
    what is not part of the training's speed (the first call, which compiles); `pause` before what is not training
    (validation). Waiting for images between two laps counts.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.blocks: list[TimedBlock] = []
        self._clock = clock
        self._mark: float | None = None

    def start(self) -> None:
        """Begin to time a block now."""
        self._mark = self._clock()

    def lap(self, steps: int, images: int) -> float:
        """End a block, begin the next one, and return the block's seconds."""
        seconds = self.skip()
        self.blocks.append(TimedBlock(steps, images, seconds))
        return seconds

    def skip(self) -> float:
        """Return the seconds since the last mark without keeping them as a block, and begin the next one."""
        if self._mark is None:
            raise RuntimeError("the recorder is paused: call start() first.")
        now = self._clock()
        seconds, self._mark = now - self._mark, now
        return seconds

    def pause(self) -> None:
        """Stop timing; what happens until the next `start` is in no block."""
        self._mark = None


@dataclass(frozen=True, kw_only=True)
class Steady:
    """Training speed after the warm-up, in images/s; None where nothing was timed.

    `images_per_second`, `q1` and `q3` are the quartiles over windows, `low` and `high` the median's 95 % interval (None
    below 30 windows). `mean_images_per_second` is all images / all seconds of these windows: it counts stalls, which
    the median passes over. `note` says why the speed is not `settled`.
    """

    images_per_second: float | None = None
    q1: float | None = None
    q3: float | None = None
    low: float | None = None
    high: float | None = None
    mean_images_per_second: float | None = None
    windows: int = 0
    steps_per_window: float | None = None
    warmup_windows: int = 0
    warmup_seconds: float = 0.0
    warmup_images: int = 0
    settled: bool = False
    note: str = "no step was timed"


def steady(blocks: Sequence[TimedBlock]) -> Steady:
    """Return the steady speed of a training from its timed blocks, in order, without the call that compiled."""
    if not blocks:
        return Steady()
    search = group(blocks, SEARCH_WINDOWS)
    warmup_windows = warmup(np.array([each.seconds / each.images for each in search]))
    before = sum(search[:warmup_windows], start=TimedBlock(0, 0, 0.0))
    windows = group(_after(blocks, before.steps), MOST_WINDOWS)
    after = sum(windows, start=TimedBlock(0, 0, 0.0))
    speeds = np.array([each.images / each.seconds for each in windows])
    low, high = median_interval(speeds) if len(windows) >= LEAST_WINDOWS else (None, None)
    q1, median, q3 = np.quantile(speeds, (0.25, 0.5, 0.75)).tolist()
    notes = [*_shortage(before.steps, after.steps, len(windows)), *_unrest(warmup_windows, len(search), speeds)]
    return Steady(
        images_per_second=median,
        q1=q1,
        q3=q3,
        low=low,
        high=high,
        mean_images_per_second=after.images / after.seconds,
        windows=len(windows),
        steps_per_window=after.steps / len(windows),
        warmup_windows=warmup_windows,
        warmup_seconds=before.seconds,
        warmup_images=before.images,
        settled=not notes,
        note="; ".join(notes),
    )


def group(blocks: Sequence[TimedBlock], most: int) -> list[TimedBlock]:
    """Return consecutive blocks joined into windows, at most `most` of them, of nearly equally many steps.

    A window has at least the steps of the largest block; too little for one at the end joins the last window.
    """
    sizes = [each.steps for each in blocks]
    target = max(*sizes, math.ceil(sum(sizes) / most))
    windows: list[TimedBlock] = []
    gathered = TimedBlock(0, 0, 0.0)
    for each in blocks:
        gathered += each
        if gathered.steps >= target:
            windows.append(gathered)
            gathered = TimedBlock(0, 0, 0.0)
    if gathered.steps >= max(*sizes, target / 2):
        windows.append(gathered)
    elif gathered.steps:
        windows[-1] += gathered  # there is one: all blocks together reach the target
    return windows


def _after(blocks: Sequence[TimedBlock], steps: int) -> list[TimedBlock]:
    ends = accumulate(each.steps for each in blocks)
    return [each for each, end in zip(blocks, ends, strict=True) if end > steps]


def warmup(values: Floats) -> int:
    """Return how many of the first values to leave out, three quarters at most: MSER (White 1997, Simulation 69(6)).

    MSER leaves out as many as make the standard error of the mean of the others smallest. Here it has to become smaller
    by 5 %, since noise alone makes it a little smaller, and half as many again are left out, since the end of a slow
    warm-up is not seen in the noise. Values are first cut to the median ± 3 robust standard deviations of the second
    half: a warm-up still shows, and a single slow window does not look like the end of one. The errors count noise of
    1 % in any case, so that a change too small to matter is no warm-up.
    """
    half = values[len(values) // 2 :]
    center = float(np.median(half))
    floor = FLOOR * abs(center)
    width = 3 * max(1.4826 * float(np.median(np.abs(half - center))), floor)
    clipped = np.clip(values - center, -width, width)
    most = len(values) * 3 // 4
    left = len(values) - np.arange(most + 1)
    sums, squares = (np.cumsum(each[::-1])[::-1][: most + 1] for each in (clipped, clipped**2))
    errors = np.sqrt(np.maximum(squares - sums**2 / left, 0) + left * floor**2) / left
    best = int(np.argmin(errors))
    return min(math.ceil(best * WARMUP_MARGIN), most) if errors[best] * WARMUP_GAIN < errors[0] else 0


def median_interval(values: Floats) -> tuple[float, float]:
    """Return a 95 % interval of the median of correlated values, by a block bootstrap.

    The values at the shares 1/2 ± t·s (Woodruff 1952, JASA 47). s is the bootstrap standard error of the share of
    values below the median, from the values' normal scores: an AR(1) model is taken out, blocks of what remains are
    resampled, and the model is put back (post-blackening: Davison and Hinkley 1997, section 8.2.3). t is Student's, the
    degrees of freedom being the number of independent values, n(1 - φ)/(1 + φ), less one.
    """
    from scipy.special import stdtrit

    share, autocorrelation = _bootstrap(values)
    independent = len(values) * (1 - autocorrelation) / (1 + autocorrelation)
    reach = stdtrit(max(independent - 1, 2), 0.975) * share
    low, high = np.quantile(values, np.clip((0.5 - reach, 0.5 + reach), 0, 1), method="hazen").tolist()
    return low, high


def _bootstrap(values: Floats) -> tuple[float, float]:
    """Return the standard error of the share of values below the median, and the autocorrelation at lag 1."""
    from scipy.signal import lfilter
    from scipy.special import ndtri
    from scipy.stats import rankdata

    n = len(values)
    scores = ndtri((rankdata(values) - 0.5) / n)
    if not scores.any():  # all values are equal
        return 0.0, 0.0
    raw = float(scores[1:] @ scores[:-1] / (scores @ scores))
    corrected = (n * raw + 1) / (n - 3)  # Kendall 1954, Biometrika 41: the estimate is too small by (1 + 3φ)/n
    autocorrelation = min(max(corrected, 0.0), MOST_AUTOCORRELATION)
    innovations = scores[1:] - autocorrelation * scores[:-1]
    resampled = (innovations - innovations.mean())[_resampling(n)]
    series = lfilter([1], [1, -autocorrelation], resampled, axis=1)[:, BURN_IN:]
    length = _block_length(n)
    return float((series <= 0).mean(axis=1).std()) * math.sqrt(n / (n - length)), autocorrelation


def _block_length(n: int) -> int:
    return math.ceil(math.cbrt(n))  # the best rate for a variance (Hall, Horowitz and Jing 1995, Biometrika 82)


@lru_cache(maxsize=4)
def _resampling(n: int) -> npt.NDArray[np.intp]:
    """Return positions among n - 1 innovations, (resamples, BURN_IN + n): blocks that begin anywhere, in a circle."""
    length = _block_length(n)
    blocks = math.ceil((BURN_IN + n) / length)
    starts = np.random.default_rng(0).integers(0, n - 1, (RESAMPLES, blocks, 1))
    positions: npt.NDArray[np.intp] = (starts + np.arange(length)) % (n - 1)
    return positions.reshape(RESAMPLES, -1)[:, : BURN_IN + n]


def _shortage(warmup_steps: int, steps: int, windows: int) -> Iterator[str]:
    if windows < LEAST_WINDOWS:
        needed = warmup_steps + math.ceil(steps / windows * LEAST_WINDOWS)
        yield (
            f"{windows} windows after a warm-up of {warmup_steps} steps, {LEAST_WINDOWS} are needed for an interval: "
            f"needs about {needed} steps, had {warmup_steps + steps}"
        )


def _unrest(warmup_windows: int, windows: int, speeds: Floats) -> Iterator[str]:
    if warmup_windows > windows / 2:
        yield f"the speed still changed after half of the training: {warmup_windows} of {windows} windows are warm-up"
    elif len(speeds) >= LEAST_WINDOWS and (change := _drift(speeds)):
        yield f"the speed drifted after the warm-up: the second half's median is {change:+.1%} from the first half's"


def _drift(speeds: Floats) -> float:
    """Return the change between the halves' medians, as a fraction; 0 where it is small or within the noise.

    The noise is what remains beside a line in each half. The width of the 95 % interval of all values' median is twice
    1.96 standard errors, and the difference of the halves' medians has twice the standard error.
    """
    from scipy.signal import detrend

    middle = len(speeds) // 2
    first, second = float(np.median(speeds[:middle])), float(np.median(speeds[middle:]))
    if abs(second / first - 1) <= DRIFT:
        return 0.0
    low, high = median_interval(detrend(speeds, bp=[middle]))
    return second / first - 1 if abs(second - first) > high - low else 0.0
