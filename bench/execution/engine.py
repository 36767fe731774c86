"""What runs trials: units on one machine or on many, each of which runs one trial at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.environment import Device, Environment
from bench.execution.job import TrialJob
from bench.execution.work import End, Event, Limits


@dataclass(frozen=True, order=True)
class Unit:
    """A part of a machine that runs a trial, or with others a trial on several devices.

    Attributes:
        machine: which of the engine's machines it belongs to.
        number: among the units of that machine, from 0.
        cores: those of the processor that belong to it; none named: all.
        gpu: the UUID of its GPU; empty for a unit that has none.

    """

    machine: str
    number: int
    cores: tuple[int, ...] = ()
    gpu: str = ""


@dataclass(frozen=True)
class Setting:
    """What trials of one backend find on a unit."""

    device: Device
    environment: Environment


class LostError(Exception):
    """What ran the trial is gone, through no fault of the trial: it can run elsewhere, or again."""


class Engine(Protocol):
    """Runs trials on units."""

    def units(self) -> Sequence[Unit]:
        """Return the units there are now."""

    def setting(self, units: Sequence[Unit], backend: str) -> Setting:
        """Return what a trial of that backend finds on these units, which are of one machine.

        Raises:
            BackendError: the backend cannot be used there.

        """

    def peak(self, unit: Unit, backend: str, precision: str, *, measure: bool) -> float | None:
        """Return the matrix-product peak in FLOP/s, measured now or as remembered; None where it is not known.

        Raises:
            BackendError: it cannot be measured.

        """

    def start(self, job: TrialJob, units: Sequence[Unit], limits: Limits) -> int:
        """Start a trial, and return its number.

        Raises:
            BackendError: the backend cannot be used there.

        """

    def poll(self, seconds: float) -> Sequence[Event | End]:
        """Return what has arrived; where nothing has, wait for that many seconds at most.

        The error of an `End` is a `LostError` where the trial's unit has gone.
        """

    def stop(self, number: int) -> None:
        """Ask a trial to save what it has and to end."""

    def kill(self, number: int) -> None:
        """End a trial at once."""

    def close(self) -> None:
        """Give everything back."""
