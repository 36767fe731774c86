"""`bench status`: what every `bench run` at work on a results folder is at."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from bench.cli.console import make_console
from bench.cli.screen import MOST_FAILED, OTHER_LINES, duration, failed_lines, one_line, sweep_screen
from bench.errors import StoreError
from bench.execution.snapshot import Life, SweepState, life_of, read_states
from bench.fields import printable
from bench.records import Status, last_attempts
from bench.store import Store

WATCH_SECONDS = {True: 1.0, False: 10.0}  # from one look to the next, by whether that is on a terminal
ROWS_WITHOUT_TERMINAL = 100


@dataclass(frozen=True)
class Run:
    """A `bench run`, and whether it lives."""

    state: SweepState
    life: Life


@dataclass(frozen=True)
class Overview:
    """All runs on a results folder; where none is at work, also how many trials have ended there, by status."""

    folder: Path
    runs: tuple[Run, ...]
    problems: tuple[str, ...]
    ended: dict[str, int] | None

    @property
    def is_at_work(self) -> bool:
        """Whether any run is."""
        return any(run.life == Life.AT_WORK for run in self.runs)

    def to_json(self) -> str:
        """Return it on one line."""
        runs = [{**dataclasses.asdict(run.state), "life": run.life} for run in self.runs]
        return json.dumps({"runs": runs, "problems": self.problems, "ended": self.ended}, ensure_ascii=False)


def show_status(arguments: argparse.Namespace) -> int:
    """Show what is at work; with `--watch` until nothing is, or until Ctrl-C. Returns 0.

    Raises:
        StoreError: the results folder does not exist.

    """
    if not arguments.results.is_dir():
        name = printable(str(arguments.results))
        raise StoreError(f"no results folder {name}: `bench run` makes it, --results names another one.")
    with suppress(KeyboardInterrupt):  # that is how one ends watching
        if arguments.watch:
            _watch(arguments.results, arguments.json)
        else:
            _print(make_console(), look(arguments.results), arguments.json)
    return 0


def look(folder: Path) -> Overview:
    """Return what is at work on a results folder."""
    states, problems = read_states(folder)
    runs = tuple(Run(state, life_of(state)) for state in states)
    at_work = any(run.life == Life.AT_WORK for run in runs)
    return Overview(folder, runs, tuple(problems), None if at_work else _ended(folder))


def _ended(folder: Path) -> dict[str, int]:
    last = last_attempts(Store(folder).read().records, lambda record: record.trial_id).values()
    counts = Counter(record.status for record in last)
    return {status.value: counts[status] for status in Status if counts[status]}


def _watch(folder: Path, as_json: bool) -> None:
    console = make_console()
    with ExitStack() as stack:
        live = None
        if console.is_terminal and not as_json:
            live = stack.enter_context(Live(console=console, auto_refresh=False, transient=True))
        while (overview := look(folder)).is_at_work:
            if live:
                live.update(_screen(overview, console), refresh=True)
            else:
                _print(console, overview, as_json)
            time.sleep(WATCH_SECONDS[console.is_terminal])
    _print(console, overview, as_json)


def _print(console: Console, overview: Overview, as_json: bool) -> None:
    if as_json:
        print(overview.to_json(), flush=True)
    else:
        console.print(_screen(overview, console))


def _screen(overview: Overview, console: Console) -> Group:
    rows = _rows(overview, console)
    parts: list[RenderableType] = [Text(one_line(problem), style="yellow") for problem in overview.problems]
    for run in overview.runs:
        parts += [*_run_lines(run, rows), *([Text()] if len(overview.runs) > 1 else [])]
    if overview.ended is not None:
        parts.append(Text(_nothing(overview)))
    return Group(*parts)


def _rows(overview: Overview, console: Console) -> int:
    """Return how many running trials each run may show, so that the screens of all of them fit into the terminal."""
    if not console.is_terminal:
        return ROWS_WITHOUT_TERMINAL
    others = sum(OTHER_LINES + 3 + 2 * min(MOST_FAILED, len(run.state.failed)) for run in overview.runs)
    return max(1, (console.height - others) // max(1, len(overview.runs)))


def _run_lines(run: Run, rows: int) -> Iterator[RenderableType]:
    state = run.state
    yield Text(one_line(state.command), style="bold")
    yield Text(_life(run), style="" if run.life == Life.AT_WORK else "yellow")
    if run.life != Life.DEAD:  # what it says of time left and running trials was true once
        yield sweep_screen(state, rows)
    yield from failed_lines(state.failed, sum(state.ended.get(each.value, 0) for each in Status if each.is_failure))


def _life(run: Run) -> str:
    state = run.state
    number, _, host = state.process.partition("@")
    process = f"process {number} on {one_line(host)}"
    last = datetime.fromisoformat(state.updated_at)
    if run.life == Life.DEAD:
        return f"{process} ended without a word at {last:%Y-%m-%d %H:%M:%S} UTC; the same command resumes it"
    if run.life == Life.SILENT:
        return (
            f"{process} has not been heard of since {last:%Y-%m-%d %H:%M:%S} UTC; if it has ended there, the same "
            "command resumes it"
        )
    since = (datetime.now(UTC) - datetime.fromisoformat(state.started_at)).total_seconds()
    return f"{process}, at work for {duration(since)}"


def _nothing(overview: Overview) -> str:
    ended = overview.ended or {}
    counts = ", ".join(f"{count:,} {status}" for status, count in ended.items())
    total = sum(ended.values())
    trials = f"{total:,} trial{'s' * (total != 1)} ended there: {counts}" if total else "no trial has ended there"
    return f"nothing is at work on {one_line(str(overview.folder))}; {trials}"
