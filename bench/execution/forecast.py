"""How long a sweep will still take, judged from what its trials have taken so far; unknown where nothing is known.

A trial is held to take the median of the ended trials of its architecture on its data set; before one has ended, what
was expected of it, corrected by how far expectations were off so far; failing that, the median of all that have ended.
A trial that trains says by its own steps how long the rest of them takes.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.execution.planning import Trial
from bench.records import Status, TrialRecord


class Progress(Protocol):
    """A running trial."""

    trial: Trial
    places: int  # that it takes

    @property
    def seconds(self) -> float:
        """Since it started."""

    def training_left(self) -> float | None:
        """Return the seconds until its last step by its own pace, 0 after it; None before a pace is known."""


@dataclass
class Kind:
    """Trials of one architecture on one data set.

    Attributes:
        seconds: what the ended ones took, in order of size.
        waiting: how many have not started.
        expected: the seconds that were expected of these, summed over those for which something was.
        unexpected: how many there are for which nothing was.

    """

    seconds: list[float] = field(default_factory=list)
    waiting: int = 0
    expected: float = 0.0
    unexpected: int = 0


class Forecast:
    """Collects what trials take."""

    def __init__(self, trials: Iterable[Trial], expected: Mapping[str, float]) -> None:
        """Begin with the trials to be run, and the seconds that are expected of them, by their ids."""
        self._expected = expected
        self._kinds: defaultdict[tuple[str, str], Kind] = defaultdict(Kind)
        self._unstarted: set[str] = set()
        self._all: list[float] = []
        self._ratios: list[float] = []  # of what trials took to what was expected of them
        for trial in trials:
            self.wait(trial)

    def wait(self, trial: Trial) -> None:
        """Note that a trial has not started, or goes back to those that have not."""
        if trial.spec.trial_id not in self._unstarted:
            self._unstarted.add(trial.spec.trial_id)
            self._count(trial, 1)

    def start(self, trial: Trial) -> None:
        """Note that a trial waits no more."""
        if trial.spec.trial_id in self._unstarted:
            self._unstarted.remove(trial.spec.trial_id)
            self._count(trial, -1)

    def end(self, trial: Trial, record: TrialRecord) -> None:
        """Note what a trial took. A skipped one says something of its kind alone, an interrupted one nothing."""
        if record.status == Status.INTERRUPTED:
            return
        insort(self._kinds[_kind(trial)].seconds, record.seconds)
        if record.status != Status.SKIPPED:
            insort(self._all, record.seconds)
            if expected := self._expected.get(record.trial_id):
                insort(self._ratios, record.seconds / expected)

    def seconds_left(self, running: Sequence[Progress], waiting: int, units: int) -> float | None:
        """Return the seconds until all trials have ended, with so many waiting, at work on so many units."""
        paces = [(each, each.training_left()) for each in running]
        some = self._all or sorted(each.seconds + left for each, left in paces if left)
        typical = _median(some)
        rests = [self._rest(each, left, typical) for each, left in paces]
        ahead = self._work_of_waiting(waiting, typical)
        known = [rest for rest in rests if rest is not None]
        if ahead is None or len(known) < len(rests):
            return None
        places = sum(each.places for each in running)
        at_once = max(1.0, len(running), units * len(running) / places if places else units)
        return max([(sum(known) + ahead) / at_once, *known])

    def _count(self, trial: Trial, change: int) -> None:
        kind, expected = self._kinds[_kind(trial)], self._expected.get(trial.spec.trial_id)
        kind.waiting += change
        kind.expected += change * (expected or 0.0)
        kind.unexpected += change * (expected is None)

    def _rest(self, running: Progress, training_left: float | None, typical: float | None) -> float | None:
        """Return a running trial's seconds to go: by its own pace while it trains, else by what others took."""
        if training_left:
            return training_left
        whole = _median(self._kinds[_kind(running.trial)].seconds)
        if whole is None and (expected := self._expected.get(running.trial.spec.trial_id)) is not None:
            whole = expected * self._correction()
        whole = typical if whole is None else whole
        return training_left if whole is None else max(0.0, whole - running.seconds)

    def _work_of_waiting(self, waiting: int, typical: float | None) -> float | None:
        """Return the seconds that all waiting trials take, one after another."""
        if not waiting:
            return 0.0
        unlisted = max(0, waiting - len(self._unstarted))
        work, unknown = 0.0, unlisted
        for kind in self._kinds.values():
            usual = _median(kind.seconds)
            work += kind.expected * self._correction() if usual is None else kind.waiting * usual
            unknown += kind.unexpected if usual is None else 0
        if unknown and typical is None:
            return None
        work += unknown * (typical or 0.0)
        return work * waiting / (len(self._unstarted) + unlisted)  # others may work on some of those not started here

    def _correction(self) -> float:
        return _median(self._ratios) or 1.0


def _kind(trial: Trial) -> tuple[str, str]:
    return trial.spec.architecture.label, trial.spec.dataset.label


def _median(ordered: Sequence[float]) -> float | None:
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[~middle]) / 2 if ordered else None
