"""Which architectures have been measured in full already, so that a sweep measures each once."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

from bench.environment import Environment
from bench.execution.planning import Trial
from bench.records import TrialRecord
from bench.spec import TrialSpec

PROFILED = "model_file_bytes"  # a figure that every full measurement has


class Profiles:
    """Which architectures have been measured in full already: in this environment, in the same setting, any seed.

    Trials that are about to run again do not count, as their new attempt replaces the old one.
    """

    def __init__(
        self, environment: Environment, records: Sequence[TrialRecord], todo: Sequence[Trial], *, wanted: bool
    ) -> None:
        self.environment, self.wanted = environment, wanted
        self.known: set[Hashable] = set()
        again = {trial.spec.trial_id for trial in todo}
        for record in records:
            if record.trial_id not in again:
                self.note(record)

    def is_missing(self, spec: TrialSpec) -> bool:
        """Return whether the trial is to be measured in full: nothing like it has been."""
        return self.wanted and self._key(spec) not in self.known

    def note(self, record: TrialRecord) -> None:
        """Remember a record that has what is measured once."""
        here, there = self.environment, record.environment
        if PROFILED in record.metrics and (here.machine, here.software) == (there.machine, there.software):
            self.known.add(self._key(record.spec))

    @staticmethod
    def _key(spec: TrialSpec) -> Hashable:
        return dataclasses.replace(spec, seed=0).trial_id
