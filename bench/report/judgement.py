"""Verdicts between architectures, from one value a seed: `better`, `worse` or `cannot tell`.

docs/methodology.md, "Comparing architectures", says what they mean. Values are test accuracies as fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.report.statistics import (
    Spread,
    WelchTest,
    holm,
    mean_and_variance,
    pooled_spread,
    values_needed,
    varies,
    welch_p_values,
    welch_test,
)

LEVEL = 0.05  # how likely any `better` or `worse` of a family may be, where there is no difference
POWER = 0.8
SPREAD_CONFIDENCE = 0.8

Accuracies = Sequence[float]


class Verdict(StrEnum):
    """What the seeds say of the first architecture against the second."""

    BETTER = "better"
    WORSE = "worse"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on.

    `difference` is of the means, first minus second; None where a side has no value. `test` is None where none is
    possible, and `reason` then says why. `p_adjusted` is Holm's over the family that was judged together.
    """

    verdict: Verdict
    difference: float | None
    test: WelchTest | None = None
    p_adjusted: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds an architecture a difference takes: with the spread seen, and with its upper limit."""

    difference: float
    spread: Spread
    count: int
    count_upper: int


def judge(pairs: Sequence[tuple[Accuracies, Accuracies]]) -> list[Judgement]:
    """Judge each first against its second, all together: their p-values are adjusted for how many tests there are.

    That any `better` or `worse` is false has a probability of at most `LEVEL`, as far as Welch's test keeps its level.
    """
    tests = [welch_test(first, second) for first, second in pairs]
    adjusted = iter(holm([test.p_value for test in tests if test]))
    return [
        _tested(test, next(adjusted)) if test else _untested(*pair) for pair, test in zip(pairs, tests, strict=True)
    ]


def among_best(samples: Sequence[Accuracies]) -> list[bool | None]:
    """Return for each sample whether it cannot be told from the best: the one of highest mean of those with two values.

    All pairs are judged together, and not only those with the best: which one is the best was read off the same values,
    so its comparisons are the widest of all pairs. Samples of fewer than two values cannot be told from it.

    Returns:
        None for all where no two samples can be tested, and None for a sample without values, or one which cannot be
        tested against the best since neither varies.

    """
    repeated = [index for index, sample in enumerate(samples) if len(sample) > 1]
    told = _told_from_best([samples[index] for index in repeated])
    if told is None:
        return [None] * len(samples)
    losers = {repeated[index] for index in told}
    best = max((samples[index] for index in repeated), key=lambda sample: mean_and_variance(sample)[0])
    return [
        None if not sample or _is_untested(sample, best) else index not in losers
        for index, sample in enumerate(samples)
    ]


def _is_untested(sample: Accuracies, best: Accuracies) -> bool:
    """Return whether nothing can be said, since the seeds of each scored the same, and not what the other's did."""
    return len(sample) > 1 and not varies(sample) and not varies(best) and sample[0] != best[0]


def _told_from_best(samples: Sequence[Accuracies]) -> set[int] | None:
    """Return which samples `judge` tells from the one of highest mean; None where no two can be tested.

    There are too many pairs of thousands of samples to judge each by itself. What Holm rejects is read off those
    p-values that are at most `LEVEL` before they are adjusted.
    """
    import numpy as np

    moments = [mean_and_variance(sample) for sample in samples]
    mean, count = np.array([each[0] for each in moments]), np.array([len(sample) for sample in samples])
    spreads = [variance if varies(sample) else 0.0 for sample, (_, variance) in zip(samples, moments, strict=True)]
    part = np.array(spreads) / np.maximum(count, 1)
    best = int(mean.argmax()) if len(samples) else 0
    small, against, tests = [np.empty(0)], {}, 0
    for one in range(len(samples) - 1):
        p_values = welch_p_values(mean, part, count, one)
        tests += int((~np.isnan(p_values)).sum())
        small.append(p_values[p_values <= LEVEL])
        if one < best:
            against[one] = p_values[best - one - 1]
        elif one == best:
            against |= dict(enumerate(p_values, best + 1))
    if not tests:
        return None
    rising = np.sort(np.concatenate(small))
    rejected = np.logical_and.accumulate(rising * (tests - np.arange(len(rising))) <= LEVEL)
    critical = rising[rejected][-1] if rejected.any() else -1.0
    return {index for index, p_value in against.items() if p_value <= critical}


def seeds_needed(first: Accuracies, second: Accuracies, difference: float) -> SeedsNeeded | None:
    """Return how many seeds each side needs, for Welch's test at `LEVEL` to see this difference with `POWER`.

    For one comparison by itself, and equal spreads. None where the samples show no spread.
    """
    spread = pooled_spread(first, second)
    if spread is None or not spread.deviation:
        return None
    counts = [
        values_needed(difference, deviation, POWER, LEVEL)
        for deviation in (spread.deviation, spread.upper(SPREAD_CONFIDENCE))
    ]
    return SeedsNeeded(difference, spread, *counts)


def _tested(test: WelchTest, p_adjusted: float) -> Judgement:
    verdict = Verdict.CANNOT_TELL
    if p_adjusted <= LEVEL:
        verdict = Verdict.BETTER if test.difference > 0 else Verdict.WORSE
    return Judgement(verdict, test.difference, test, p_adjusted)


def _untested(first: Accuracies, second: Accuracies) -> Judgement:
    if not (first and second):
        return Judgement(Verdict.CANNOT_TELL, None, reason="no trial ended well on one side")
    difference = sum(first) / len(first) - sum(second) / len(second)
    if min(len(first), len(second)) < 2:
        return Judgement(Verdict.CANNOT_TELL, difference, reason="a single seed says nothing of its spread")
    return Judgement(Verdict.CANNOT_TELL, difference, reason="the seeds of each scored the same, so no spread is seen")
