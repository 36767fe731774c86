"""The results folder: one directory an attempt, written under a temporary name and renamed, never rewritten.

results/trials/<trial id>/<attempt>/record.json, history.csv, predictions.npz, log.txt
"""

from __future__ import annotations

import csv
import dataclasses
import json
import secrets
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import StoreError
from bench.records import SCHEMA_VERSION, TrialRecord

LEAST_FREE_BYTES = 16 * 2**20


class Attempt:
    """An attempt that is being made: a folder under a temporary name, which `commit` renames."""

    def __init__(self, trial_folder: Path) -> None:
        """Make the temporary folder."""
        self.started = datetime.now(UTC)
        self.name = f"{self.started:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(2)}"
        self.folder = trial_folder / f".{self.name}.tmp"
        self.folder.mkdir(parents=True)

    @property
    def log(self) -> Path:
        """Where the trial's output goes."""
        return self.folder / "log.txt"

    def commit(self, record: TrialRecord, history: Sequence[Any]) -> Path:
        """Write record and history (dataclasses of one kind), and give the folder its lasting name.

        Raises:
            StoreError: the disk is full or the folder cannot be written.

        """
        try:
            if history:
                _write_csv(self.folder / "history.csv", history)
            text = json.dumps(record.to_json(), indent=1, allow_nan=False)
            (self.folder / "record.json").write_text(text + "\n")
            return self.folder.rename(self.folder.with_name(self.name))
        except OSError as error:
            raise StoreError(f"the record of {record.trial_id} cannot be written: {error}. {_ADVICE}") from error


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
        probe = self.folder / f".write-test-{secrets.token_hex(4)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x" * 4096)
            probe.unlink()
        except OSError as error:
            raise StoreError(f"the results folder {self.folder} cannot be written: {error}. {_ADVICE}") from error
        free = shutil.disk_usage(self.folder).free
        if free < LEAST_FREE_BYTES:
            raise StoreError(f"the disk of the results folder {self.folder} is full: {free:,} bytes free. {_ADVICE}")

    def begin(self, trial_id: str) -> Attempt:
        """Start an attempt at a trial.

        Raises:
            StoreError: its folder cannot be made.

        """
        try:
            return Attempt(self.folder / "trials" / trial_id)
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written: {error}. {_ADVICE}") from error

    def records(self) -> list[TrialRecord]:
        """Return the records of all attempts, oldest first.

        Raises:
            StoreError: a record cannot be read.

        """
        paths = self.folder.glob("trials/*/[!.]*/record.json")
        return [_read(path) for path in sorted(paths, key=lambda path: (path.parent.name, path))]


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


def _read(path: Path) -> TrialRecord:
    try:
        value = json.loads(path.read_text())
        if value.get("schema_version") != SCHEMA_VERSION:
            raise StoreError(
                f"{path} has schema version {value.get('schema_version')}, this bench reads {SCHEMA_VERSION}. "
                "Use the bench that wrote it, or another --results."
            )
        return TrialRecord.from_json(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is not a record: {error}. Move its folder away to go on without it.") from error
