"""One row a setting, over its seeds: what `leaderboard.csv` holds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.records import Status, TrialRecord
from bench.report.judgement import among_best
from bench.report.statistics import mean_interval
from bench.report.trials import HARDWARE, Row, counted_trials, numbers

OTHERS = "resolved_other_trials"
IDENTITY = ["dataset", "architecture", "recipe", "train_fraction", "precision", "backend", *HARDWARE, "environment"]
SOURCES = ["architecture_source", "dataset_source", "data_fingerprint", "recipe_hash", "recipe_shared"]
SETTING = [*IDENTITY, *SOURCES]  # attempts that differ in any of these are never averaged
OF_ARCHITECTURE = ["architecture", "architecture_source", "recipe_hash"]
COMPARABLE = [column for column in SETTING if column not in OF_ARCHITECTURE]  # what compared architectures share
AVERAGED = {  # column of the leaderboard: column of the trials whose mean over the seeds it is
    "test_top5_accuracy_mean": "test_top5_accuracy",
    "test_nll_mean": "test_nll",
    "test_ece_mean": "test_ece",
    "test_time_accuracy_mean": "test_time_accuracy",
    "validation_accuracy_mean": "validation_accuracy",
    **{
        name: name
        for name in (
            "train_images_per_second",
            "compute_images_per_second",
            "input_images_per_second",
            "input_wait_share",
            "utilisation",
            "inference_images_per_second",
            "latency_p50_ms",
            "latency_p95_ms",
            "latency_p99_ms",
            "parameters",
            "trainable_parameters",
            "macs",
            "flops",
            "product_activations",
            "model_file_bytes",
            "peak_memory_bytes",
            "training_energy_joules",
            "trial_seconds",
        )
    },
}
OF_TRAINING = ["train_images_per_second", "utilisation", "training_energy_joules", "trial_seconds"]
OF_PROFILE = [
    *("compute_images_per_second", "input_images_per_second", "input_wait_share", "inference_images_per_second"),
    *("latency_p50_ms", "latency_p95_ms", "latency_p99_ms"),
]
TIMED = {*OF_TRAINING, *OF_PROFILE}  # what other trials on the machine slow down
ACCURACY = ["test_accuracy_mean", "test_accuracy_ci95_low", "test_accuracy_ci95_high"]
COUNTS = ["failures", "skipped"]
SPEED = ["train_images_per_second_ci95_low", "train_images_per_second_ci95_high"]
NOTED = {"disturbed": "timing_notes", "profile_disturbed": "profile_notes"}  # seeds with a note of that kind
LEADERBOARD = [
    *(*IDENTITY, "device", "seeds", *ACCURACY, "among_best", *AVERAGED),
    *(*SPEED, "timed_seeds", "energy_scope", *NOTED, *COUNTS, *SOURCES),
]
COST = ["parameters", "trainable_parameters", "macs", "flops", "product_activations", "model_file_bytes"]
WHOLE_NUMBERS = ["seeds", "timed_seeds", "devices", "cores_used", *COST, "peak_memory_bytes", *NOTED, *COUNTS]


def leaderboard(records: Sequence[TrialRecord], trials: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row a setting, the most accurate of each data set first; of each trial its last attempt counts.

    Means are over the seeds that ended well and have the figure: latency, say, is measured with one of them. Those of
    timings are over the seeds that ran with no other trial beside them, where there are any. `disturbed` counts the
    seeds in such a mean whose timing has a note or which had company. The interval is Student's t over them, blank for
    a single seed. `among_best` says whether a row cannot be told from the best of those that differ from it in
    architecture alone; blank where no two of them can be compared.

    Args:
        records: the attempts, oldest first.
        trials: their `trials_table`, where it has been made already.

    """
    if not records:
        return pd.DataFrame(columns=LEADERBOARD)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in _rows(counted_trials(records, trials)):
        groups.setdefault(tuple(row[column] for column in SETTING), []).append(row)
    kinds = {**dict.fromkeys(WHOLE_NUMBERS, "Int64"), "among_best": "boolean"}
    table = pd.DataFrame(_marked([_summary(rows) for rows in groups.values()]), columns=LEADERBOARD).astype(kinds)
    order = ["dataset", "test_accuracy_mean", "architecture", "devices", "cores_used", "environment"]
    return table.sort_values(order, ascending=[True, False, True, True, True, True], ignore_index=True)


def summarize(trials: pd.DataFrame) -> Row:
    """Return the leaderboard's row of one setting's trials, all but `among_best`."""
    return _summary(_rows(trials))


def _rows(trials: pd.DataFrame) -> list[Row]:
    """Return what the leaderboard needs of each trial, figures as numbers or nan."""
    columns = {name: trials[name].tolist() for name in ("status", "device", *SETTING)}
    for name in ("test_accuracy", OTHERS, *AVERAGED.values()):
        columns[name] = numbers(trials, name).astype(float).tolist()
    for name in ("energy_scope", *NOTED.values()):
        columns[name] = trials[name].tolist() if name in trials else [None] * len(trials)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _summary(group: Sequence[Row]) -> Row:
    ended_well = [row for row in group if row["status"] == Status.OK]
    result: Row = {column: group[0][column] for column in (*SETTING, "device")}
    result["seeds"] = len(ended_well)
    result["failures"] = sum(Status(row["status"]).is_failure for row in group)
    result["skipped"] = sum(row["status"] == Status.SKIPPED for row in group)
    accuracies = result["accuracies"] = [row["test_accuracy"] for row in ended_well]
    if not ended_well:
        return result
    result["test_accuracy_mean"] = _mean(accuracies)
    result |= _interval(ACCURACY[1:], accuracies)
    return result | _means(ended_well) | _timings(ended_well)


def _means(ended_well: Sequence[Row]) -> Row:
    means = {name: _mean([row[source] for row in _averaged(ended_well, source)]) for name, source in AVERAGED.items()}
    return {
        name: mean if mean is None or name not in WHOLE_NUMBERS else round(mean)
        for name, mean in means.items()
        if name != "training_energy_joules" or len(_energy_scopes(ended_well)) == 1
    }


def _timings(ended_well: Sequence[Row]) -> Row:
    """Return what is said of the timings: how many seeds they are of, how sure they are, how many were disturbed."""
    timed = _averaged(ended_well, "train_images_per_second")
    profiled = {id(row): row for name in OF_PROFILE for row in _averaged(ended_well, name)}
    scopes = _energy_scopes(ended_well)
    return {
        "timed_seeds": len(timed),
        "disturbed": sum(map(_is_disturbed, timed or ended_well)),
        "profile_disturbed": sum(_is_disturbed(row, "profile_notes") for row in profiled.values()),
        "energy_scope": scopes.pop() if len(scopes) == 1 else "",
        **_interval(SPEED, [row["train_images_per_second"] for row in timed]),
    }


def _averaged(ended_well: Sequence[Row], name: str) -> Sequence[Row]:
    """Return the trials that a figure is the mean of: of a timing those that ran alone, where there are any."""
    having = [row for row in ended_well if not math.isnan(row[name])]
    return (name in TIMED and [row for row in having if not row[OTHERS] > 0]) or having


def _is_disturbed(row: Row, notes: str = "timing_notes") -> bool:
    return row[OTHERS] > 0 or (isinstance(row[notes], str) and bool(json.loads(row[notes])))


def _energy_scopes(ended_well: Sequence[Row]) -> set[str]:
    scopes = (row["energy_scope"] for row in _averaged(ended_well, "training_energy_joules"))
    return {scope if isinstance(scope, str) else "" for scope in scopes}


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _interval(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Return Student's t interval of the mean over seeds under two names; nothing for fewer than two values."""
    interval = mean_interval(values)
    return {} if interval is None else dict(zip(names, interval, strict=True))


def _marked(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with `among_best`, judged among those that differ in architecture alone."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in COMPARABLE), []).append(row)
    return [
        {**row, "among_best": mark}
        for group in groups.values()
        for row, mark in zip(group, among_best([row["accuracies"] for row in group]), strict=True)
    ]
