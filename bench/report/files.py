"""Writes the tables: `leaderboard.md`, `leaderboard.csv` and `trials.parquet`, each replaced as a whole."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from bench.errors import StoreError
from bench.records import TrialRecord
from bench.report.display import display_rows, mark_notes, shared_facts
from bench.report.tables import leaderboard, trials_table

NOTES = """\
Accuracies are top-1 on the test set after the last epoch: the mean over seeds ± half of its 95 % interval
(Student's t), without an interval for a single seed; it speaks of other seeds, not of other test images. Speeds hold
for the machine, precision and batch size of their row alone.
"""


def write_report(folder: Path, records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Write all report files into the results folder, and return the leaderboard.

    Raises:
        StoreError: a file cannot be written.
    """
    table = leaderboard(records)
    try:
        _replace(folder / "leaderboard.csv", lambda path: table.to_csv(path, index=False))
        _replace(folder / "leaderboard.md", lambda path: path.write_text(to_markdown(table), encoding="utf-8"))
        _replace(folder / "trials.parquet", lambda path: trials_table(records).to_parquet(path, index=False))
    except OSError as error:
        raise StoreError(f"the report in {folder} cannot be written: {error}. The records are kept.") from error
    return table


def to_markdown(table: pd.DataFrame) -> str:
    """Return the leaderboard as Markdown, a section a data set."""
    sections = [_section(str(dataset), rows) for dataset, rows in table.groupby("dataset", sort=False)]
    return "\n".join(["# Leaderboard\n", *sections, NOTES])


def _section(dataset: str, rows: pd.DataFrame) -> str:
    facts = "\n".join(f"- {column}: {value}" for column, value in shared_facts(rows).items())
    body = display_rows(rows).to_markdown(index=False, disable_numparse=True)
    explained = "".join(f"\n`{mark}`: {note}.\n" for mark, note in mark_notes(rows).items())
    return f"## {dataset}\n\n{facts}\n\n{body}\n{explained}"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
