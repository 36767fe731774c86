"""Which architectures have been measured in full already, so that a sweep measures each once."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable

from bench.environment import Environment
from bench.records import TrialRecord
from bench.spec import TrialSpec

PROFILED = "model_file_bytes"  # a figure that every full measurement has


class Profiles:
    """Which architectures have been measured in full already: in the same environment and setting, with any seed.

    Trials that are about to run again (`again`, their ids) do not count, as their new attempt replaces the old one.
    """

    def __init__(self, records: Iterable[TrialRecord], again: set[str], *, wanted: bool) -> None:
        self.wanted = wanted
        self.known: set[Hashable] = set()
        self.reserved: dict[Hashable, str] = {}
        for record in records:
            if record.trial_id not in again and PROFILED in record.metrics:
                self.known.add(_key(record.spec, record.environment))

    def is_missing(self, spec: TrialSpec, environment: Environment) -> bool:
        """Return whether the trial is to be measured in full: nothing like it has been, or is about to be."""
        key = _key(spec, environment)
        return self.wanted and key not in self.known and self.reserved.get(key, spec.trial_id) == spec.trial_id

    def reserve(self, spec: TrialSpec, environment: Environment) -> None:
        """Remember that a trial is being measured in full, so that no other is meanwhile."""
        self.reserved[_key(spec, environment)] = spec.trial_id

    def note(self, record: TrialRecord) -> None:
        """See how a trial has ended: where it was to be measured in full, and was not, another is to be."""
        self.reserved = {key: trial for key, trial in self.reserved.items() if trial != record.trial_id}
        if PROFILED in record.metrics:
            self.known.add(_key(record.spec, record.environment))


def _key(spec: TrialSpec, environment: Environment) -> Hashable:
    place = environment.machine, environment.cores_used, environment.software
    return (*place, dataclasses.replace(spec, seed=0).trial_id)
