"""The results folder: one directory an attempt, written under a temporary name and renamed, never rewritten.

results/trials/<trial id>/<attempt>/record.json, history.csv, predictions.npz, layers.csv, log.txt

Beside the attempts, while a trial has not ended: `.claim`, locked by the process that works on it, and
`.checkpoint.npz`, the saved state of its training. Reading is `bench.archive`'s.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.archive import Archive, read_records
from bench.atomic import is_left, process_tag, sync
from bench.claims import Claim, claim
from bench.errors import StoreError
from bench.records import CONTINUABLE, TrialRecord

CHECKPOINT = ".checkpoint.npz"
LEAST_FREE_BYTES = 16 * 2**20
KEPT = {"record.json", "history.csv", "predictions.npz", "layers.csv", "log.txt"}
LOG_BYTES = 2**20  # of each end of a log that is longer than twice that
LOG_SLACK = 1_000  # for the line that says what is left out: what was shortened stays as it is
TAIL_LINES, TAIL_BYTES = 40, 8_000  # a traceback has about 30


class Attempt:
    """An attempt that is being made at a claimed trial: a folder under a temporary name, which `commit` renames.

    Whatever an earlier process left there when it was killed is removed.
    """

    def __init__(self, claimed: Claim) -> None:
        """Make the temporary folder."""
        self._claim = claimed
        self.started = datetime.now(UTC)
        self.name = f"{self.started:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(2)}"
        self.folder = claimed.folder / f".{self.name}.tmp"
        self.checkpoint = claimed.folder / CHECKPOINT
        _remove_unfinished(claimed.folder)
        self.folder.mkdir()

    @property
    def log(self) -> Path:
        """Where the trial's output goes."""
        return self.folder / "log.txt"

    def log_tail(self) -> str:
        """Return the log's last lines."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
        except OSError:
            return ""

    def commit(self, record: TrialRecord, history: Sequence[Any], *, keep_checkpoint: bool) -> Path:
        """Write record and history (dataclasses of one kind), give the folder its lasting name, and release the trial.

        Of what the trial has left in the folder only what belongs there is kept, and of a long log both ends.

        Raises:
            StoreError: the disk is full or the folder cannot be written.

        """
        try:
            tidy(self.folder)
            if history:
                _write_csv(self.folder / "history.csv", history)
            written = self.folder / "record.json"
            written.write_text(json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n")
            sync(written)  # a record survives a loss of power, too
            path = self.folder.rename(self.folder.with_name(self.name))
            with suppress(OSError):  # not every file system can do that with a folder
                sync(path.parent)
        except OSError as error:
            self.abandon()
            raise StoreError(f"the record of {record.trial_id} cannot be written: {error}. {_ADVICE}") from error
        if not keep_checkpoint:
            self.checkpoint.unlink(missing_ok=True)
        self._clear()
        return path

    def abandon(self) -> None:
        """Leave no trace of the attempt but the trial's checkpoint, and release the trial."""
        self._clear()
        with suppress(OSError):
            self._claim.folder.rmdir()  # where nothing else is in it

    def _clear(self) -> None:
        """Remove what is unfinished, also half a checkpoint of a trial that was killed while saving; end the claim."""
        with suppress(OSError):
            _remove_unfinished(self._claim.folder)
        self._claim.release()


class Store:
    """A results folder."""

    def __init__(self, folder: Path) -> None:
        """Use this folder; nothing is made or checked yet."""
        self.folder = folder

    def check_writable(self) -> None:
        """Make the folder where it is absent.

        Raises:
            StoreError: it cannot be made or written, or its disk is full.

        """
        probe = self.folder / f".write-test.{process_tag()}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x" * 4096)
            probe.unlink()
        except OSError as error:
            raise StoreError(f"the results folder {self.folder} cannot be written: {error}. {_ADVICE}") from error
        if self.free_bytes() < LEAST_FREE_BYTES:
            raise StoreError(
                f"the disk of the results folder {self.folder} is full: {self.free_bytes():,} bytes free. {_ADVICE}"
            )

    def free_bytes(self) -> int:
        """Return how much room the disk has."""
        return shutil.disk_usage(self.folder).free

    def begin(self, trial_id: str) -> Attempt | None:
        """Claim a trial and start an attempt at it; None where another process is working on it.

        Raises:
            StoreError: its folder cannot be made.

        """
        folder = self.folder / "trials" / trial_id
        for each in (folder.parent, folder):
            if each.is_symlink():
                raise StoreError(f"{each} is a link, through which nothing is written. Remove it.")
        try:
            claimed = claim(folder)
            if claimed is None:
                return None
            self._remove_spent_checkpoint(folder)
            return Attempt(claimed)
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written: {error}. {_ADVICE}") from error

    def attempts(self, trial_id: str) -> set[str]:
        """Return the names of a trial's finished attempts."""
        return {path.parent.name for path in (self.folder / "trials" / trial_id).glob("[!.]*/record.json")}

    def read(self, trial_ids: Iterable[str] | None = None) -> Archive:
        """Return the records of all attempts, oldest first, or those of some trials, and what cannot be read."""
        return read_records(self.folder, trial_ids)

    def records(self) -> list[TrialRecord]:
        """Return the records of all attempts that can be read, oldest first."""
        return list(self.read().records)

    def sweep_up(self) -> None:
        """Remove what processes that have died have left: claims, unfinished attempts, temporary files."""
        for trial in _folders(self.folder / "trials"):
            if any(name == ".claim" or name.endswith(".tmp") for name in _names(trial)):
                with suppress(OSError):  # what somebody else has put there may forbid it
                    self._sweep_up(trial)
        for folder in (self.folder, self.folder / ".runs"):
            for name in _names(folder):
                if is_left(name):
                    (folder / name).unlink(missing_ok=True)

    def _sweep_up(self, trial: Path) -> None:
        claimed = claim(trial)
        if claimed is None:
            return
        try:
            _remove_unfinished(trial)
            self._remove_spent_checkpoint(trial)
        finally:
            claimed.release()
        trial.rmdir()  # where nothing else is in it

    def _remove_spent_checkpoint(self, trial: Path) -> None:
        """Remove the state of a training that was recorded by a process which was killed right after."""
        saved = trial / CHECKPOINT
        records = self.read([trial.name]).records if saved.exists() else ()
        if records and records[-1].reason not in CONTINUABLE:
            recorded = trial / records[-1].attempt / "record.json"
            if recorded.stat().st_mtime >= saved.stat().st_mtime:
                saved.unlink()


def write_predictions(folder: Path, logits: Any, labels: Any, confusion_matrix: Any) -> None:
    """Write `predictions.npz`: logits (images, classes), labels (images,), confusion matrix [label, predicted]."""
    np.savez_compressed(
        folder / "predictions.npz",
        logits=logits,
        labels=np.asarray(labels, np.int32),
        confusion_matrix=np.asarray(confusion_matrix, np.int32),
    )


def write_layers(folder: Path, layers: Sequence[Any]) -> None:
    """Write `layers.csv`: what each layer costs (dataclasses of one kind)."""
    _write_csv(folder / "layers.csv", layers)


_ADVICE = "Free some space or mend its permissions, or name another folder with --results; finished trials are kept."


def _write_csv(path: Path, rows: Sequence[Any]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [item.name for item in dataclasses.fields(rows[0])])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)


def tidy(folder: Path) -> None:
    """Remove what does not belong into an attempt's folder, and the middle of a long log."""
    for path in folder.iterdir():
        if path.name not in KEPT or path.is_symlink() or not path.is_file():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    log = folder / "log.txt"
    if log.exists() and (size := log.stat().st_size) > 2 * LOG_BYTES + LOG_SLACK:
        with log.open("rb") as file:
            first = file.read(LOG_BYTES)
            file.seek(-LOG_BYTES, os.SEEK_END)
            last = file.read()
        log.write_bytes(first + f"\n[bench: {size - 2 * LOG_BYTES:,} bytes are left out here]\n".encode() + last)


def _remove_unfinished(trial: Path) -> None:
    for name in _names(trial):
        if name.startswith(".") and name.endswith(".tmp"):
            path = trial / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _folders(folder: Path) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))


def _names(folder: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)  # noqa: PTH208 - of ten thousand folders
    return []
