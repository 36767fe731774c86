"""Compares architectures that were trained in the same setting: from records to judged pairs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.archive import read_predictions
from bench.errors import StoreError
from bench.records import Status, TrialRecord
from bench.report.judgement import Judgement, SeedsNeeded, judge, seeds_needed
from bench.report.statistics import mcnemar_p
from bench.report.tables import COMPARABLE, NOTED, OF_ARCHITECTURE, summarize
from bench.report.trials import counted_trials

VERSION = [column for column in OF_ARCHITECTURE if column != "architecture"]
COSTS = ["train_images_per_second", "inference_images_per_second", "parameters", "macs", "peak_memory_bytes"]


@dataclass(frozen=True)
class Side:
    """One architecture in one setting.

    `name` is its label, with the start of its file's or recipe's hash where two versions of these share the label: two
    searches may have found different values. Accuracies are fractions and `predictions` the attempts' folders, by seed,
    of the trials that ended well; `failures` counts the others. `costs` are means of `COSTS`, and `disturbed` says
    whether one of the speeds has a note.
    """

    label: str
    name: str
    accuracies: Mapping[int, float]
    predictions: Mapping[int, Path]
    costs: Mapping[str, float]
    failures: int
    disturbed: bool

    @property
    def values(self) -> list[float]:
        """The accuracies without their seeds."""
        return list(self.accuracies.values())


@dataclass(frozen=True)
class NetworkPair:
    """Two trained networks of the same seed on the same test images (McNemar's test); says nothing of architectures.

    `only_first` and `only_second` count the images that one of them alone got right. All three are None where the
    stored predictions cannot be compared, and `reason` then says why.
    """

    seed: int
    only_first: int | None = None
    only_second: int | None = None
    p_value: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two architectures in one setting, judged together with all others that are shown."""

    first: Side
    second: Side
    judgement: Judgement
    seeds: SeedsNeeded | None
    networks: tuple[NetworkPair, ...]

    @property
    def disturbed(self) -> bool:
        """Whether a speed of one of them has a note, so that ratios of speeds are not to be trusted."""
        return self.first.disturbed or self.second.disturbed

    @property
    def cost_ratios(self) -> dict[str, float]:
        """First over second of each cost that both have and that is not 0."""
        both = [name for name in COSTS if self.first.costs.get(name) and self.second.costs.get(name)]
        return {name: self.first.costs[name] / self.second.costs[name] for name in both}


@dataclass(frozen=True)
class Section:
    """The comparisons within one setting; `setting` holds the columns of `COMPARABLE`."""

    setting: Mapping[str, str]
    comparisons: tuple[Comparison, ...]


def compare(
    records: Sequence[TrialRecord], labels: Sequence[str], results: Path, difference: float = 0.005
) -> list[Section]:
    """Compare the architectures of these labels, each with each, in every setting that two of them have.

    Holm's adjustment is over all comparisons that are returned. Of each trial its last attempt counts.

    Args:
        records: the attempts, oldest first.
        labels: architectures as the records name them; a pair is in this order.
        results: the folder of the records, which holds the predictions.
        difference: the smallest difference of accuracies that matters, as a fraction, for the seeds needed.

    """
    settings = [(setting, _pairs(sides)) for setting, sides in sides_by_setting(records, labels, results)]
    judgements = iter(judge([(one.values, other.values) for _, pairs in settings for one, other in pairs]))
    return [
        Section(setting, tuple(_comparison(one, other, next(judgements), difference) for one, other in pairs))
        for setting, pairs in settings
        if pairs
    ]


def sides_by_setting(
    records: Sequence[TrialRecord], labels: Sequence[str], results: Path
) -> list[tuple[dict[str, str], list[Side]]]:
    """Return each setting in which one of the architectures was tried, with the sides in the order of the labels."""
    trials = counted_trials(records)
    trials = trials[trials["architecture"].isin(labels)]
    return [
        (dict(zip(COMPARABLE, map(str, key), strict=True)), _sides(group, labels, results))
        for key, group in trials.groupby(COMPARABLE)
    ]


def _sides(trials: pd.DataFrame, labels: Sequence[str], results: Path) -> list[Side]:
    sides = []
    for label in labels:
        versions = trials[trials["architecture"] == label]
        several = [column for column in VERSION if versions[column].nunique() > 1]
        for _, group in versions.groupby(VERSION, sort=False):
            hashes = " ".join(str(group.iloc[0][column])[:7] for column in several)
            sides.append(_side(group, f"{label} ({hashes})" if hashes else label, results))
    return sides


def _side(trials: pd.DataFrame, name: str, results: Path) -> Side:
    ended_well = trials[trials["status"] == Status.OK].sort_values("seed")
    row = summarize(trials)
    return Side(
        label=str(trials.iloc[0]["architecture"]),
        name=name,
        accuracies={int(seed): float(value) for seed, value in _columns(ended_well, "seed", "test_accuracy")},
        predictions={
            int(seed): results / "trials" / trial / attempt
            for seed, trial, attempt in _columns(ended_well, "seed", "trial_id", "attempt")
        },
        costs={cost: float(row[cost]) for cost in COSTS if pd.notna(row.get(cost))},
        failures=row["failures"],
        disturbed=any(row.get(kind) for kind in NOTED),
    )


def _columns(trials: pd.DataFrame, *names: str) -> Iterable[tuple[Any, ...]]:
    return zip(*(trials[name] for name in names), strict=True) if len(trials) else ()


def _pairs(sides: Sequence[Side]) -> list[tuple[Side, Side]]:
    """Return each side with each later one, but not two versions of one architecture."""
    return [(one, other) for one, other in itertools.combinations(sides, 2) if one.label != other.label]


def _comparison(first: Side, second: Side, judgement: Judgement, difference: float) -> Comparison:
    shared = [seed for seed in first.predictions if seed in second.predictions]
    return Comparison(
        first=first,
        second=second,
        judgement=judgement,
        seeds=seeds_needed(first.values, second.values, difference),
        networks=tuple(compare_networks(seed, first.predictions[seed], second.predictions[seed]) for seed in shared),
    )


def compare_networks(seed: int, first: Path, second: Path) -> NetworkPair:
    """Compare what two networks predicted, from the `predictions.npz` in their attempts' folders."""
    try:
        (labels, predicted1), (other_labels, predicted2) = _read(first), _read(second)
    except FileNotFoundError:
        return NetworkPair(seed, reason="predictions are missing")
    except StoreError as error:
        return NetworkPair(seed, reason=str(error))
    if not np.array_equal(labels, other_labels):
        return NetworkPair(seed, reason="the stored labels differ")
    right1, right2 = predicted1 == labels, predicted2 == labels
    only_first, only_second = int((right1 & ~right2).sum()), int((right2 & ~right1).sum())
    return NetworkPair(seed, only_first, only_second, mcnemar_p(only_first, only_second))


def _read(attempt: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """Return the labels and the predicted classes, (images,) each."""
    stored = read_predictions(attempt)
    return stored.labels, stored.logits.argmax(axis=1)


def to_json(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Return the comparisons as plain JSON values; accuracies, differences and spreads are fractions."""
    return [_plain(section.setting, each) for section in sections for each in section.comparisons]


def _plain(setting: Mapping[str, str], comparison: Comparison) -> dict[str, Any]:
    judgement, test, seeds = comparison.judgement, comparison.judgement.test, comparison.seeds
    return {
        **setting,
        "first": comparison.first.name,
        "second": comparison.second.name,
        "first_accuracies": comparison.first.accuracies,
        "second_accuracies": comparison.second.accuracies,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "difference": judgement.difference,
        "difference_ci95_low": test.low if test else None,
        "difference_ci95_high": test.high if test else None,
        "p_value": test.p_value if test else None,
        "p_value_holm": judgement.p_adjusted,
        "smallest_difference": seeds.difference if seeds else None,
        "spread": seeds.spread.deviation if seeds else None,
        "seeds_needed": seeds.count if seeds else None,
        "seeds_needed_upper": seeds.count_upper if seeds else None,
        "first_failures": comparison.first.failures,
        "second_failures": comparison.second.failures,
        "cost_ratios": comparison.cost_ratios,
        "disturbed": comparison.disturbed,
        "networks": [dataclasses.asdict(pair) for pair in comparison.networks],
    }
