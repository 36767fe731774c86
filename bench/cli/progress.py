"""Live progress: a screen where there is a terminal, plain lines where there is none, nothing with `--quiet`."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench.cli.screen import OTHER_LINES, one_line, sweep_screen
from bench.data.cache import Prepared
from bench.events import Epoch, Resumed, Step
from bench.execution.board import Board
from bench.execution.engine import Unit
from bench.execution.planning import Trial
from bench.execution.runner import Observer
from bench.fields import printable
from bench.records import Status, TrialRecord

EPOCH_LINES = 30
PLAIN_SECONDS = 2.0
SCREEN_SECONDS = 0.25
ENDING = "ending: what runs saves its training first; Ctrl-C again ends it at once"


@contextmanager
def make_observer(
    store_folder: Path,
    total: int,
    done_before: int,
    units: int,
    quiet: bool,
    *,
    expected: Mapping[str, float] | None = None,
    trials: Sequence[Trial] = (),
) -> Iterator[Observer]:
    """Yield what shows the sweep's progress, here and to `bench status`.

    Args:
        store_folder: the results folder.
        total: how many trials are to be run.
        done_before: how many of the sweep had ended before.
        units: how many trials of one unit run at a time.
        quiet: show nothing here.
        expected: seconds that trials are expected to take, by their ids.
        trials: those to be run, so that the time left can be told from what each of them is.

    """
    if not total:
        yield Observer()
        return
    command = shlex.join(["bench", *sys.argv[1:]])
    console = Console(highlight=False)
    with ExitStack() as stack:
        board = Board(store_folder, command, total, done_before, units, expected=expected, trials=trials)
        stack.enter_context(closing(board))
        shown: list[Observer] = [] if quiet else [Lines(console, total, units)]
        if not quiet and console.is_terminal:
            live = stack.enter_context(Live(console=console, auto_refresh=False, transient=True))
            shown.append(Screen(live, board))
        yield Together(board, *shown)


@contextmanager
def prepare_progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows how far the preparation of a data set is."""
    console = Console(highlight=False)
    if quiet:
        yield lambda *_: None
    elif not console.is_terminal:
        yield _plain_preparation()
    else:
        with Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), console=console
        ) as bars:
            tasks: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done)

            yield show


def print_notes(prepared: Mapping[str, Prepared], details: int | None = None) -> None:
    """Print what was found in data sets, even with `--quiet`: each finding with so many lines of details, or all."""
    for label, data in prepared.items():
        for note in data.info.notes:
            first, *rest = printable(note).splitlines()
            shown = rest[:details]
            print(f"bench: note: {printable(label)}: {first}", *shown, sep="\n  ", file=sys.stderr)
            if len(rest) > len(shown):
                print("  ... (`bench prepare` lists more)", file=sys.stderr)


class Together(Observer):
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def trial_started(self, number: int, trial: Trial, units: Sequence[Unit]) -> None:
        """Pass it on."""
        for each in self.observers:
            each.trial_started(number, trial, units)

    def trial_event(self, number: int, event: Any) -> None:
        """Pass it on."""
        for each in self.observers:
            each.trial_event(number, event)

    def trial_ended(self, number: int, record: TrialRecord) -> None:
        """Pass it on."""
        for each in self.observers:
            each.trial_ended(number, record)

    def trial_lost(self, number: int, why: str) -> None:
        """Pass it on."""
        for each in self.observers:
            each.trial_lost(number, why)

    def trial_left(self, trial: Trial) -> None:
        """Pass it on."""
        for each in self.observers:
            each.trial_left(trial)

    def looked(self, waiting: int, elsewhere: int) -> None:
        """Pass it on."""
        for each in self.observers:
            each.looked(waiting, elsewhere)

    def ending(self) -> None:
        """Pass it on."""
        for each in self.observers:
            each.ending()


class Lines(Observer):
    """Prints lines: each trial's start and end, and its epochs (about thirty of them, where there are more).

    Where several trials run at a time, each line says which of them it is of; on a terminal, the screen below then
    shows starts and epochs, and the lines are those of ends.
    """

    def __init__(self, console: Console, total: int, units: int) -> None:
        self.console, self.total, self.several = console, total, units > 1
        self.order: dict[str, int] = {}
        self.running: dict[int, Trial] = {}
        self.every: dict[int, int] = {}
        self.waits_for_others = False

    def trial_started(self, number: int, trial: Trial, units: Sequence[Unit]) -> None:  # noqa: ARG002 - not shown
        """Print which trial starts."""
        self.running[number] = trial
        self.order.setdefault(trial.spec.trial_id, len(self.order) + 1)
        self.several |= len(self.running) > 1
        if self._prints_progress():
            self._print(f"{self._count(trial)} {trial.spec.title}")

    def trial_event(self, number: int, event: Any) -> None:
        """Print epochs, and where a trial goes on."""
        if isinstance(event, Step):
            self.every[number] = math.ceil(event.epochs / EPOCH_LINES)
        thinned = isinstance(event, Epoch) and (event.epoch % self.every.get(number, 1) == 0 or event.epoch == 1)
        if thinned and self._prints_progress():
            self._print_of(self.running[number], event.line())
        if isinstance(event, Resumed):
            self._print_of(self.running[number], f"goes on after step {event.step:,}, which an earlier attempt saved")

    def trial_ended(self, number: int, record: TrialRecord) -> None:
        """Print how the trial ended, and what is to be known of its figures."""
        trial = self.running.pop(number)
        self.every.pop(number, None)
        title = f" {trial.spec.title}:" if self.several else ""
        self._print(f"{self._count(trial)}{title} {summary(record)}")
        for kind in ("timing_notes", "profile_notes", "cost_notes"):
            for note in record.metrics.get(kind, ()):
                self._print_of(trial, f"note: {note}")

    def trial_lost(self, number: int, why: str) -> None:
        """Print that the trial goes back to those that wait."""
        trial = self.running.pop(number)
        self._print(f"{self._count(trial)} {trial.spec.title}: was lost and will run again: {why}")

    def trial_left(self, trial: Trial) -> None:
        """Print that it need not run."""
        self._print(f"{trial.spec.title}: another bench run has ended it")

    def looked(self, waiting: int, elsewhere: int) -> None:
        """Print, once, that nothing is left but what others do."""
        waits = bool(elsewhere and not waiting and not self.running)
        if waits and not self.waits_for_others:
            are = "trial is" if elsewhere == 1 else "trials are"
            self._print(f"{elsewhere:,} {are} being run by another bench run; waiting for that to end")
        self.waits_for_others |= waits

    def ending(self) -> None:
        """Print what happens now, and how to hurry it."""
        self._print(ENDING)

    def _prints_progress(self) -> bool:
        return not (self.several and self.console.is_terminal)

    def _count(self, trial: Trial) -> str:
        return f"[{self.order[trial.spec.trial_id]}/{self.total}]"

    def _print_of(self, trial: Trial, text: str) -> None:
        self._print(text, f"{self._count(trial)} {trial.spec.title}: " if self.several else "  ")

    def _print(self, text: str, before: str = "") -> None:
        self.console.print(printable(before) + one_line(text), markup=False, soft_wrap=True)


class Screen(Observer):
    """Shows the board below the lines, and above it nothing else of trials that it has a row for."""

    def __init__(self, live: Live, board: Board) -> None:
        self.live, self.board, self.shown = live, board, -math.inf
        self.refresh()

    def trial_started(self, number: int, trial: Trial, units: Sequence[Unit]) -> None:  # noqa: ARG002 - the board knows
        """Show the board."""
        self.refresh()

    def trial_event(self, number: int, event: Any) -> None:  # noqa: ARG002 - as above
        """Show the board."""
        self.refresh()

    def trial_ended(self, number: int, record: TrialRecord) -> None:  # noqa: ARG002 - as above
        """Show the board."""
        self.refresh()

    def looked(self, waiting: int, elsewhere: int) -> None:  # noqa: ARG002 - as above
        """Show the board."""
        self.refresh()

    def refresh(self) -> None:
        """Draw the screen anew, unless that was done a moment ago."""
        if time.monotonic() - self.shown >= SCREEN_SECONDS:
            rows = self.live.console.height - OTHER_LINES
            self.live.update(sweep_screen(self.board.state(), rows), refresh=True)
            self.shown = time.monotonic()


def summary(record: TrialRecord) -> str:
    """Return how a trial ended in one line."""
    if record.status != Status.OK:
        return f"{record.status} ({record.reason})"  # its message is printed at the end, where it is found
    metrics = record.metrics
    speed, low, high = (metrics[f"train_images_per_second{end}"] for end in ("", "_low", "_high"))
    interval = f" ({low:,.0f} to {high:,.0f})" if low else ""
    training = f", training {speed:,.0f} images/s{interval}" if speed else ""
    images = "validation" if record.spec.tuning else "test"
    return f"{images} accuracy {metrics[f'{images}_accuracy']:.2%}{training}, {record.seconds:.1f} s"


def _plain_preparation() -> Callable[[str, int, int], None]:
    printed = {"at": -math.inf}

    def show(what: str, done: int, total: int) -> None:
        if done == total or time.monotonic() - printed["at"] > PLAIN_SECONDS:
            printed["at"] = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", flush=True)

    return show
