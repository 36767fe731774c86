"""The state of a training in a file, so that a trial that was killed or stopped goes on where it was.

The file is written beside its place and renamed: it is whole, or not there. It is an uncompressed `.npz`, written an
array at a time, so that saving takes little memory. One that does not fit is left aside, with a line in the trial's log
that says why; nothing in it is executed.
"""

from __future__ import annotations

import dataclasses
import json
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.atomic import replacing
from bench.environment import usable_cores
from bench.events import Epoch, Resumed, Saved
from bench.measurement.windows import TimedBlock
from bench.stopping import StopRequest

FORMAT = 1
SECONDS = 300.0
HEADER, BLOCKS = "header", "blocks"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Past:
    """What earlier processes did of a trial that was continued.

    Attributes:
        seconds: that they took in all, until they saved what was gone on with.
        phases: seconds of each phase but the training's.
        continued_at: after how many steps of the training each process that followed went on.
        cores: that the last of them had; 0 where that is not known.

    """

    seconds: float = 0.0
    cores: int = 0
    phases: Mapping[str, float] = field(default_factory=dict)
    continued_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "continued_at", tuple(self.continued_at))  # JSON has lists


@dataclass
class Progress:
    """Where a training is, and what was measured of it so far. It changes as the training goes on.

    Attributes:
        epoch: the one that is being trained, from 0.
        step: how many of its steps are done.
        done: how many steps are done in all.
        losses: sum over the epoch's images so far.
        correct: how many of them were predicted correctly.
        images: how many they are.
        seconds: of the epoch's training so far.
        first_step_seconds: of the blocks that traced or compiled.
        validation_seconds: of all validations.
        validation_accuracy: the last one, a fraction.
        history: the epochs that have ended.
        blocks: that were timed.
        past: what earlier processes did.

    """

    epoch: int = 0
    step: int = 0
    done: int = 0
    losses: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    first_step_seconds: float = 0.0
    validation_seconds: float = 0.0
    validation_accuracy: float | None = None
    history: list[Epoch] = field(default_factory=list)
    blocks: list[TimedBlock] = field(default_factory=list)
    past: Past = field(default_factory=Past)


class Trained(Protocol):
    """What has a state to save: the steps of a backend."""

    def snapshot(self) -> Iterator[tuple[str, Array]]:
        """Yield all that training changes, by name."""

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take what `snapshot` gave; raises ValueError, and changes nothing, where it does not fit."""


class Keeper:
    """Saves the state of a training when it is time to, or when the process was asked to end."""

    def __init__(
        self,
        path: Path | None = None,
        key: str = "",
        seconds: float = SECONDS,
        *,
        send: Callable[[Any], None] = lambda _: None,
        stop: StopRequest | None = None,
        phases: Mapping[str, float] | None = None,
    ) -> None:
        """Keep the state in a file.

        Args:
            path: of the file; None saves nothing.
            key: tells trials, software and machines apart: only a file of the same key is gone on with.
            seconds: from one saving to the next; 0 saves after each block.
            send: is sent `Resumed` and `Saved`.
            stop: the request to end.
            phases: seconds of the phases of this process, which are part of what is saved.

        """
        self.path, self.key, self.seconds, self.send = path, key, seconds, send
        self.stop = stop or StopRequest()
        self.phases = {} if phases is None else phases
        self.start = time.monotonic()
        self.next = self.start + seconds if path else float("inf")
        self.place: tuple[int, int] | None = None  # epoch and step of what is in the file

    def resume(self, trained: Trained) -> Progress:
        """Bring back what was saved, and return where it was; a new `Progress` where there is nothing to go on with."""
        if self.path is None or not self.path.exists():
            return Progress()
        try:
            progress, arrays = read(self.path, self.key)
        except Exception as error:  # whatever is in the file
            return self._start_anew(str(error) or type(error).__name__)
        try:
            trained.restore(arrays)
        except ValueError as error:  # anything else may have left half of it in the model, and is not survived
            return self._start_anew(str(error))
        past = progress.past
        if past.cores not in (0, usable_cores()):
            print(f"it had {past.cores} cores until then: its speed is that of the rest alone.", flush=True)
            progress.blocks.clear()
        progress.past = dataclasses.replace(past, continued_at=(*past.continued_at, progress.done))
        self.place, self.stop.saved = (progress.epoch, progress.step), progress.done
        print(f"the training goes on after {progress.done} steps.", flush=True)
        self.send(Resumed(progress.done, past.seconds, tuple(progress.history)))
        return progress

    def _start_anew(self, reason: str) -> Progress:
        print(f"{self.path} is not gone on with: {reason}. The training starts anew.", flush=True)
        return Progress()

    def is_due(self) -> bool:
        """Return whether it is time to call `save`."""
        return self.stop.requested or time.monotonic() >= self.next

    def is_worth_keeping(self, past: Past) -> bool:
        """Return whether the trial has taken as long as is not to be lost, or was asked to end."""
        return self.is_due() or (self.path is not None and self._past(past).seconds >= self.seconds)

    def save(self, trained: Trained, progress: Progress, steps: int) -> None:
        """Save the state, unless it is saved already. Where that fails, the log says so, and the training goes on.

        Args:
            trained: what has the state; no step may be running.
            progress: where the training is.
            steps: that the training has in all.

        Raises:
            StoppedError: the process was asked to end.

        """
        if self.path and self.place != (progress.epoch, progress.step):
            self._write(self.path, trained, progress)
        if self.stop.requested:
            raise self.stop.error(f"after {progress.done} of {steps} steps")

    def _write(self, path: Path, trained: Trained, progress: Progress) -> None:
        now = dataclasses.replace(progress, past=self._past(progress.past))
        try:
            write(path, self.key, now, trained.snapshot())
        except OSError as error:
            print(f"the state of the training cannot be saved: {error}. The training goes on.", flush=True)
        else:
            self.place, self.stop.saved = (progress.epoch, progress.step), progress.done
            self.send(Saved(progress.done))
        self.next = time.monotonic() + self.seconds

    def _past(self, past: Past) -> Past:
        """Return what will be past when this process has ended."""
        seconds = past.seconds + time.monotonic() - self.start
        phases = add_phases(past.phases, self.phases)
        return dataclasses.replace(past, seconds=seconds, phases=phases, cores=usable_cores())


def add_phases(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of each phase of both."""
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in {**one, **other}}


def write(path: Path, key: str, progress: Progress, arrays: Iterable[tuple[str, Array]]) -> None:
    """Write the state of a training to a file, which replaces one that is there.

    Raises:
        OSError: it cannot be written; nothing is left of it, and the file that was there stays.

    """
    blocks = np.array([(each.steps, each.images, each.seconds) for each in progress.blocks], np.float64)
    plain = {name: value for name, value in vars(progress).items() if name != "blocks"}
    header = json.dumps({"format": FORMAT, "key": key, "progress": plain}, default=dataclasses.asdict)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=True) as temporary, zipfile.ZipFile(temporary, "x") as archive:
        _add(archive, HEADER, np.frombuffer(header.encode(), np.uint8))
        _add(archive, BLOCKS, blocks.reshape(-1, 3))
        for name, array in arrays:
            _add(archive, name, array)


def read(path: Path, key: str) -> tuple[Progress, dict[str, Array]]:
    """Return what `write` wrote.

    Raises:
        ValueError: the file has another key or format.
        Exception: of whichever kind, where the file is damaged.

    """
    with zipfile.ZipFile(path) as archive:
        if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
            raise ValueError("it is compressed, which bench never does")  # a small file might fill the memory
        names = [each.removesuffix(".npy") for each in archive.namelist()]
        header = json.loads(_get(archive, HEADER).tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"it has format {header['format']}, this bench reads {FORMAT}")
        if header["key"] != key:
            raise ValueError("it is of another trial, machine or version of the software")
        blocks = [
            TimedBlock(int(steps), int(images), seconds) for steps, images, seconds in _get(archive, BLOCKS).tolist()
        ]
        arrays = {name: _get(archive, name) for name in names if name not in (HEADER, BLOCKS)}
    fields = header["progress"]
    history = [Epoch(**each) for each in fields["history"]]
    return Progress(**{**fields, "history": history, "past": Past(**fields["past"]), "blocks": blocks}), arrays


def _add(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _get(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(f"{name}.npy") as member:
        array: Array = np.lib.format.read_array(member, allow_pickle=False)
        return array
