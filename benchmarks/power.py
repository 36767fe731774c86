"""How often `bench compare` and the leaderboard's mark are right, by simulation with the spread of real records.

Accuracies of seeds are drawn from normal distributions with the spread seen in the records (of one data set and recipe,
pooled over its architectures), and handed to the functions that judge. Printed are: how often a true difference is
seen; how often an architecture cannot be told from itself; how often equal architectures are all marked and a lower one
is not, also under the correction that was not chosen; and how many seeds a difference takes. The simulated shares are
good to about half a percentage point. Takes a minute or two.

    python benchmarks/power.py
    python benchmarks/power.py --dataset digits --difference 0.5
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import make_parser, positive

from bench.records import Status
from bench.report.judgement import LEVEL, SPREAD_CONFIDENCE, Verdict, among_best, judge
from bench.report.statistics import Spread, holm, pooled_spread, values_needed, welch_power, welch_test
from bench.report.trials import counted_trials
from bench.store import Store

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"
SEEDS = (2, 3, 5, 10)
ARCHITECTURES = (2, 3, 5, 10)
MEAN = 0.75
LOWER = "one of them lower by the difference, the others equal: how often it is not marked"

Samples = npt.NDArray[np.float64]


def main() -> None:
    """Simulate and print."""
    arguments = parse_arguments()
    spread = observed_spread(arguments)
    random = np.random.default_rng(0)
    print_power(spread, arguments.difference / 100, arguments.cases, random)
    print_false_verdicts(spread.deviation, arguments.cases, random)
    print_marks(spread.deviation, arguments.difference / 100, arguments.cases // 5, random)
    print_seeds(spread)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--results", type=Path, default=REFERENCE, metavar="DIR", help="default: results/reference")
    parser.add_argument("--dataset", default="cifar10", metavar="NAME", help="default: cifar10")
    parser.add_argument("--recipe", default="standard", metavar="NAME", help="default: standard")
    parser.add_argument("--difference", type=float, default=1.0, metavar="POINTS", help="true difference (default 1)")
    parser.add_argument("--cases", type=positive, default=20_000, metavar="N", help="simulated cases (default 20000)")
    return parser.parse_args()


def observed_spread(arguments: argparse.Namespace) -> Spread:
    """Print each architecture's standard deviation over seeds, and return the pooled one."""
    trials = counted_trials(Store(arguments.results).records())
    chosen = trials["dataset"].eq(arguments.dataset) & trials["recipe"].eq(arguments.recipe)
    groups = trials[chosen & trials["status"].eq(Status.OK)].groupby(["architecture", "machine", "environment"])
    samples = {key: group["test_accuracy"].astype(float).tolist() for key, group in groups}
    spread = pooled_spread(*samples.values())
    if spread is None:
        raise SystemExit(f"no two seeds of {arguments.dataset} with {arguments.recipe} in {arguments.results}")
    print(f"standard deviation over seeds, in points ({arguments.dataset}, {arguments.recipe}):")
    for key, values in samples.items():
        if len(values) > 1:
            print(f"  {key[0]:<24} {100 * np.std(values, ddof=1):.2f} (n = {len(values)})")
    print(f"  {'pooled':<24} {100 * spread.deviation:.2f} ({spread.degrees} degrees of freedom),", end=" ")
    print(f"upper {SPREAD_CONFIDENCE:.0%} limit {100 * spread.upper(SPREAD_CONFIDENCE):.2f}")
    return spread


def print_power(spread: Spread, difference: float, cases: int, random: np.random.Generator) -> None:
    """Print how often a true difference is seen, calculated and simulated, and how often its interval is right."""
    print(f"\na true difference of {100 * difference:g} points, one comparison: how often it is seen")
    print("  seeds of each   calculated   simulated   interval covers it   with the upper limit of the spread")
    for seeds in SEEDS:
        first = draw(random, (cases, seeds), spread.deviation, MEAN + difference)
        second = draw(random, (cases, seeds), spread.deviation)
        seen, covered = outcomes(zip(first, second, strict=True), difference)
        exact, upper = (welch_power(difference, each, seeds) for each in (spread.deviation, spread.upper()))
        print(f"  {seeds:>13}   {exact:>10.1%}   {seen:>9.1%}   {covered:>18.1%}   {upper:>10.1%}")


def print_false_verdicts(deviation: float, cases: int, random: np.random.Generator) -> None:
    """Print how often one architecture, trained twice with other seeds, is told from itself; equal means, at least."""
    print("\nno difference, one comparison: how often the verdict is `cannot tell`")
    for label, first_seeds, second_seeds, ratio in (
        *((f"{seeds} and {seeds} seeds", seeds, seeds, 1.0) for seeds in SEEDS),
        ("2 and 5 seeds", 2, 5, 1.0),
        ("2 and 5 seeds, the 2 with three times the spread", 2, 5, 3.0),
        ("3 and 3 seeds, one side with three times the spread", 3, 3, 3.0),
        ("5 and 5 seeds, one side with three times the spread", 5, 5, 3.0),
    ):
        first = draw(random, (cases, first_seeds), ratio * deviation)
        second = draw(random, (cases, second_seeds), deviation)
        seen, _ = outcomes(zip(first, second, strict=True), 0.0)
        print(f"  {label:<52} {1 - seen:.1%}")


def print_marks(deviation: float, difference: float, cases: int, random: np.random.Generator) -> None:
    """Print how often the leaderboard's mark is right, under the correction that was chosen and a narrower one."""
    print("\nthe mark of the leaderboard, with Holm over all pairs, as bench does | over those with the best alone")
    for text, lower in (("equal architectures: how often all are marked", 0.0), (LOWER, difference)):
        print(f"  {text}")
        print("  architectures   " + "   ".join(f"{f'{seeds} seeds each':>15}" for seeds in SEEDS))
        for count in ARCHITECTURES:
            cells = [mark_shares(draw(random, (cases, count, seeds), deviation), lower) for seeds in SEEDS]
            print(f"  {count:>13}   " + "   ".join(f"{wide:>6.1%} | {narrow:>6.1%}" for wide, narrow in cells))


def mark_shares(samples: Samples, lower: float) -> tuple[float, float]:
    """Return, for each correction, how often all are marked, or how often a last one that is lower is not.

    Args:
        samples: accuracies of shape (cases, architectures, seeds), all of one mean.
        lower: how much the last architecture is lowered by; 0 for none.

    """
    samples[:, -1] -= lower
    marks = np.array([(among_best(case), marks_against_best(case)) for case in samples.tolist()])
    shares = 1 - marks[:, :, -1].mean(axis=0) if lower else marks.all(axis=2).mean(axis=0)
    return float(shares[0]), float(shares[1])


def print_seeds(spread: Spread) -> None:
    """Print how many seeds several differences take."""
    print("\nseeds of each architecture to see a true difference in 8 of 10 cases, one comparison")
    print("  points   with this spread   with its upper limit")
    for points in (0.25, 0.5, 1.0, 2.0):
        counts = [values_needed(points / 100, deviation) for deviation in (spread.deviation, spread.upper())]
        print(f"  {points:>6}   {counts[0]:>16,}   {counts[1]:>20,}")


def draw(random: np.random.Generator, shape: tuple[int, ...], deviation: float, mean: float = MEAN) -> Samples:
    """Return accuracies of that shape; the last axis is seeds."""
    return random.normal(mean, deviation, shape)


def outcomes(pairs: Iterable[tuple[Samples, Samples]], difference: float) -> tuple[float, float]:
    """Return the share of the pairs that are told apart, and of those whose interval holds the difference."""
    told, covered = [], []
    for first, second in pairs:
        (judgement,) = judge([(first.tolist(), second.tolist())])
        assert judgement.test is not None
        told.append(judgement.verdict != Verdict.CANNOT_TELL)
        covered.append(judgement.test.low <= difference <= judgement.test.high)
    return float(np.mean(told)), float(np.mean(covered))


def marks_against_best(samples: list[list[float]]) -> list[bool]:
    """Return the marks there would be, were Holm's correction only over the comparisons with the best."""
    best = max(range(len(samples)), key=lambda index: sum(samples[index]))
    others = [index for index in range(len(samples)) if index != best]
    tests: list[Any] = [welch_test(samples[best], samples[index]) for index in others]
    adjusted = dict(zip(others, holm([test.p_value for test in tests]), strict=True))
    return [adjusted.get(index, 1.0) > LEVEL for index in range(len(samples))]


if __name__ == "__main__":
    main()
