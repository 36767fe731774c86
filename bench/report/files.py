"""Writes the tables: `leaderboard.md`, `leaderboard.csv` and `trials.parquet`, each replaced as a whole."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from bench.errors import StoreError
from bench.records import TrialRecord
from bench.report.tables import leaderboard, trials_table

SHOWN = ["recipe", "precision", "backend", "machine", "environment"]
NOTES = """\
Accuracies are top-1 on the test set after the last epoch: the mean over seeds ± half of its 95 % interval (Student's t),
without an interval for a single seed. Speeds hold for the machine, precision and batch size of their row alone.
"""


def write_report(folder: Path, records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Write all report files into the results folder, and return the leaderboard.

    Raises:
        StoreError: a file cannot be written.
    """
    table = leaderboard(records)
    try:
        _replace(folder / "leaderboard.csv", lambda path: table.to_csv(path, index=False))
        _replace(folder / "leaderboard.md", lambda path: path.write_text(to_markdown(table)))
        _replace(folder / "trials.parquet", lambda path: trials_table(records).to_parquet(path, index=False))
    except OSError as error:
        raise StoreError(f"the report in {folder} cannot be written: {error}. The records are kept.") from error
    return table


def to_markdown(table: pd.DataFrame) -> str:
    """Return the leaderboard as Markdown: a section a data set; what all rows share is said once."""
    if table.empty:
        return "# Leaderboard\n\nNo trials yet.\n"
    sections = [_section(str(dataset), rows) for dataset, rows in table.groupby("dataset", sort=False)]
    return "\n".join(["# Leaderboard\n", *sections, NOTES])


def display_rows(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the leaderboard as a person reads it: percent, MB, and the given identifying columns."""
    shown = pd.DataFrame({"architecture": table["architecture"]})
    for column in columns:
        shown[column] = table[column]
    shown["top-1 %"] = [accuracy_text(*row) for row in table[_ACCURACY].itertuples(index=False)]
    shown["seeds"] = table["seeds"]
    shown["train img/s"] = table["train_images_per_second"].map(_whole)
    shown["infer img/s"] = table["inference_images_per_second"].map(_whole)
    shown["parameters"] = table["parameters"].map(_whole)
    shown["peak MB"] = (table["peak_memory_bytes"] / 1e6).map(_whole)
    shown["s/trial"] = table["trial_seconds"].map(_whole)
    for column in ("failures", "skipped"):
        if table[column].any():
            shown[column] = table[column]
    return shown


_ACCURACY = ["test_accuracy_mean", "test_accuracy_ci95_low", "test_accuracy_ci95_high"]


def accuracy_text(mean: float, low: float, high: float) -> str:
    """Return a mean accuracy with half of its interval, in percent."""
    if pd.isna(mean):
        return ""
    interval = "" if pd.isna(low) else f" ± {(high - low) * 50:.2f}"
    return f"{mean * 100:.2f}{interval}"


def _section(dataset: str, rows: pd.DataFrame) -> str:
    common = [column for column in SHOWN if rows[column].nunique() == 1]
    differing = [column for column in SHOWN if column not in common]
    facts = "\n".join(f"- {column}: {rows.iloc[0][column]}" for column in common)
    body = display_rows(rows, differing).to_markdown(index=False, disable_numparse=True)
    return f"## {dataset}\n\n{facts}\n\n{body}\n"


def _whole(value: float) -> str:
    return "" if pd.isna(value) else f"{round(value):,}"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
