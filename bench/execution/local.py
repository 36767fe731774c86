"""The engine of one machine: a fork server for each backend, and a process for each trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from bench.environment import Device, core_numbers, describe, usable_cores
from bench.errors import UsageError
from bench.execution.devices import matmul_peak, remembered_peak, resolve_devices
from bench.execution.engine import LostError, Setting, Unit
from bench.execution.job import TrialJob, run_in_fork
from bench.execution.server import ForkServer
from bench.execution.work import End, Event, Limits, Place, ServerDiedError, place_of

MACHINE = "here"


class LocalEngine:
    """This machine: a unit for each GPU, or `jobs` units that share its cores out among them."""

    def __init__(
        self, backends: Sequence[str], jobs: int | None = None, work: Callable[..., Any] = run_in_fork
    ) -> None:
        """Look at the devices.

        Args:
            backends: those that trials will use.
            jobs: trials side by side; None: one for each GPU, or one.
            work: called in a fork for each trial, with its job and a function that sends an event.

        Raises:
            UsageError: there are fewer GPUs, or fewer cores, than jobs.
            BackendError: a backend is not installed, or cannot be imported.

        """
        self._work = work
        self._servers = {backend: ForkServer(backend) for backend in dict.fromkeys(backends)}
        self._devices = {backend: resolve_devices(server) for backend, server in self._servers.items()}
        self._settings: dict[tuple[Unit, str], Setting] = {}
        self._working: dict[int, ForkServer] = {}
        self._units = _units(self._gpus(), jobs)

    def units(self) -> Sequence[Unit]:
        """Return the machine's units."""
        return self._units

    def setting(self, units: Sequence[Unit], backend: str) -> Setting:
        """Return the device of the first unit, and the environment."""
        unit = units[0]
        if (unit, backend) not in self._settings:
            device = self._device(unit, backend)
            self._settings[unit, backend] = Setting(device, describe(device, backend, len(unit.cores)))
        return self._settings[unit, backend]

    def peak(self, unit: Unit, backend: str, precision: str, *, measure: bool) -> float | None:
        """Return the matrix-product peak of a unit's device."""
        device, cores = self.setting([unit], backend).device, len(unit.cores) or usable_cores()
        if measure:
            return matmul_peak(self._servers[backend], device, precision, _place([unit]), cores)
        return remembered_peak(device, precision, cores)

    def start(self, job: TrialJob, units: Sequence[Unit], limits: Limits) -> int:
        """Fork a process for the trial."""
        server = self._servers[job.trial.spec.backend]
        number = server.submit(self._work, job, place=_place(units, job.folder), limits=limits)
        self._working[number] = server
        return number

    def poll(self, seconds: float) -> Sequence[Event | End]:
        """Return what the processes have sent."""
        servers = {id(server): server for server in self._working.values()}.values()
        waiting = [server.connection for server in servers]
        connections = [each for each in waiting if each is not None]
        if not waiting:
            time.sleep(seconds)  # nothing runs here: what is waited for is another process's
        elif len(connections) == len(waiting):
            wait(connections, seconds)
        messages = [message for server in servers for message in server.receive()]
        return [self._noted(message) for message in messages]

    def stop(self, number: int) -> None:
        """Ask a trial to save what it has and to end; one that has ended is left alone."""
        if number in self._working:
            self._working[number].stop(number)

    def kill(self, number: int) -> None:
        """End a trial at once."""
        if number in self._working:
            self._working[number].kill(number)

    def close(self) -> None:
        """Do nothing: the servers serve on, and end with this process."""

    def _noted(self, message: Event | End) -> Event | End:
        if isinstance(message, Event):
            return message
        del self._working[message.number]
        if isinstance(message.error, ServerDiedError):
            return End(message.number, error=LostError(str(message.error)))
        return message

    def _gpus(self) -> list[str]:
        """Return the GPUs that some backend can use, in NVML's order."""
        found = (device.uuid for devices in self._devices.values() for device in devices if device.kind == "GPU")
        return list(dict.fromkeys(found))

    def _device(self, unit: Unit, backend: str) -> Device:
        devices = self._devices[backend]
        return next((device for device in devices if device.uuid == unit.gpu), devices[0])


def core_sets(cores: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """Share cores out: as evenly as can be, neighbours together."""
    size, more = divmod(len(cores), parts)
    bounds = [index * size + min(index, more) for index in range(parts + 1)]
    return [tuple(cores[start:stop]) for start, stop in pairwise(bounds)]


def _units(gpus: Sequence[str], jobs: int | None) -> list[Unit]:
    cores = core_numbers()
    most, what = (len(gpus), "GPUs") if gpus else (len(cores), "cores")
    count = jobs or (len(gpus) if gpus else 1)
    if count > most:
        raise UsageError(f"--jobs {count}: there are {most} {what} here, and each trial needs one of its own.")
    if count == 1:
        return [Unit(MACHINE, 0, (), gpus[0] if gpus else "")]
    sets = core_sets(cores, count)
    return [Unit(MACHINE, number, sets[number], gpus[number] if gpus else "") for number in range(count)]


def _place(units: Sequence[Unit], folder: Path | None = None) -> Place:
    """Return where work on these units runs: on their cores, seeing their GPUs alone."""
    cores = tuple(core for unit in units for core in unit.cores)
    return place_of(cores, [unit.gpu for unit in units if unit.gpu], folder)
