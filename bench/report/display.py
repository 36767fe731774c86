"""The leaderboard as a person reads it: percent, MB, whole numbers, and what all rows share said once."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from bench.report.tables import ACCURACY, COUNTS, NOTED

SOURCES_SHOWN = {"source": ["architecture_source"], "data": ["dataset_source", "data_fingerprint"]}
OF_SOURCES = [name for names in SOURCES_SHOWN.values() for name in names]
SETTING_SHOWN = ["recipe", "train_fraction", "precision", "backend", "devices", "machine", "cores_used", "environment"]
ALL_IMAGES = ("train_fraction", "1.0")  # goes without saying
MARK = "*"
DISTURBED = "!"
DISTURBED_NOTE = (
    "a speed that never settled, or a machine that was shared, be it with other trials; the trial's record says which"
)
MARKUP = str.maketrans({each: f"\\{each}" for each in "\\|[]`"} | {"<": "&lt;", ">": "&gt;", "\n": " ", "\t": " "})
MARK_NOTE = "the best of its setting, or not told from it by its seeds"


def shared_facts(rows: pd.DataFrame) -> dict[str, str]:
    """Return what all rows have in common of recipe, precision, backend, hardware and environment."""
    shared = {column: str(rows.iloc[0][column]) for column in SETTING_SHOWN if rows[column].nunique() == 1}
    return {column: value for column, value in shared.items() if (column, value) != ALL_IMAGES}


def display_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows as text, with the columns of the setting in which they differ."""
    shown = pd.DataFrame({"architecture": rows["architecture"]})
    for column in SETTING_SHOWN:
        if rows[column].nunique() > 1:
            shown[column] = rows[column]
    for name, columns in SOURCES_SHOWN.items():
        if rows.groupby("architecture")[columns].nunique().gt(1).any(axis=None):  # rows that would look alike
            shown[name] = rows[columns].apply(lambda row: " ".join(value[:7] for value in row), axis=1)
    accuracies = [accuracy_text(*row) for row in rows[ACCURACY].astype(float).itertuples(index=False)]
    marks = [f" {MARK}" if mark else "" for mark in rows["among_best"].fillna(False)]
    shown["top-1 %"] = [text + mark for text, mark in zip(accuracies, marks, strict=True)]
    if rows["test_time_accuracy_mean"].notna().any():
        shown["views top-1 %"] = rows["test_time_accuracy_mean"].map(lambda value: _fixed(value * 100, 2))
    shown["seeds"] = rows["seeds"]
    shown["train img/s"] = _doubted(rows["train_images_per_second"].map(_whole), rows["disturbed"])
    shown["infer img/s"] = _doubted(rows["inference_images_per_second"].map(_whole), rows["profile_disturbed"])
    if rows["latency_p50_ms"].notna().any():
        shown["1 img ms"] = rows["latency_p50_ms"].map(lambda value: _fixed(value, 2))
    shown["parameters"] = rows["parameters"].map(_whole)
    if rows["macs"].notna().any():
        shown["MMACs"] = (rows["macs"].astype("Float64") / 1e6).map(
            lambda value: "" if pd.isna(value) else f"{value:,.1f}"
        )
    shown["peak MB"] = (rows["peak_memory_bytes"] / 1e6).map(_whole)
    shown["s/trial"] = rows["trial_seconds"].map(_whole)
    for column in COUNTS:
        if rows[column].any():
            shown[column] = rows[column]
    return shown.astype(str)


def scaling_rows(scaled: pd.DataFrame) -> pd.DataFrame:
    """Return the scaling table as text: a row an architecture and setting, two columns a number of devices.

    Of the setting and the hashes of the sources, the columns in which rows differ.
    """
    varying = [name for name in (*SETTING_SHOWN, *OF_SOURCES) if name != "devices" and scaled[name].nunique() > 1]
    shown: dict[tuple[Any, ...], dict[str, str]] = {}
    counts = sorted(map(int, scaled["devices"].unique()))
    for row in scaled.to_dict("records"):
        texts = shown.setdefault(tuple(row[name] for name in ("dataset", "architecture", *varying)), {})
        mark = f" {DISTURBED}" if row["disturbed"] else ""
        texts[_speed_heading(row["devices"])] = f"{_whole(row['train_images_per_second'])}{mark}"
        if row["devices"] > 1 and pd.notna(row["efficiency"]):
            texts[_efficiency_heading(row["devices"])] = f"{row['efficiency'] * 100:.0f} %"
    names = ["data set", "architecture", *varying]
    figures = [name for count in counts for name in (_speed_heading(count), _efficiency_heading(count))]
    figures = [name for name in figures if any(name in texts for texts in shown.values())]
    rows = [[*_shortened(names, key), *(texts.get(name, "") for name in figures)] for key, texts in shown.items()]
    return pd.DataFrame(rows, columns=[*names, *figures]).astype(str)


def _shortened(names: list[str], key: tuple[Any, ...]) -> list[str]:
    return [str(value)[:7] if name in OF_SOURCES else str(value) for name, value in zip(names, key, strict=True)]


def _speed_heading(devices: int) -> str:
    return f"{devices} device{'s' * (devices != 1)} img/s"


def _efficiency_heading(devices: int) -> str:
    return f"{devices} devices efficiency"


def mark_notes(rows: pd.DataFrame) -> dict[str, str]:
    """Return each mark that a row has, with what it means."""
    notes = {MARK: MARK_NOTE} if rows["among_best"].any() else {}
    return {**notes, DISTURBED: DISTURBED_NOTE} if rows[list(NOTED)].fillna(0).any(axis=None) else notes


def _doubted(texts: pd.Series[str], notes: pd.Series[Any]) -> list[str]:
    """Return the texts, marked where there are notes on the figure."""
    return [f"{text} {DISTURBED}" if count else text for text, count in zip(texts, notes.fillna(0), strict=True)]


def accuracy_text(mean: float, low: float, high: float) -> str:
    """Return a mean accuracy with half of its interval, in percent; empty for nan."""
    if math.isnan(mean):
        return ""
    interval = "" if math.isnan(low) else f" ± {(high - low) * 50:.2f}"
    return f"{mean * 100:.2f}{interval}"


def _whole(value: float) -> str:
    return "" if pd.isna(value) else f"{round(value):,}"


def _fixed(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:,.{digits}f}"


def markdown_text(value: object) -> str:
    """Return a text as Markdown shows it as it is: no markup, no HTML, and within one cell of a table."""
    return str(value).translate(MARKUP)
