"""Writes the tables, each replaced as a whole.

`leaderboard.md` and `.csv`, `trials.parquet`, and where there is something to show `scaling.csv`, `searches.csv` and
`further.csv`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from bench.atomic import replacing
from bench.errors import StoreError
from bench.records import TrialRecord
from bench.report.display import display_rows, mark_notes, markdown_text, scaling_rows, shared_facts
from bench.report.further import further
from bench.report.scaling import VIRTUAL_NOTE, scaling
from bench.report.searches import searches
from bench.report.tables import leaderboard
from bench.report.trials import trials_table

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would compute

NOTES = """\
Accuracies are top-1 on the test set after the last epoch: the mean over seeds ± half of its 95 % interval
(Student's t), without an interval for a single seed; it speaks of other seeds, not of other test images. Speeds hold
for the machine, precision and batch size of their row alone. A row whose recipe does not say `tuned` compares
architectures under this recipe: other values of it might suit one of them better.
"""


def write_report(folder: Path, records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Write all report files into the results folder, and return the leaderboard.

    Raises:
        StoreError: a file cannot be written.
    """
    trials = trials_table(records)
    table = leaderboard(records, trials)
    scaled, elsewhere = scaling(table), further(trials)
    try:
        _replace(folder / "leaderboard.csv", lambda path: to_csv(table, path))
        _replace(folder / "leaderboard.md", lambda path: path.write_text(to_markdown(table), encoding="utf-8"))
        _replace(folder / "trials.parquet", lambda path: trials.to_parquet(path, index=False))
        for name, some in {"scaling.csv": scaled, "searches.csv": searches(trials), "further.csv": elsewhere}.items():
            if len(some):
                _replace(folder / name, partial(to_csv, some))
            else:
                (folder / name).unlink(missing_ok=True)  # of records that are gone
    except OSError as error:
        raise StoreError(f"the report in {folder} cannot be written: {error}. The records are kept.") from error
    return table


def to_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, in which no text is a formula."""
    texts = table.select_dtypes(["object", "string"]).columns
    table.assign(**{name: table[name].map(_no_formula) for name in texts}).to_csv(path, index=False)


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def to_markdown(table: pd.DataFrame) -> str:
    """Return the leaderboard as Markdown, a section a data set."""
    sections = [_section(str(dataset), rows) for dataset, rows in table.groupby("dataset", sort=False)]
    scaled = scaling(table)
    sections += [_scaling_section(scaled)] if len(scaled) else []
    return "\n".join(["# Leaderboard\n", *sections, NOTES])


def _section(dataset: str, rows: pd.DataFrame) -> str:
    facts = "\n".join(f"- {column}: {markdown_text(value)}" for column, value in shared_facts(rows).items())
    explained = "".join(f"\n`{mark}`: {note}.\n" for mark, note in mark_notes(rows).items())
    return f"## {markdown_text(dataset)}\n\n{facts}\n\n{_table(display_rows(rows))}\n{explained}"


def _scaling_section(scaled: pd.DataFrame) -> str:
    note = f"\n{VIRTUAL_NOTE}\n" if (scaled["device"] == "CPU").any() else ""
    return f"## Scaling over devices\n\n{_table(scaling_rows(scaled))}\n{note}"


def _table(rows: pd.DataFrame) -> str:
    return rows.map(markdown_text).to_markdown(index=False, disable_numparse=True)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    with replacing(path) as temporary:
        write(temporary)
