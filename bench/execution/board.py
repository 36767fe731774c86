"""Keeps what a sweep is at, and writes it down about every second, so that another terminal can show it too."""

from __future__ import annotations

import math
import platform
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.atomic import process_tag
from bench.events import Epoch, Phase, Resumed, Saved, Step
from bench.execution.engine import Unit
from bench.execution.forecast import Forecast
from bench.execution.local import MACHINE
from bench.execution.planning import Trial
from bench.execution.runner import Observer
from bench.execution.snapshot import FailedTrial, RunningTrial, SweepState, remove_dead, remove_state, write_state
from bench.fields import printable
from bench.records import TrialRecord

SECONDS = 1.0  # from one writing to the next, at least
MOST_FAILED = 100
LONGEST_MESSAGE = 300
LONGEST_COMMAND = 2_000
NODE_DIGITS = 6  # of Ray's names for nodes, which have 56


@dataclass
class Row:
    """A running trial, as its events describe it."""

    order: int
    trial: Trial
    place: str
    places: int
    began: float
    phase: str = "starting"
    at: Step | None = None
    steps_an_epoch: int = 0
    validation_accuracy: float | None = None
    saved_step: int | None = None
    resumed_step: int | None = None
    first: tuple[int, float] | None = None  # the first step that was heard of here, and when
    last: tuple[int, float] | None = None

    @property
    def seconds(self) -> float:
        """Since it started."""
        return time.monotonic() - self.began

    def see(self, event: Any) -> None:
        """Take an event in."""
        match event:
            case Phase():
                self.phase = event.name
            case Step():
                self.at = event
                self.steps_an_epoch = max(self.steps_an_epoch, event.steps)  # the last epoch may be shorter
                self.last = (event.epoch - 1) * self.steps_an_epoch + event.step, time.monotonic()
                self.first = self.first or self.last
            case Epoch():
                self.validation_accuracy = event.validation_accuracy
            case Saved():
                self.saved_step = event.step
            case Resumed():
                self.resumed_step = self.saved_step = event.step
                self.validation_accuracy = event.history[-1].validation_accuracy if event.history else None

    def training_left(self) -> float | None:
        """Return the seconds until the last step, at the pace since the first one; None before that is known."""
        if self.at is None or self.first is None or self.last is None:
            return None
        (start, began), (done, now) = self.first, self.last
        in_last = self.at.steps if self.at.epoch == self.at.epochs else self.steps_an_epoch
        left = (self.at.epochs - 1) * self.steps_an_epoch + in_last - done
        if left <= 0:
            return 0.0
        return left * (now - began) / (done - start) if done > start else None

    def shown(self) -> RunningTrial:
        """Return it for the snapshot."""
        at = self.at
        return RunningTrial(
            number=self.order,
            title=printable(self.trial.spec.title),
            place=self.place,
            phase=self.phase,
            epoch=at.epoch if at else None,
            epochs=at.epochs if at else None,
            step=at.step if at else None,
            steps=at.steps if at else None,
            loss=at.loss if at and math.isfinite(at.loss) else None,
            images_per_second=at.images_per_second or None if at else None,
            validation_accuracy=self.validation_accuracy,
            seconds=self.seconds,
            saved_step=self.saved_step,
            resumed_step=self.resumed_step,
        )


class Board(Observer):
    """An observer that knows what the sweep is at. What it writes is for the eye: that it cannot ends no sweep."""

    def __init__(
        self,
        folder: Path,
        command: str,
        total: int,
        done_before: int,
        units: int,
        *,
        expected: Mapping[str, float] | None = None,
        trials: Sequence[Trial] = (),
    ) -> None:
        """Begin to keep a sweep's state; what dead processes have left of theirs is removed.

        Args:
            folder: the results folder.
            command: as it was typed.
            total: how many trials are to be run.
            done_before: how many of the sweep had ended before.
            units: how many trials of one unit run at a time.
            expected: seconds that trials are expected to take, by their ids.
            trials: those to be run, so that it is known which of them wait.

        """
        self.folder, self.command = folder.resolve(), printable(command)[:LONGEST_COMMAND]
        self.total, self.done_before, self.units = total, done_before, units
        self.started = datetime.now(UTC)
        self.order: dict[str, int] = {}
        self.rows: dict[int, Row] = {}
        self.ended: Counter[str] = Counter()
        self.left = self.elsewhere = 0
        self.failed: deque[FailedTrial] = deque(maxlen=MOST_FAILED)
        self.is_ending = False
        self.forecast = Forecast(trials, expected or {})
        self.written = -math.inf
        remove_dead(folder)
        self._write()

    def trial_started(self, number: int, trial: Trial, units: Sequence[Unit]) -> None:
        """Add a row."""
        order = self.order.setdefault(trial.spec.trial_id, len(self.order) + 1)
        self.rows[number] = Row(order, trial, name_place(units), len(units), time.monotonic())
        self.forecast.start(trial)
        self._write()

    def trial_event(self, number: int, event: Any) -> None:
        """Change a row."""
        self.rows[number].see(event)
        self._write()

    def trial_ended(self, number: int, record: TrialRecord) -> None:
        """Count how it ended."""
        self.forecast.end(self.rows.pop(number).trial, record)
        self.ended[record.status.value] += 1
        if record.status.is_failure:
            self.failed.append(
                FailedTrial(
                    title=printable(record.spec.title),
                    status=record.status.value,
                    reason=record.reason.value,
                    message=printable(record.message)[:LONGEST_MESSAGE],
                    folder=printable(str(self.folder / "trials" / record.trial_id / record.attempt)),
                )
            )
        self._write()

    def trial_lost(self, number: int, why: str) -> None:  # noqa: ARG002 - the display says why
        """Take the row away again."""
        self.forecast.wait(self.rows.pop(number).trial)
        self._write()

    def trial_left(self, trial: Trial) -> None:
        """Count a trial that another process has ended."""
        self.forecast.start(trial)
        self.left += 1
        self._write()

    def looked(self, waiting: int, elsewhere: int) -> None:  # noqa: ARG002 - what waits is what is left of the total
        """Note how many others work on."""
        self.elsewhere = elsewhere
        self._write()

    def ending(self) -> None:
        """Note that the sweep ends early."""
        self.is_ending = True
        self._write()

    def close(self) -> None:
        """Remove what was written, and what those have left that have died meanwhile."""
        remove_state(self.folder, process_tag())
        remove_dead(self.folder)

    def state(self) -> SweepState:
        """Return what the sweep is at."""
        done = sum(self.ended.values()) + self.left
        waiting = max(0, self.total - done - len(self.rows) - self.elsewhere)
        return SweepState(
            command=self.command,
            process=process_tag(),
            host=printable(platform.node()),
            started_at=self.started.isoformat(),
            updated_at=datetime.now(UTC).isoformat(),
            total=self.total,
            done_before=self.done_before,
            ended=dict(self.ended),
            left=self.left,
            waiting=waiting,
            elsewhere=self.elsewhere,
            running=tuple(row.shown() for row in self.rows.values()),
            failed=tuple(self.failed),
            seconds_left=self._seconds_left(waiting),
            ending=self.is_ending,
        )

    def _seconds_left(self, waiting: int) -> float | None:
        rows = list(self.rows.values())
        if self.is_ending or (self.elsewhere and not rows and not waiting):
            return None  # that is for those to say who save, or work elsewhere
        return self.forecast.seconds_left(rows, waiting, self.units)

    def _write(self) -> None:
        if time.monotonic() - self.written >= SECONDS:
            with suppress(OSError):
                write_state(self.folder, self.state())
            self.written = time.monotonic()


def name_place(units: Sequence[Unit]) -> str:
    """Return in few words where a trial runs; nothing where that is all of this machine."""
    gpus = [unit.number for unit in units if unit.gpu]
    cores = [core for unit in units for core in unit.cores]
    names = [unit.machine[:NODE_DIGITS] for unit in units[:1] if unit.machine != MACHINE]
    if gpus:
        names.append(f"GPU{'s' * (len(gpus) > 1)} {_ranges(gpus)}")
    elif cores:
        names.append(f"core{'s' * (len(cores) > 1)} {_ranges(cores)}")
    return printable(" ".join(names))


def _ranges(numbers: Sequence[int]) -> str:
    """Return whole numbers as people write them: 0-3,6."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
