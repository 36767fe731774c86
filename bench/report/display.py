"""The leaderboard as a person reads it: percent, MB, whole numbers, and what all rows share said once."""

from __future__ import annotations

import math

import pandas as pd

from bench.report.tables import ACCURACY, COUNTS

SOURCES_SHOWN = {"source": ["architecture_source"], "data": ["dataset_source", "data_fingerprint"]}
SETTING_SHOWN = ["recipe", "precision", "backend", "machine", "environment"]


def shared_facts(rows: pd.DataFrame) -> dict[str, str]:
    """Return what all rows have in common of recipe, precision, backend, machine and environment."""
    return {column: str(rows.iloc[0][column]) for column in SETTING_SHOWN if rows[column].nunique() == 1}


def display_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows as text, with the columns of the setting in which they differ."""
    shared = shared_facts(rows)
    shown = pd.DataFrame({"architecture": rows["architecture"]})
    for column in SETTING_SHOWN:
        if column not in shared:
            shown[column] = rows[column]
    for name, columns in SOURCES_SHOWN.items():
        if rows.groupby("architecture")[columns].nunique().gt(1).any(axis=None):  # rows that would look alike
            shown[name] = rows[columns].apply(lambda row: " ".join(value[:7] for value in row), axis=1)
    shown["top-1 %"] = [accuracy_text(*row) for row in rows[ACCURACY].astype(float).itertuples(index=False)]
    shown["seeds"] = rows["seeds"]
    shown["train img/s"] = rows["train_images_per_second"].map(_whole)
    shown["infer img/s"] = rows["inference_images_per_second"].map(_whole)
    shown["parameters"] = rows["parameters"].map(_whole)
    shown["peak MB"] = (rows["peak_memory_bytes"] / 1e6).map(_whole)
    shown["s/trial"] = rows["trial_seconds"].map(_whole)
    for column in COUNTS:
        if rows[column].any():
            shown[column] = rows[column]
    return shown.astype(str)


def accuracy_text(mean: float, low: float, high: float) -> str:
    """Return a mean accuracy with half of its interval, in percent; empty for nan."""
    if math.isnan(mean):
        return ""
    interval = "" if math.isnan(low) else f" ± {(high - low) * 50:.2f}"
    return f"{mean * 100:.2f}{interval}"


def _whole(value: float) -> str:
    return "" if pd.isna(value) else f"{round(value):,}"
