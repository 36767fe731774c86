"""Prints tables and failures to the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.records import Status, TrialRecord
from bench.report.display import SETTING_SHOWN, display_rows, mark_notes, shared_facts

WIDTH_WITHOUT_TERMINAL = 160
LEFT = {"architecture", *SETTING_SHOWN}


def make_console() -> Console:
    """Return a console on standard output, wide where it is no terminal, so that tables in files stay whole."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_WITHOUT_TERMINAL)
    return console


def print_leaderboard(table: pd.DataFrame, folder: Path) -> None:
    """Print the leaderboard, a table a data set; what its rows share stands in the caption."""
    console = make_console()
    for dataset, rows in table.groupby("dataset", sort=False):
        console.print(_table(str(dataset), rows))
    files = ", ".join(str(folder / name) for name in ("leaderboard.md", "leaderboard.csv", "trials.parquet"))
    console.print(f"written: {files}", soft_wrap=True, markup=False)


def print_failure(record: TrialRecord, folder: Path) -> None:
    """Print to standard error why a trial did not end well, and where to read more."""
    log = folder / "log.txt"
    where = f" (log: {log})" if log.exists() else f" (record: {folder / 'record.json'})"
    reason = f", {record.reason}" if record.reason else ""
    text = f"{record.status}{reason}: {record.spec.title}: {record.message}{where}"
    color = "yellow" if record.status == Status.SKIPPED else "red"
    Console(stderr=True, highlight=False).print(escape(text), soft_wrap=True, style=color)


def _table(dataset: str, rows: pd.DataFrame) -> Table:
    notes = [f"{mark} {note}" for mark, note in mark_notes(rows).items()]
    facts = "; ".join(f"{column} {value}" for column, value in shared_facts(rows).items())
    caption = escape("\n".join([*notes, facts]))
    result = Table(title=escape(dataset), caption=caption, title_justify="left", caption_justify="left")
    shown = display_rows(rows)
    for column in shown.columns:
        header = column.replace(" ", "\n")  # narrow, so that the table fits into 80 columns
        result.add_column(header, justify="left" if column in LEFT else "right", overflow="fold")
    for row in shown.itertuples(index=False):
        result.add_row(*map(escape, row))
    return result
