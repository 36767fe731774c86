"""`bench run --dry-run`: the trials, which are done already, and what the others will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from bench.cli.console import make_console
from bench.cli.screen import duration
from bench.environment import Environment
from bench.execution.counting import count_missing, recorded_counts
from bench.execution.engine import Engine
from bench.execution.estimate import Estimate, Estimator, total
from bench.execution.planning import Trial, too_small
from bench.fields import printable
from bench.recipes import recipe_label
from bench.records import TrialRecord
from bench.units import format_bytes

MOST_ROWS = 500
COLUMNS = ("trial", "recipe", "precision", "backend", "devices", "state", "time", "memory", "time from")


@dataclass(frozen=True)
class Outlook:
    """A sweep's trials, with the reason why each is run again though it had ended, and the estimates of the rest."""

    trials: Sequence[Trial]
    estimates: Sequence[Estimate]
    last: Mapping[str, TrialRecord]
    stale: Mapping[str, str]


def estimate_all(
    todo: Sequence[Trial], records: Sequence[TrialRecord], engine: Engine, logits: str, *, count: bool
) -> Sequence[Estimate]:
    """Return what each trial that is to be run will take.

    With `count`, models that no record tells of are built and counted, which takes a fork server.
    """
    unit = engine.units()[0]
    backends = {trial.spec.backend for trial in todo}
    environments: dict[str, Environment] = {each: engine.setting([unit], each).environment for each in backends}
    known = recorded_counts(records)
    counts = count_missing(todo, known) if count else known
    estimator = Estimator(
        records,
        environments,
        counts,
        lambda backend, precision: engine.peak(unit, backend, precision, measure=False),
    )
    return [estimator.estimate(trial, logits) for trial in todo if not too_small(trial.architecture, trial.prepared)]


def print_outlook(outlook: Outlook, jobs: int, free_bytes: int | None) -> None:
    """Print a line a trial, and what all of them will take."""
    console = make_console()
    estimated = {each.trial.spec.trial_id: each for each in outlook.estimates}
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for trial in outlook.trials[:MOST_ROWS]:
        table.add_row(*(Text(printable(text)) for text in _row(trial, outlook, estimated.get(trial.spec.trial_id))))
    console.print(table)
    if len(outlook.trials) > MOST_ROWS:
        console.print(f"... and {len(outlook.trials) - MOST_ROWS:,} more trials")
    for line in _summary(outlook.estimates, jobs, free_bytes):
        console.print(line, soft_wrap=True, markup=False)


def _row(trial: Trial, outlook: Outlook, estimate: Estimate | None) -> list[str]:
    spec = trial.spec
    what = [spec.title, recipe_label(spec.recipe), spec.precision, spec.backend, str(spec.devices)]
    last = outlook.last.get(spec.trial_id)
    if last is None and too_small(trial.architecture, trial.prepared):
        return [*what, "skipped: images too small", "", "", ""]
    if estimate is None:
        return [*what, f"done: {last.status}" if last else "done", "", "", ""]
    state = "to run" if last is None else f"again: {last.status}"
    state = f"stale: {outlook.stale[spec.trial_id]}" if spec.trial_id in outlook.stale else state
    time, memory = estimate.seconds, estimate.memory_bytes
    return [
        *what,
        state,
        "?" if time.value is None else duration(time.value),
        "?" if memory.value is None else format_bytes(memory.value),
        time.basis,
    ]


def _summary(estimates: Sequence[Estimate], jobs: int, free_bytes: int | None) -> list[str]:
    all_ = total(estimates, jobs)
    side_by_side = f", {jobs} side by side" if jobs > 1 else ""
    time = f"about {duration(all_.seconds)}, without what is measured once for an architecture"
    if all_.unknown == len(estimates):
        time = "time not known" if estimates else "no time"
    unknown = f"; {all_.unknown:,} of which nothing is known" if 0 < all_.unknown < len(estimates) else ""
    memory = "not known" if all_.memory_bytes is None else format_bytes(all_.memory_bytes)
    room = "" if free_bytes is None else f" of {format_bytes(free_bytes)} free"
    return [
        f"to run: {len(estimates):,} trial{'s' * (len(estimates) != 1)}{side_by_side}: {time}{unknown}",
        f"memory at the most: {memory}; disk: up to {format_bytes(all_.disk_bytes)}{room}",
    ]
