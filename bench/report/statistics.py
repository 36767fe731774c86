"""How sure a mean over seeds is, whether two means differ, and how many seeds it takes to see a difference.

Nothing here knows of architectures or records: values are numbers, most often accuracies as fractions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

LARGEST_SHIFT = 30.0  # the power is 1 to two digits before; beyond, scipy's noncentral t loses digits
ONE_SIDED_SHIFT = 5.0  # beyond, the far tail is below 1e-6, and scipy's may be nan
LARGE_SAMPLE = 10_000  # from here on the normal approximation is right to one value or two
POWER_POINTS = 200


@dataclass(frozen=True)
class WelchTest:
    """Welch's comparison of two means: the difference, first minus second, its interval, and the two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Spread:
    """A standard deviation pooled over samples, and the degrees of freedom it rests on."""

    deviation: float
    degrees: int

    def upper(self, confidence: float = 0.8) -> float:
        """Return the one-sided upper confidence limit of the deviation, of normally distributed values.

        s·√(ν/q), q being the (1 - confidence) quantile of the χ² distribution with ν degrees of freedom.
        """
        from scipy import stats

        return self.deviation * math.sqrt(self.degrees / float(stats.chi2.ppf(1 - confidence, self.degrees)))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return Student's t interval of the mean; None for fewer than two values, which say nothing of their spread.

    With the few seeds of a sweep, the percentile bootstrap would cover far less than it promises.
    """
    from scipy import special

    count = len(values)
    if count < 2:
        return None
    mean, variance = mean_and_variance(values)
    half = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * math.sqrt(variance / count)
    return mean - half, mean + half


def welch_test(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> WelchTest | None:
    """Compare the means of two samples that need not share a variance (Welch 1947, Biometrika 34).

    t = (difference of means)/s with s² = v₁/n₁ + v₂/n₂, on s⁴/(v₁²/(n₁²(n₁-1)) + v₂²/(n₂²(n₂-1))) degrees of freedom.

    Returns:
        None where the spread is unknown: with fewer than two values in a sample, or where neither sample varies.

    """
    from scipy import special

    if min(len(first), len(second)) < 2 or not (varies(first) or varies(second)):
        return None
    (mean1, variance1), (mean2, variance2) = mean_and_variance(first), mean_and_variance(second)
    part1, part2 = variance1 / len(first), variance2 / len(second)
    error = math.sqrt(part1 + part2)
    if not error:  # values so near to each other that their squares are not
        return None
    share = part1 / (part1 + part2)
    degrees = 1 / (share**2 / (len(first) - 1) + (1 - share) ** 2 / (len(second) - 1))
    difference = mean1 - mean2
    half = float(special.stdtrit(degrees, (1 + confidence) / 2)) * error
    p_value = 2 * float(special.stdtr(degrees, -abs(difference) / error))
    return WelchTest(difference, difference - half, difference + half, p_value)


def welch_p_values(
    mean: npt.NDArray[Any], part: npt.NDArray[Any], count: npt.NDArray[Any], one: int
) -> npt.NDArray[Any]:
    """Return the p-values of `welch_test` of sample `one` against each later one; nan where there is no spread.

    Args:
        mean: of each sample.
        part: variance of each sample / its number of values; 0 where its values are all the same.
        count: number of values of each sample, two at least.
        one: which sample.

    """
    import numpy as np
    from scipy import special

    later = slice(one + 1, None)
    both = part[one] + part[later]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = part[one] / both
        degrees = 1 / (share**2 / (count[one] - 1) + (1 - share) ** 2 / (count[later] - 1))
        p_values: npt.NDArray[Any] = 2 * special.stdtr(degrees, -np.abs(mean[one] - mean[later]) / np.sqrt(both))
    return p_values


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in the same order (Holm 1979, Scand. J. Statist. 6).

    The i-th smallest of m is multiplied by m - i + 1; none ends below a smaller one's, or above 1. Calling those
    different that stay at 0.05 or below errs, in any of them, with a probability of at most 0.05, however they depend
    on each other.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (McNemar 1947, Psychometrika 12).

    Of the images that just one of two networks got right, `only_first` and `only_second` count whose they were. Were
    both networks equally accurate, each would get such an image with probability 1/2.
    """
    from scipy import stats

    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


def pooled_spread(*samples: Sequence[float]) -> Spread | None:
    """Return the standard deviation within the samples; None where no sample has two values."""
    repeated = [sample for sample in samples if len(sample) > 1]
    degrees = sum(len(sample) - 1 for sample in repeated)
    if not degrees:
        return None
    squares = sum(mean_and_variance(sample)[1] * (len(sample) - 1) for sample in repeated if varies(sample))
    return Spread(math.sqrt(squares / degrees), degrees)


def welch_power(difference: float, deviation: float, count: int, level: float = 0.05) -> float:
    """Return how likely Welch's two-sided test of two normal samples of `count` values each sees a true difference.

    Exact for equal deviations σ. The statistic then is noncentral t with 2(n-1) degrees of freedom and noncentrality
    difference/(σ·√(2/n)). It does not depend on R = v₁/(v₁+v₂), which is Beta((n-1)/2, (n-1)/2) and fixes the degrees
    of freedom of the critical value, (n-1)/(R²+(1-R)²). So the power is a mean over R, taken here at its quantiles.
    """
    import numpy as np
    from scipy import special, stats

    half = (count - 1) / 2
    share = stats.beta.ppf((np.arange(POWER_POINTS) + 0.5) / POWER_POINTS, half, half)
    critical = special.stdtrit((count - 1) / (share**2 + (1 - share) ** 2), 1 - level / 2)
    shift = min(abs(difference) / (deviation * math.sqrt(2 / count)), LARGEST_SHIFT)
    seen = stats.nct.sf(critical, 2 * (count - 1), shift)
    if shift < ONE_SIDED_SHIFT:
        seen += stats.nct.cdf(-critical, 2 * (count - 1), shift)
    return float(seen.mean())


def values_needed(difference: float, deviation: float, power: float = 0.8, level: float = 0.05) -> int:
    """Return the fewest values in each of two samples for `welch_power` to reach `power`, two at least."""
    from scipy import special

    quantiles = float(special.ndtri(1 - level / 2) + special.ndtri(power))
    count = max(2, math.ceil(2 * (quantiles * deviation / difference) ** 2))  # with the deviation known: too few
    if count >= LARGE_SAMPLE:
        return count
    while welch_power(difference, deviation, count, level) < power:
        count += 1
    return count


def mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the unbiased variance of two values or more."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def varies(values: Sequence[float]) -> bool:
    """Return whether not all values are the same."""
    return min(values) != max(values)
