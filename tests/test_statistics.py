import math

import numpy as np
import pytest
from scipy import stats

from bench.report.statistics import (
    Spread,
    holm,
    mcnemar_p,
    mean_and_variance,
    mean_interval,
    pooled_spread,
    values_needed,
    varies,
    welch_p_values,
    welch_power,
    welch_test,
)

SAMPLES = [
    ([0.7777, 0.7691, 0.7719], [0.7979, 0.7866, 0.7888]),
    ([0.70, 0.72], [0.71, 0.75, 0.69, 0.73, 0.70]),
    ([0.5, 0.5, 0.5], [0.4, 0.6, 0.7]),
    ([0.9, 0.1], [0.2, 0.3]),
]


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")  # scipy's, where a sample does not vary
@pytest.mark.parametrize(("first", "second"), SAMPLES)
def test_welchs_test_is_scipys(first, second):
    ours, theirs = welch_test(first, second), stats.ttest_ind(first, second, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours.difference == pytest.approx(np.mean(first) - np.mean(second))
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
    assert ours.p_value == pytest.approx(theirs.pvalue)


def test_welchs_test_by_hand():
    """Variances 2 and 8: t = -3/√(2/2 + 8/2) = -1.342 on (1 + 4)²/(1 + 16) = 1.471 degrees of freedom."""
    test = welch_test([1, 3], [3, 7])
    assert test.difference == -3
    assert test.p_value == pytest.approx(2 * stats.t.cdf(-3 / math.sqrt(5), 25 / 17))


@pytest.mark.parametrize("pair", [([0.7], [0.6, 0.7]), ([], [0.6, 0.7]), ([0.7, 0.7], [0.6, 0.6, 0.6])])
def test_without_a_spread_there_is_no_test(pair):
    assert welch_test(*pair) is None
    assert welch_test(*pair[::-1]) is None


def test_identical_values_are_no_spread_however_they_round():
    assert welch_test([0.1] * 3, [0.7] * 7) is None  # their means are not exactly 0.1 and 0.7 in floating point
    assert pooled_spread([0.1] * 3, [0.7] * 7) == Spread(0.0, 8)


@pytest.mark.parametrize(("seeds", "ratio"), [(2, 1), (3, 1), (5, 1), (5, 3)])
def test_the_intervals_cover_the_truth_as_often_as_they_say(seeds, ratio):
    random = np.random.default_rng(seeds)
    first = random.normal(0.79, 0.005 * ratio, (2_000, seeds)).tolist()
    second = random.normal(0.77, 0.005, (2_000, seeds)).tolist()
    tests = [welch_test(*pair) for pair in zip(first, second, strict=True)]
    assert 0.93 <= np.mean([test.low <= 0.02 <= test.high for test in tests]) <= 0.99  # Welch is wide for two seeds
    intervals = [mean_interval(values) for values in first]
    assert 0.93 <= np.mean([low <= 0.79 <= high for low, high in intervals]) <= 0.97


def test_an_interval_leaves_out_zero_where_the_test_says_so():
    random = np.random.default_rng(0)
    for _ in range(500):
        test = welch_test(random.normal(0.01, 0.01, 3).tolist(), random.normal(0, 0.02, 4).tolist())
        assert (test.low <= 0 <= test.high) == (test.p_value >= 0.05)


def test_many_p_values_at_once_are_those_of_single_tests():
    random = np.random.default_rng(0)
    samples = [random.normal(0, 1, random.integers(2, 6)).tolist() for _ in range(20)] + [[0.5, 0.5], [0.7, 0.7, 0.7]]
    moments = [mean_and_variance(sample) for sample in samples]
    count = np.array([len(sample) for sample in samples])
    part = np.array([variance if varies(sample) else 0 for sample, (_, variance) in zip(samples, moments, strict=True)])
    for one in range(len(samples) - 1):
        ours = welch_p_values(np.array([mean for mean, _ in moments]), part / count, count, one)
        tests = [welch_test(samples[one], other) for other in samples[one + 1 :]]
        assert ours.tolist() == pytest.approx([test.p_value if test else math.nan for test in tests], nan_ok=True)


def test_values_too_near_for_floating_point_are_no_spread():
    assert welch_test([0.0, 1e-200], [0.0, 2e-200]) is None
    assert welch_test([0.0, 1e-100], [0.5, 0.5]).difference == pytest.approx(-0.5)


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, and 0.04, which is raised to 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_mcnemar_by_hand():
    """1 against 5 of 6: twice (C(6, 0) + C(6, 1))/2⁶ = 14/64."""
    assert mcnemar_p(1, 5) == mcnemar_p(5, 1) == pytest.approx(14 / 64)
    assert mcnemar_p(0, 4) == pytest.approx(2 / 16)
    assert mcnemar_p(3, 3) == pytest.approx(1)
    assert mcnemar_p(0, 0) == 1


def test_the_pooled_spread_weighs_samples_by_their_degrees_of_freedom():
    spread = pooled_spread([1, 3], [0, 3, 3, 6], [100])
    assert spread == Spread(pytest.approx(math.sqrt((2 + 18) / 4)), 4)
    assert pooled_spread([1], [2], []) is None


def test_the_upper_limit_of_a_spread_is_above_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    limits = [pooled_spread(*case).upper(0.8) for case in random.normal(0, 2, (2_000, 2, 3)).tolist()]
    assert 0.77 <= np.mean([limit >= 2 for limit in limits]) <= 0.83


@pytest.mark.parametrize(("seeds", "difference"), [(2, 0.03), (3, 0.01), (5, 0.01), (5, 0.0), (12, 0.006)])
def test_the_power_is_what_simulation_says(seeds, difference):
    assert welch_power(difference, 0.00525, seeds) == pytest.approx(simulated_power(seeds, difference), abs=0.01)


@pytest.mark.parametrize(("difference", "deviation"), [(0.005, 0.0044), (0.01, 0.0044), (0.01, 0.00525), (0.03, 0.005)])
def test_as_many_seeds_as_needed_are_enough_and_one_less_is_not(difference, deviation):
    count = values_needed(difference, deviation)
    scaled = difference * 0.00525 / deviation
    assert simulated_power(count, scaled) >= 0.8 - 0.006
    assert simulated_power(count - 1, scaled) < 0.8 + 0.006


def test_extreme_differences_take_the_fewest_seeds_or_very_many():
    assert values_needed(0.5, 0.001) == 2
    assert values_needed(1e-9, 0.005) > 10**12
    assert values_needed(0.005, 0.002) < values_needed(0.005, 0.004) < values_needed(0.002, 0.004)
    assert welch_power(0.5, 0.0001, 100) == pytest.approx(1)


def simulated_power(seeds, difference):
    random = np.random.default_rng(seeds)
    first = random.normal(0.75 + difference, 0.00525, (40_000, seeds))
    second = random.normal(0.75, 0.00525, (40_000, seeds))
    return (stats.ttest_ind(first, second, axis=1, equal_var=False).pvalue <= 0.05).mean()
