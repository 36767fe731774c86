"""Prints tables and failures to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.archive import Archive
from bench.errors import StoreError
from bench.fields import printable
from bench.records import Reason, Status, TrialRecord
from bench.report.display import SETTING_SHOWN, display_rows, mark_notes, scaling_rows, shared_facts
from bench.report.scaling import VIRTUAL_NOTE, scaling

WIDTH_WITHOUT_TERMINAL = 160
MOST_ROWS = 100  # of a table on the terminal; more take it seconds, and nobody reads them there
MOST_PROBLEMS = 20
LOG_LINES = 10
TOLD_BY_LOGS = {Reason.EXCEPTION, Reason.PROCESS_EXIT, Reason.KILLED_BY_SIGNAL}  # other messages say it all
LEFT = {"architecture", "data set", *SETTING_SHOWN}
FILES = ("leaderboard.md", "leaderboard.csv", "scaling.csv", "searches.csv", "further.csv", "trials.parquet")


def make_console() -> Console:
    """Return a console on standard output, wide where it is no terminal, so that tables in files stay whole."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_WITHOUT_TERMINAL)
    return console


def print_problems(problems: Sequence[str]) -> None:
    """Print to standard error what of a results folder could not be read."""
    for problem in problems[:MOST_PROBLEMS]:
        print(f"bench: warning: {problem}", file=sys.stderr)
    if len(problems) > MOST_PROBLEMS:
        print(f"bench: warning: and {len(problems) - MOST_PROBLEMS:,} more such problems", file=sys.stderr)


def sound_records(archive: Archive, folder: Path) -> tuple[TrialRecord, ...]:
    """Return the records, after printing what could not be read.

    Raises:
        StoreError: there are none.

    """
    if archive.records:
        print_problems(archive.problems)
        return archive.records
    if not archive.problems:
        raise StoreError(f"no records in {folder}: `bench run` makes some, --results names another folder.")
    more = f" And {len(archive.problems) - 1:,} more such problems." if archive.problems[1:] else ""
    raise StoreError(f"no record in {printable(str(folder))} can be read: {archive.problems[0]}{more}")


def print_leaderboard(table: pd.DataFrame, folder: Path) -> None:
    """Print the leaderboard, a table a data set; what its rows share stands in the caption."""
    console = make_console()
    for dataset, rows in table.groupby("dataset", sort=False):
        console.print(_table(str(dataset), display_rows(rows.head(MOST_ROWS)), _caption(rows)))
    scaled = scaling(table)
    if len(scaled):
        note = VIRTUAL_NOTE if (scaled["device"] == "CPU").any() else ""
        console.print(_table("Scaling over devices", scaling_rows(scaled).head(MOST_ROWS), note))
    files = ", ".join(str(folder / name) for name in FILES if (folder / name).exists())
    console.print(f"written: {files}", soft_wrap=True, markup=False)


def print_failure(record: TrialRecord, folder: Path) -> None:
    """Print to standard error why a trial did not end well, the end of its log, and where to read more."""
    log = folder / "log.txt"
    where = f" (log: {log})" if log.exists() else f" (record: {folder / 'record.json'})"
    reason = f", {record.reason}" if record.reason else ""
    text = f"{record.status}{reason}: {record.spec.title}: {record.message}{where}"
    tail = record.log_tail.splitlines()[-LOG_LINES:] if record.reason in TOLD_BY_LOGS else []
    lines = [text, *(f"    {line}" for line in tail)]
    color = "yellow" if record.status == Status.SKIPPED else "red"
    Console(stderr=True, highlight=False).print(Text(printable("\n".join(lines))), soft_wrap=True, style=color)


def _caption(rows: pd.DataFrame) -> str:
    """Return what is to be said of all rows: the marks, what they share, and where those are that are not shown."""
    notes = [f"{mark} {note}" for mark, note in mark_notes(rows).items()]
    if len(rows) > MOST_ROWS:
        notes.insert(0, f"the first {MOST_ROWS} of {len(rows):,} rows; leaderboard.md has all")
    return "\n".join([*notes, "; ".join(f"{column} {value}" for column, value in shared_facts(rows).items())])


def _table(title: str, shown: pd.DataFrame, caption: str) -> Table:
    """Return a table of texts, none of which is read as markup."""
    result = Table(title=Text(title), caption=Text(caption), title_justify="left", caption_justify="left")
    for column in shown.columns:
        header = column.replace(" ", "\n")  # narrow, so that the table fits into 80 columns
        result.add_column(header, justify="left" if column in LEFT else "right", overflow="fold")
    for row in shown.itertuples(index=False):
        result.add_row(*map(Text, row))
    return result
