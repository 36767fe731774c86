"""Live progress: bars where there is a terminal, plain lines where there is none, nothing with `--quiet`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from bench.events import Epoch, Phase, Step
from bench.execution.planning import Trial
from bench.execution.runner import Observer
from bench.records import Status, TrialRecord

EPOCH_LINES = 30
PLAIN_SECONDS = 2.0


@contextmanager
def make_observer(trials: int, quiet: bool) -> Iterator[Observer]:
    """Yield what shows the sweep's progress."""
    console = Console(highlight=False)
    if quiet or not trials:
        yield Silent()
    elif not console.is_terminal:
        yield Plain(console, trials)
    else:
        with _bars(console) as bars:
            yield Bars(bars, trials)


@contextmanager
def prepare_progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows how far the preparation of a data set is."""
    console = Console(highlight=False)
    if quiet:
        yield lambda *_: None
    elif not console.is_terminal:
        yield _plain_preparation()
    else:
        with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console) as bars:
            tasks: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done)

            yield show


class Silent:
    """Shows nothing."""

    def trial_started(self, trial: Trial) -> None:
        """Show nothing."""

    def trial_event(self, event: Any) -> None:
        """Show nothing."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Show nothing."""


class Plain:
    """Prints lines: each trial's start and end, and its epochs (about thirty of them, where there are more)."""

    def __init__(self, console: Console, trials: int) -> None:
        self.print: Callable[[str], None] = lambda text: console.print(text, markup=False, soft_wrap=True)
        self.trials, self.number, self.every = trials, 0, 1

    def trial_started(self, trial: Trial) -> None:
        """Print which trial starts."""
        self.number += 1
        self.print(f"[{self.number}/{self.trials}] {trial.spec.title}")

    def trial_event(self, event: Any) -> None:
        """Print epochs."""
        if isinstance(event, Step):
            self.every = math.ceil(event.epochs / EPOCH_LINES)
        if isinstance(event, Epoch) and (event.epoch % self.every == 0 or event.epoch == 1):
            self.print(f"  {event.line()}")

    def trial_ended(self, record: TrialRecord) -> None:
        """Print how the trial ended, and what is to be known of its figures."""
        self.print(f"[{self.number}/{self.trials}] {summary(record)}")
        for kind in ("timing_notes", "profile_notes", "cost_notes"):
            for note in record.metrics.get(kind, ()):
                self.print(f"  note: {note}")


class Bars(Plain):
    """Shows a bar for the sweep and one for the trial, below the lines of `Plain`."""

    def __init__(self, bars: Progress, trials: int) -> None:
        super().__init__(bars.console, trials)
        self.bars = bars
        self.sweep = bars.add_task("sweep", total=trials, detail="")
        self.trial = bars.add_task("trial", total=None, detail="")
        self.validation = ""

    def trial_started(self, trial: Trial) -> None:
        """Reset the trial's bar."""
        super().trial_started(trial)
        self.validation = ""
        self.bars.remove_task(self.trial)
        self.trial = self.bars.add_task(trial.spec.architecture.label, total=None, detail="starting")

    def trial_event(self, event: Any) -> None:
        """Move the trial's bar."""
        super().trial_event(event)
        if isinstance(event, Phase):
            self.bars.update(self.trial, detail=event.name)
        elif isinstance(event, Epoch) and event.validation_accuracy is not None:
            self.validation = f" val {event.validation_accuracy:.1%}"
        elif isinstance(event, Step):
            speed = f" {event.images_per_second:,.0f} img/s" if event.images_per_second else ""
            self.bars.update(
                self.trial,
                total=event.epochs * event.steps,
                completed=(event.epoch - 1) * event.steps + event.step,
                detail=f"epoch {event.epoch}/{event.epochs} loss {event.loss:.3f}{self.validation}{speed}",
            )

    def trial_ended(self, record: TrialRecord) -> None:
        """Move the sweep's bar."""
        super().trial_ended(record)
        self.bars.advance(self.sweep)


def summary(record: TrialRecord) -> str:
    """Return how a trial ended in one line."""
    if record.status != Status.OK:
        return f"{record.status} ({record.reason})"  # its message is printed at the end, where it is found
    metrics = record.metrics
    speed, low, high = (metrics[f"train_images_per_second{end}"] for end in ("", "_low", "_high"))
    interval = f" ({low:,.0f} to {high:,.0f})" if low else ""
    training = f", training {speed:,.0f} images/s{interval}" if speed else ""
    return f"test accuracy {metrics['test_accuracy']:.2%}{training}, {record.seconds:.1f} s"


def _bars(console: Console) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def _plain_preparation() -> Callable[[str, int, int], None]:
    printed = {"at": -math.inf}

    def show(what: str, done: int, total: int) -> None:
        if done == total or time.monotonic() - printed["at"] > PLAIN_SECONDS:
            printed["at"] = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", flush=True)

    return show
