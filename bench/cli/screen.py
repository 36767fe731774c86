"""How a sweep's state looks: a bar, counts, and a table of what runs. Fits into 80 columns; nothing is markup."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench.execution.snapshot import FailedTrial, RunningTrial, SweepState
from bench.fields import printable

OTHER_LINES = 5  # of a screen, besides the rows of running trials
MOST_FAILED = 10
BAR_WIDTH = 30


def sweep_screen(state: SweepState, rows: int) -> Group:
    """Return the screen of a sweep, with so many of its running trials at most."""
    parts: list[RenderableType] = [_bar(state), Text(_counts(state), overflow="ellipsis", no_wrap=True)]
    if state.running:
        parts.append(_running(state.running[: max(1, rows)]))
    if len(state.running) > max(1, rows):
        parts.append(Text(f" and {len(state.running) - max(1, rows)} more"))
    return Group(*parts)


def failed_lines(failed: tuple[FailedTrial, ...], total: int) -> Iterator[Text]:
    """Yield lines on the last of so many trials that failed."""
    shown = failed[-MOST_FAILED:]
    if total > len(shown):
        yield Text(f"the last {len(shown)} of {total:,} that failed:")
    for trial in shown:
        reason = f" ({one_line(trial.reason)})" if trial.reason else ""
        line = f"{one_line(trial.title)}: {one_line(trial.status)}{reason}: {one_line(trial.message)}"
        yield Text(line, style="red")
        yield Text(f"  {one_line(trial.folder)}", overflow="fold")


def duration(seconds: float) -> str:
    """Return a time as people say it, no more exact than it is worth: 45 s, 12 min, 1 h 20 min, 3 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{max(0, seconds):.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours // 24:,} d {hours % 24} h"


def one_line(text: str) -> str:
    """Return a text on one line, which does nothing to the terminal."""
    return " ".join(printable(text).split())


class Middle:
    """A text on one line of which, where it is too long, the middle goes: both ends tell trials apart."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        text, width = self.text, options.max_width
        if len(text) > width:
            end = max(0, width - 1) * 3 // 5
            text = f"{text[: width - 1 - end]}…{text[len(text) - end :]}"
        yield Text(text, no_wrap=True, overflow="crop")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(len(self.text), 12), len(self.text)).with_maximum(options.max_width)


def _bar(state: SweepState) -> Table:
    grid = Table.grid(padding=(0, 1))
    total, done = max(1, state.total), max(0, state.done)
    text = Text(f"{state.done:,}/{state.total:,}  {_time_left(state)}", no_wrap=True, overflow="ellipsis")
    grid.add_row(Text("sweep"), ProgressBar(total=total, completed=min(total, done), width=BAR_WIDTH), text)
    return grid


def _time_left(state: SweepState) -> str:
    if state.ending:
        return "ending"
    if state.seconds_left is None:
        return "time left: not known yet"
    return f"about {duration(state.seconds_left)} left"


def _counts(state: SweepState) -> str:
    ended = [f"{count:,} {one_line(status)}" for status, count in state.ended.items()]
    ended += [f"{state.left:,} ended by others"] * bool(state.left)
    now = [f"{len(state.running):,} running", f"{state.waiting:,} waiting"]
    now += [f"{state.elsewhere:,} elsewhere"] * bool(state.elsewhere)
    before = [f"{state.done_before:,} ended before"] * bool(state.done_before)
    return "; ".join(", ".join(group) for group in (ended, now, before) if group)


def _running(trials: tuple[RunningTrial, ...]) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=True, header_style="dim")
    table.add_column("running")
    for name in ("on", "epoch", "loss", "val %", "img/s", "time"):
        table.add_column(name, justify="left" if name == "on" else "right", no_wrap=True, overflow="ellipsis")
    for trial in trials:
        table.add_row(Middle(one_line(trial.title)), *map(Text, _figures(trial)))
    return table


def _figures(trial: RunningTrial) -> Iterator[str]:
    yield one_line(trial.place)
    training = trial.phase == "training" and trial.epoch is not None
    yield f"{trial.epoch}/{trial.epochs}" if training else one_line(trial.phase)
    yield "" if trial.loss is None else f"{trial.loss:.3f}" if abs(trial.loss) < 1_000 else f"{trial.loss:.1e}"
    yield "" if trial.validation_accuracy is None else f"{trial.validation_accuracy:.1%}".rstrip("%")
    yield "" if trial.images_per_second is None else f"{trial.images_per_second:,.0f}"
    yield _clock(trial.seconds)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
