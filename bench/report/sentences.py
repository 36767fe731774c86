"""Comparisons in plain words, and as the rows of tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bench.report.comparison import Comparison, Section, Side
from bench.report.display import ALL_IMAGES, DISTURBED, SETTING_SHOWN
from bench.report.judgement import LEVEL, POWER, SPREAD_CONFIDENCE, Verdict
from bench.report.statistics import varies

COST_COLUMNS = {  # heading: cost
    "train img/s": "train_images_per_second",
    "infer img/s": "inference_images_per_second",
    "parameters": "parameters",
    "MACs": "macs",
}
SPEEDS = ("train_images_per_second", "inference_images_per_second")
MEMORY = "peak_memory_bytes"
DATA_SOURCES = ["dataset_source", "data_fingerprint"]
NETWORKS_NOTE = (
    "McNemar: two trained networks on the same test images. Another seed trains another network, so this decides "
    "nothing between architectures."
)

SEARCHED = re.compile(r" tuned\((?P<keys>[a-z0-9_,]+); (?P<trials>[0-9]+) trials\)$")


def verdict_sentence(comparison: Comparison, family: int) -> str:
    """Say which of the two is better, or that this cannot be told; `family` is how many were judged together."""
    first, second, judgement = comparison.first, comparison.second, comparison.judgement
    verdict = {
        Verdict.BETTER: f"{first.name} is better than {second.name}",
        Verdict.WORSE: f"{first.name} is worse than {second.name}",
        Verdict.CANNOT_TELL: f"Cannot tell {first.name} from {second.name}",
    }[judgement.verdict]
    because = f": {judgement.reason}" if judgement.reason else ""
    means = f"Mean test accuracy is {_mean(first)} against {_mean(second)}."
    return f"{verdict}{because}. {means}{_same_scores(comparison)}{_caution(comparison, family)}"


def seeds_sentence(comparison: Comparison, difference: float) -> str:
    """Say how many seeds it takes to see the smallest difference of interest, a fraction."""
    seeds = comparison.seeds
    if seeds is None:
        return "These seeds show no spread, so how many would settle it cannot be said. Run more of each."
    return (
        f"To see a true difference of {difference * 100:g} points takes about {seeds.count:,} seeds of each, or "
        f"{seeds.count_upper:,} should the spread be larger than seen."
    )


def basis_sentence(section: Section) -> str:
    """Say whether each architecture got values of the recipe that suit it, or all of them the recipe's."""
    recipe = section.setting["recipe"]
    found = SEARCHED.search(recipe)
    if found is None:
        return f"That is under this recipe ({recipe}), with no search for values that suit each of them."
    *others, last = found["keys"].split(",")
    keys = f"{', '.join(others)} and {last} were" if others else f"{last} was"
    return f"For each of them, {keys} searched first: {found['trials']} trials, by accuracy on validation images."


def section_title(section: Section, sections: Sequence[Section]) -> str:
    """Return the data set with what tells this section from the others."""
    varying = [name for name in SETTING_SHOWN if len({each.setting[name] for each in sections}) > 1]
    facts = [f"{name} {section.setting[name]}" for name in varying]
    same_data = [each for each in sections if each.setting["dataset"] == section.setting["dataset"]]
    if any(len({each.setting[name] for each in same_data}) > 1 for name in DATA_SOURCES):
        facts.append("data " + " ".join(section.setting[name][:7] for name in DATA_SOURCES))
    return "; ".join([section.setting["dataset"], *facts])


def shared_setting(sections: Sequence[Section]) -> str:
    """Return what all sections share of recipe, precision, backend, hardware and environment."""
    shared = [name for name in SETTING_SHOWN if len({each.setting[name] for each in sections}) == 1]
    return "; ".join(_facts(sections[0].setting, shared))


def verdict_row(comparison: Comparison) -> dict[str, str]:
    """Return the judgement as a row; differences in percentage points."""
    judgement, test, seeds = comparison.judgement, comparison.judgement.test, comparison.seeds
    return {
        "comparison": pair_name(comparison),
        "points": "" if judgement.difference is None else _signed(judgement.difference),
        "95 % interval": f"{_signed(test.low)} to {_signed(test.high)}" if test else "",
        "p": "" if judgement.p_adjusted is None else probability(judgement.p_adjusted),
        "verdict": str(judgement.verdict),
        "seeds needed": f"{seeds.count:,} to {seeds.count_upper:,}" if seeds else "",
    }


def cost_row(comparison: Comparison) -> dict[str, str]:
    """Return the first's speed and size as multiples of the second's, and the difference of their peak memory.

    Memory as a difference, since on a CPU most of it is the libraries', in both alike.
    """
    ratios, costs = comparison.cost_ratios, (comparison.first.costs, comparison.second.costs)
    mark = f" {DISTURBED}" if comparison.disturbed else ""
    values = {
        name: f"{ratios[cost]:.2f}×{mark if cost in SPEEDS else ''}" if cost in ratios else ""
        for name, cost in COST_COLUMNS.items()
    }
    memory = [each.get(MEMORY) for each in costs]
    difference = "" if None in memory else f"{(costs[0][MEMORY] - costs[1][MEMORY]) / 1e6:+,.0f} MB"
    return {"comparison": pair_name(comparison), **values, "peak memory": difference}


def network_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row a pair of trained networks; the comparison stands in the first of them."""
    return [
        {
            "comparison": "" if number else pair_name(comparison),
            "seed": str(pair.seed),
            "only first right": "" if pair.only_first is None else f"{pair.only_first:,}",
            "only second right": "" if pair.only_second is None else f"{pair.only_second:,}",
            "p": "" if pair.p_value is None else probability(pair.p_value),
            "not compared": pair.reason,
        }
        for number, pair in enumerate(comparison.networks)
    ]


def notes(family: int, difference: float) -> list[str]:
    """Return what the tables' columns mean; `family` is how many tests were judged together."""
    tests = "of one comparison" if family == 1 else f"adjusted by Holm for the {family} tests shown"
    points = "points: the difference of mean test accuracies, first minus second, in percentage points"
    tested = [
        f"{points}; the interval is Welch's, over the seeds. It is this difference's own; the verdict follows p.",
        f"p: Welch's test, {tests}. At {LEVEL:g} or below the verdict is better or worse; above, it is cannot tell, "
        "which does not mean equal.",
    ]
    return [
        *(tested if family else [f"{points}."]),
        f"seeds needed: of each architecture, to see a true difference of {difference * 100:g} points with a "
        f"probability of {POWER * 100:g} %, compared by itself; first with the spread seen, then with its upper "
        f"{SPREAD_CONFIDENCE * 100:g} % limit, since few seeds say little of their spread.",
    ]


def pair_name(comparison: Comparison) -> str:
    """Return both names, a line each."""
    return f"{comparison.first.name}\nvs {comparison.second.name}"


def probability(value: float) -> str:
    """Return a p-value to three digits after the point."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def setting_line(setting: Mapping[str, str]) -> str:
    """Return data set and setting in a line, as an error names them."""
    facts = "; ".join(_facts(setting, SETTING_SHOWN))
    hashes = " ".join(setting[name][:7] for name in DATA_SOURCES)
    return f"{setting['dataset']}; {facts}; data {hashes}"


def _facts(setting: Mapping[str, str], names: Iterable[str]) -> list[str]:
    return [f"{name} {setting[name]}" for name in names if (name, setting[name]) != ALL_IMAGES]


def _mean(side: Side) -> str:
    count = len(side.accuracies)
    if not count:
        return "no value"
    failed = f", {side.failures} more did not end well" if side.failures else ""
    return f"{sum(side.values) / count * 100:.2f} % ({count} seed{'s' * (count != 1)}{failed})"


def _same_scores(comparison: Comparison) -> str:
    """Return a warning of a side whose seeds made no difference, though the test could go by the other's spread."""
    sides = [side for side in (comparison.first, comparison.second) if len(side.accuracies) > 1]
    same = [side.name for side in sides if not varies(side.values)]
    if not same or comparison.judgement.test is None:
        return ""
    return f" All seeds of {same[0]} scored the same: too few of them, or without effect; be wary of the verdict."


def _caution(comparison: Comparison, family: int) -> str:
    """Return why an interval without 0 is no verdict here, where that is so."""
    test = comparison.judgement.test
    if test is None or comparison.judgement.verdict != Verdict.CANNOT_TELL or test.low <= 0 <= test.high:
        return ""
    return (
        f" By itself this would be a difference (p {probability(test.p_value)}); among {family} comparisons one like "
        "it comes up too often by chance."
    )


def _signed(fraction: float) -> str:
    return f"{fraction * 100:+.2f}"
