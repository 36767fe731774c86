"""The tables: one row an attempt (`trials_table`), and one row a setting, over its seeds (`leaderboard`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.measurement.peak import utilisation
from bench.recipes import recipe_label
from bench.records import Status, TrialRecord, last_attempts
from bench.report.judgement import among_best
from bench.report.statistics import mean_interval

PEAK = "resolved_matmul_peak_flops"
IDENTITY = ["dataset", "architecture", "recipe", "precision", "backend", "machine", "environment"]
SOURCES = ["architecture_source", "dataset_source", "data_fingerprint"]
SETTING = [*IDENTITY, *SOURCES]  # attempts that differ in any of these are never averaged
OF_ARCHITECTURE = ["architecture", "architecture_source"]
COMPARABLE = [column for column in SETTING if column not in OF_ARCHITECTURE]  # what compared architectures share
AVERAGED = {  # column of the leaderboard: column of the trials whose mean over the seeds it is
    "test_top5_accuracy_mean": "test_top5_accuracy",
    "test_nll_mean": "test_nll",
    "test_ece_mean": "test_ece",
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
ACCURACY = ["test_accuracy_mean", "test_accuracy_ci95_low", "test_accuracy_ci95_high"]
COUNTS = ["failures", "skipped"]
SPEED = ["train_images_per_second_ci95_low", "train_images_per_second_ci95_high"]
NOTED = {"disturbed": "timing_notes", "profile_disturbed": "profile_notes"}  # seeds with a note of that kind
LEADERBOARD = [
    *(*IDENTITY, "seeds", *ACCURACY, "among_best", *AVERAGED),
    *(*SPEED, "energy_scope", *NOTED, *COUNTS, *SOURCES),
]
COST = ["parameters", "trainable_parameters", "macs", "flops", "product_activations", "model_file_bytes"]
WHOLE_NUMBERS = ["seeds", *COST, "peak_memory_bytes", *NOTED, *COUNTS]


def trials_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return one row an attempt, with everything that is a single value. Lists and mappings are JSON text."""
    table = pd.DataFrame([_flatten(record) for record in records])
    return _with_utilisation(table) if PEAK in table and "macs" in table else table


def _with_utilisation(trials: pd.DataFrame) -> pd.DataFrame:
    """Add the share of the matrix-product peak: the greatest that was measured on that machine at that precision."""
    peaks = pd.to_numeric(trials[PEAK]).groupby([trials["machine"], trials["precision"]]).transform("max")
    speed, macs = (pd.to_numeric(trials[name]) for name in ("train_images_per_second", "macs"))
    return trials.assign(utilisation=utilisation(speed, macs, peaks))


def counted_trials(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return one row a trial, machine and environment: its last attempt, with the columns of `trials_table`."""
    return trials_table(list(last_attempts(records, _environment_key).values()))


def leaderboard(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return one row a setting, the most accurate of each data set first; of each trial its last attempt counts.

    Means are over the seeds that ended well and have the figure: latency, say, is measured with one of them.
    `disturbed` counts those whose timing has a note. The interval is Student's t over them, blank for a single seed.
    `among_best` says whether a row cannot be told from the best of those that differ from it in architecture alone;
    blank where no two of them can be compared.
    """
    if not records:
        return pd.DataFrame(columns=LEADERBOARD)
    trials = counted_trials(records)
    rows = [summarize(group) for _, group in trials.groupby(SETTING, sort=False, dropna=False)]
    kinds = {**dict.fromkeys(WHOLE_NUMBERS, "Int64"), "among_best": "boolean"}
    table = pd.DataFrame(_marked(rows), columns=LEADERBOARD).astype(kinds)
    order = ["dataset", "test_accuracy_mean", "architecture", "environment"]
    return table.sort_values(order, ascending=[True, False, True, True], ignore_index=True)


def _environment_key(record: TrialRecord) -> tuple[str, str, str]:
    return record.trial_id, record.environment.machine, record.environment.software


def summarize(group: pd.DataFrame) -> dict[str, Any]:
    """Return the leaderboard's row of one setting's trials, all but `among_best`."""
    ended_well = group[group["status"] == Status.OK]
    row: dict[str, Any] = {column: group.iloc[0][column] for column in SETTING}
    row["seeds"] = len(ended_well)
    row["failures"] = sum(Status(status).is_failure for status in group["status"])
    row["skipped"] = int((group["status"] == Status.SKIPPED).sum())
    row["accuracies"] = []
    if not len(ended_well):
        return row
    for name, source in AVERAGED.items():
        mean = pd.to_numeric(ended_well[source]).mean() if source in ended_well else None
        row[name] = round(mean) if name in WHOLE_NUMBERS and pd.notna(mean) else mean
    for name, source in NOTED.items():
        row[name] = sum(bool(json.loads(notes)) for notes in _column(ended_well, source, "[]"))
    row["energy_scope"] = _one_scope(row, ended_well)
    accuracies = row["accuracies"] = ended_well["test_accuracy"].astype(float).tolist()
    row["test_accuracy_mean"] = sum(accuracies) / len(accuracies)
    row |= _interval(ACCURACY[1:], accuracies)
    return row | _interval(SPEED, pd.to_numeric(ended_well["train_images_per_second"]).dropna().tolist())


def _interval(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Return Student's t interval of the mean over seeds under two names; nothing for fewer than two values."""
    interval = mean_interval(values)
    return {} if interval is None else dict(zip(names, interval, strict=True))


def _one_scope(row: dict[str, Any], trials: pd.DataFrame) -> str:
    """Return what the energy of all seeds was counted of; where that differs, blank the mean."""
    scopes = set(_column(trials, "energy_scope", ""))
    if len(scopes) > 1:
        row["training_energy_joules"] = None
    return scopes.pop() if len(scopes) == 1 else ""


def _column(trials: pd.DataFrame, name: str, missing: str) -> pd.Series[Any]:
    """Return a column that older records may lack."""
    return trials[name].fillna(missing) if name in trials else pd.Series([missing] * len(trials))


def _marked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with `among_best`, judged among those that differ in architecture alone."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in COMPARABLE), []).append(row)
    return [
        {**row, "among_best": mark}
        for group in groups.values()
        for row, mark in zip(group, among_best([row["accuracies"] for row in group]), strict=True)
    ]


def _flatten(record: TrialRecord) -> dict[str, Any]:
    spec, environment = record.spec, record.environment
    return {
        "trial_id": record.trial_id,
        "attempt": record.attempt,
        "status": record.status,
        "reason": record.reason,
        "message": record.message,
        "dataset": spec.dataset.label,
        "architecture": spec.architecture.label,
        "recipe": recipe_label(spec.recipe),
        "precision": spec.precision,
        "backend": spec.backend,
        "seed": spec.seed,
        "machine": environment.machine,
        "environment": environment.software,
        "architecture_source": spec.architecture.source_hash,
        "dataset_source": spec.dataset.source_hash,
        "data_fingerprint": spec.data_fingerprint,
        "started_at": record.started_at,
        "trial_seconds": record.seconds - record.phases.get("profile", 0.0),  # which one seed of many has
        **{key: _plain(value) for key, value in record.metrics.items()},
        **{f"{phase}_seconds": seconds for phase, seconds in record.phases.items()},
        **{f"resolved_{key}": _plain(value) for key, value in record.resolved.items()},
        "recipe_resolved": _plain(spec.to_json()["recipe"]),
        "environment_full": _plain(environment.to_json()),
    }


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value
