"""The worker of a unit on a Ray cluster: owns a fork server for each backend, and forks a process for each trial.

It is an actor's class, made by `bench.execution.cluster`; nothing in here imports Ray. A trial writes into a folder on
the worker's own disk. What it leaves there travels back to the driver, so no disk needs to be shared.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import bench
from bench.atomic import is_dead, process_tag
from bench.data.cache import Prepared, default_cache_dir
from bench.data.tfds import default_data_dir
from bench.environment import bench_source_hash, core_numbers, describe, find_gpus, usable_cores
from bench.errors import BenchError, DataError
from bench.events import Phase, Saved, Step
from bench.execution.devices import matmul_peak, remembered_peak, resolve_devices
from bench.execution.engine import LostError, Setting
from bench.execution.job import TrialJob
from bench.execution.planning import Trial, prepare_in_fork
from bench.execution.server import ForkServer
from bench.execution.work import (
    End,
    Event,
    Limits,
    Message,
    Place,
    ServerDiedError,
    WorkDiedError,
    WorkFailedError,
    WorkStoppedError,
    place_of,
)
from bench.store import KEPT, tidy

LOOK_SECONDS = 0.1  # between two looks at what the driver has asked for
STEP_SECONDS = 0.5  # between two `Step`s that are passed on
PREFIX, SUFFIX = "bench.", ".tmp"  # around the worker's tag, in the name of a trial's folder
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Greeting:
    """What a worker says of itself, once its backends are imported.

    Attributes:
        host: the name of its machine.
        version: of its bench, in words.
        source_hash: of its bench's files that decide results.
        cores: those that its trials use; none named: all.
        gpu: the UUID of its GPU, or an empty string.
        settings: what trials find there, by backend.

    """

    host: str
    version: str
    source_hash: str
    cores: tuple[int, ...]
    gpu: str
    settings: Mapping[str, Setting]


@dataclass(frozen=True)
class Report:
    """What has happened to a trial since the last report.

    Attributes:
        events: what it has sent.
        checkpoint: the saved state of its training, where there is a new one.
        end: how it ended, in the last report; its number means nothing here.
        files: what it has left, by name; in the last report.

    """

    events: Sequence[Any] = ()
    checkpoint: bytes | None = None
    end: End | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


class TrialWorker:
    """Runs one trial at a time. `stop` may be called, and `live` waited for, meanwhile."""

    def __init__(self, backends: Sequence[str], first_core: int, cores: int) -> None:
        """Start to import the backends.

        Args:
            backends: which.
            first_core: the number, among the cores of this machine, of the first that it may use.
            cores: how many; 0: all.

        """
        _forget_threads()
        _remove_left_folders()
        self._servers = {backend: ForkServer(backend) for backend in backends}
        for server in self._servers.values():
            server.start()
        self._cores = _cores(first_core, cores)
        self._asked: dict[int, str] = {}
        self._data: dict[tuple[str, str], Prepared] = {}

    def greet(self) -> Greeting:
        """Wait until the backends are imported, and look at the devices.

        Raises:
            BackendError: a backend cannot be imported.

        """
        for server in self._servers.values():
            server.check()
        devices = {backend: resolve_devices(server)[0] for backend, server in self._servers.items()}
        settings = {name: Setting(device, describe(device, name, len(self._cores))) for name, device in devices.items()}
        self._settings = settings
        self._gpu = next((gpu.uuid for gpu in find_gpus()), "")
        return Greeting(platform.node(), bench.__version__, bench_source_hash(), self._cores, self._gpu, settings)

    def live(self) -> None:
        """Never return: whoever waits for this learns of the worker's end."""
        threading.Event().wait()

    def stop(self, number: int, *, kill: bool) -> None:
        """Ask the trial with this number to save and end, or end it at once."""
        self._asked[number] = Message.KILL if kill else Message.STOP

    def peak(self, backend: str, precision: str, *, measure: bool) -> float | None:
        """Return the matrix-product peak in FLOP/s, measured now or as remembered on this machine.

        Raises:
            BackendError: it cannot be measured.

        """
        device, cores = self._settings[backend].device, len(self._cores) or usable_cores()
        if measure:
            return matmul_peak(self._servers[backend], device, precision, self._place(), cores)
        return remembered_peak(device, precision, cores)

    def run(
        self, number: int, work: Callable[..., Any], job: TrialJob, limits: Limits, checkpoint: bytes | None
    ) -> Iterator[Report]:
        """Run a trial, and report on it; the last report has its end.

        Args:
            number: what `stop` will call it.
            work: called in a fork, with the job and a function that sends an event.
            job: its folder and its checkpoint are replaced by ones on this machine.
            limits: of the trial.
            checkpoint: the state that the training goes on from.

        """
        with tempfile.TemporaryDirectory(
            prefix=f"{PREFIX}{process_tag()}.", suffix=SUFFIX, ignore_cleanup_errors=True
        ) as folder:
            here = _here(job, Path(folder), checkpoint)
            end = yield from self._run(number, work, here, limits)
            files = _files(here.folder)
        self._asked.pop(number, None)
        yield Report(end=_lost_with_server(end), files=files)  # last: the driver may end this process upon it

    def _run(
        self, number: int, work: Callable[..., Any], job: TrialJob, limits: Limits
    ) -> Generator[Report, None, End]:
        server = self._servers[job.trial.spec.backend]
        try:
            trial = yield from self._with_data(number, server, job.trial)
            mine = server.submit(work, replace(job, trial=trial), place=self._place(job.folder), limits=limits)
        except (BenchError, WorkStoppedError, ServerDiedError) as error:
            return End(number, error=error)
        sparse = _Sparse()
        for message in self._follow(number, server, mine):
            if isinstance(message, End):
                return message
            events = [event for event in message if sparse.lets(event)]
            if events:
                yield Report(events, _saved(job.checkpoint, events))
        raise AssertionError  # what is followed has an end

    def _with_data(self, number: int, server: ForkServer, trial: Trial) -> Generator[Report, None, Trial]:
        """Return the trial with this machine's copy of its data, prepared where that has not been done.

        Raises:
            DataError: the data cannot be had here, or is other data than the trial's.
            WorkStoppedError, ServerDiedError: the preparation was ended, or lost.

        """
        key = trial.spec.dataset.label, trial.spec.data_fingerprint
        data_dir = trial.source.data_dir if trial.source.data_dir.is_dir() else default_data_dir()
        source = replace(trial.source, data_dir=data_dir, cache_dir=default_cache_dir())
        if key not in self._data:
            yield Report([Phase("preparing")])
            for message in self._follow(number, server, server.submit(prepare_in_fork, source, place=self._place())):
                if isinstance(message, End):
                    self._data[key] = _checked(message, trial)
        return replace(trial, source=source, prepared=self._data[key])

    def _follow(self, number: int, server: ForkServer, mine: int) -> Iterator[list[Any] | End]:
        """Yield the events of a piece of work as they come, then its end; pass on what the driver asks for."""
        done = ""
        while True:
            if server.connection is not None:
                wait([server.connection], LOOK_SECONDS)
            asked = self._asked.get(number, "")
            if asked != done:
                done = asked
                (server.kill if asked == Message.KILL else server.stop)(mine)
            messages = [message for message in server.receive() if message.number == mine]
            yield [message.value for message in messages if isinstance(message, Event)]
            if messages and isinstance(messages[-1], End):
                yield messages[-1]
                return

    def _place(self, folder: Path | None = None) -> Place:
        return place_of(self._cores, [self._gpu] if self._gpu else [], folder)


class _Sparse:
    """Lets only some `Step`s pass: they are for the display, which nobody reads faster."""

    def __init__(self) -> None:
        self.next = 0.0

    def lets(self, event: Any) -> bool:
        if not isinstance(event, Step):
            return True
        due = time.monotonic() >= self.next
        if due:
            self.next = time.monotonic() + STEP_SECONDS
        return due


def _here(job: TrialJob, folder: Path, checkpoint: bytes | None) -> TrialJob:
    """Return the job with folders on this machine."""
    attempt, file = folder / "attempt", folder / "checkpoint.npz"
    attempt.mkdir()
    if checkpoint is not None:
        file.write_bytes(checkpoint)
    return replace(job, folder=attempt, checkpoint=file if job.checkpoint else None)


def _checked(end: End, trial: Trial) -> Prepared:
    label, host = trial.spec.dataset.label, platform.node()
    if isinstance(end.error, BenchError):
        raise DataError(f"on node {host}: {end.error}") from end.error
    if isinstance(end.error, WorkFailedError | WorkDiedError):
        raise DataError(f"data set {label} cannot be prepared on node {host}: {end.error}") from end.error
    if end.error is not None:
        raise end.error
    prepared: Prepared = end.result
    if prepared.info.fingerprint != trial.spec.data_fingerprint:
        raise DataError(
            f"node {host} has other images of {label} than the trial is of: fingerprint "
            f"{prepared.info.fingerprint[:12]} in {prepared.entry}, expected {trial.spec.data_fingerprint[:12]}. Copy "
            f"the data there from the machine that started the sweep, and delete that folder."
        )
    return prepared


def _saved(checkpoint: Path | None, events: Sequence[Any]) -> bytes | None:
    if checkpoint is not None and any(isinstance(event, Saved) for event in events):
        with suppress(OSError):
            return checkpoint.read_bytes()
    return None


def _files(folder: Path) -> dict[str, bytes]:
    tidy(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name in KEPT}


def _lost_with_server(end: End) -> End:
    return replace(end, error=LostError(str(end.error))) if isinstance(end.error, ServerDiedError) else end


def _cores(first: int, count: int) -> tuple[int, ...]:
    """Return the cores with these numbers among those of this machine; none named where that is all of them."""
    there = core_numbers()
    if not 0 < count < len(there):
        return ()
    return tuple(sorted({there[(first + number) % len(there)] for number in range(count)}))


def _forget_threads() -> None:
    """Undo that Ray sets a number of threads, unless this machine has a setting of its own."""
    with suppress(OSError):
        if f"{THREADS}=".encode() not in Path("/proc/self/environ").read_bytes():
            os.environ.pop(THREADS, None)


def _remove_left_folders() -> None:
    """Remove the folders of workers of this machine that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*@*{SUFFIX}"):
        tag = path.name.removeprefix(PREFIX).removesuffix(SUFFIX).rpartition(".")[0]
        if is_dead(tag):
            shutil.rmtree(path, ignore_errors=True)
