"""Reads a results folder that anybody may have made: what is no sound record becomes a problem in words, never a crash.

Nothing that is read is executed, followed out of the folder or waited for. Texts of records come out printable, numbers
finite, and fields of the types that `bench.records` declares, so that nothing later on needs to check them.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bench.errors import StoreError
from bench.fields import build, check_surrogates, cleaned, kind_of, printable
from bench.records import SCHEMA_VERSION, Status, TrialRecord

MOST_RECORD_BYTES = 4 * 2**20
MOST_PREDICTION_BYTES = 2**30  # of the file, and of its arrays decompressed
LONGEST_MESSAGE = 500
NUMBERS = (  # figures that tables calculate with; the others may be anything
    *("test_accuracy", "test_top5_accuracy", "test_nll", "test_ece", "validation_accuracy", "train_images_per_second"),
    *("compute_images_per_second", "input_images_per_second", "input_wait_share", "inference_images_per_second"),
    *("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "parameters", "trainable_parameters", "macs", "flops"),
    *("product_activations", "model_file_bytes", "peak_memory_bytes", "training_energy_joules", "test_time_accuracy"),
)
NOTES = ("timing_notes", "profile_notes")
LINK = "is a symbolic link, which could lead out of the results folder"
MEND = "Mend that, or move it away; the rest is used. The results folder itself may be a link."
MOVE = "Move its folder away to be rid of this message; the other records are used."
NO_ARCHIVE = b"PK\x06\x07"  # of a zip file with more or larger members than `write_predictions` makes


@dataclass(frozen=True)
class Archive:
    """What a results folder holds: its sound records, oldest attempt first, and a message for each that is not."""

    records: tuple[TrialRecord, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Predictions:
    """What a trial's `predictions.npz` holds: logits (images, classes) and labels (images,)."""

    logits: npt.NDArray[Any]
    labels: npt.NDArray[Any]


def read_records(folder: Path, trial_ids: Iterable[str] | None = None) -> Archive:
    """Return the records of all attempts, or of those at some trials; nothing where the folder is absent."""
    wanted = None if trial_ids is None else set(trial_ids)
    records: list[TrialRecord] = []
    problems: list[str] = []
    root = os.path.join(folder, "trials")  # noqa: PTH118 - many thousand times, pathlib takes a second
    for attempt, trial in sorted(_attempts(root, wanted, problems)):
        path = f"{root}/{trial}/{attempt}/record.json"
        try:
            records.append(_parse(read_regular(path, MOST_RECORD_BYTES), trial, attempt))
        except FileNotFoundError:
            continue  # an empty folder says nothing
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            problems.append(_problem(path, error))
    return Archive(tuple(records), tuple(problems))


def read_predictions(folder: Path) -> Predictions:
    """Return what is in an attempt's `predictions.npz`. No pickle is loaded, and no array of more than 1 GiB made.

    Raises:
        FileNotFoundError: there are none.
        StoreError: the file is damaged, too large, or not what `write_predictions` writes; the message names no folder.

    """
    try:
        with _open_regular(str(folder / "predictions.npz"), MOST_PREDICTION_BYTES) as file:
            _check_directory(file)
            with zipfile.ZipFile(file) as stored:
                labels, logits = _member(stored, "labels"), _member(stored, "logits")
        if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size:
            raise ValueError(f"has logits {logits.shape} that do not fit its labels {labels.shape}")
    except FileNotFoundError:
        raise
    except Exception as error:  # a made-up file can have numpy and zipfile raise anything
        raise StoreError(f"predictions.npz {words_of(error)}") from error
    return Predictions(logits, labels)


def _problem(path: str, error: BaseException) -> str:
    advice = "Update bench to read it." if isinstance(error, _NewerError) else MOVE
    return f"{_shown(path)} {words_of(error)}. {advice}"


def _shown(path: str) -> str:
    return printable(path).replace("\n", "\\n")


def words_of(error: BaseException) -> str:
    """Return what is wrong, as the end of a sentence that begins with what was read."""
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, MemoryError):
        return "takes more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    ours = type(error) in (ValueError, _NewerError)
    text = printable(str(error) if ours else f"cannot be read: {str(error) or type(error).__name__}")
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]} ..."


# Finding and opening files


def _attempts(root: str, wanted: set[str] | None, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (attempt, trial) of each folder; hidden ones are being made, or are somebody else's."""
    if _is_link(root, problems):
        return
    for trial in _folders(root, problems) if wanted is None else sorted(filter(_is_name, wanted)):
        for attempt in _folders(f"{root}/{trial}", problems):
            yield attempt, trial


def _is_link(path: str, problems: list[str]) -> bool:
    link = os.path.islink(path)  # noqa: PTH114 - as above
    if link:
        problems.append(f"{_shown(path)} {LINK}, and is not followed. {MEND}")
    return link


def _is_name(text: str) -> bool:
    return text != "" and text[0] != "." and "/" not in text


def _folders(path: str, problems: list[str]) -> Iterator[str]:
    """Yield the names of the folders in a folder; a link is a problem, be it the folder itself."""
    if _is_link(path, problems):
        return
    try:
        with os.scandir(path) as entries:
            found = [(each.name, each.is_symlink(), each.is_dir()) for each in entries if each.name[0] != "."]
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(f"{_shown(path)} cannot be listed: {error.strerror}. {MEND}")
        return
    for name, is_link, is_folder in found:
        if is_link:
            problems.append(f"{_shown(f'{path}/{name}')} {LINK}, and is not followed. {MEND}")
        elif is_folder:
            yield name


def read_regular(path: str, most: int) -> bytes:
    """Return what a regular file holds; anything else, a link or more bytes than `most` is a ValueError or OSError."""
    with _open_regular(path, most) as file:
        return file.read(most + 1)


def _open_regular(path: str, most: int) -> BinaryIO:
    """Open a regular file of at most so many bytes; anything else is refused before it is read, or waited for."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if os.path.islink(path):  # noqa: PTH114 - as above
            raise ValueError(LINK) from error
        raise
    facts = os.fstat(number)
    if stat.S_ISREG(facts.st_mode) and facts.st_size <= most:
        return os.fdopen(number, "rb")
    os.close(number)
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("is not a file")
    raise ValueError(f"has {facts.st_size:,} bytes, more than the {most:,} that are read")


# From bytes to a record


class _NewerError(ValueError):
    """The record is of a later bench."""


def _parse(content: bytes, trial: str, attempt: str) -> TrialRecord:
    """Return the record in a file's content; a ValueError says what is wrong, as the end of a sentence."""
    value = _checked_version(read_object(content))
    record: TrialRecord = build(TrialRecord, value)
    if (record.trial_id, record.attempt) != (trial, attempt):
        raise ValueError(f"says that it is of {record.trial_id}/{record.attempt}, which its folder is not")
    _check_values(record)
    return record


def read_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object in these bytes; anything else is a ValueError or RecursionError."""
    if not content.strip():
        raise ValueError("is empty")
    try:
        text = content.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ValueError(f"is no JSON: {error}") from error
    if type(value) is not dict:
        raise ValueError(f"holds {kind_of(value)} and not an object")
    if "\\ud" in text or "\\uD" in text:
        check_surrogates(value)
    return cleaned(value)  # type: ignore[no-any-return]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _checked_version(value: dict[str, Any]) -> dict[str, Any]:
    version = value.get("schema_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"has no schema version, but {kind_of(version)}")
    if version > SCHEMA_VERSION:
        raise _NewerError(f"was written by a newer bench (schema version {version}; this one reads {SCHEMA_VERSION})")
    return value


def _check_values(record: TrialRecord) -> None:
    """Check what the types of the fields leave open."""
    if record.spec.seed < 0 or record.spec.devices < 1 or record.environment.cores_used < 0:
        raise ValueError("has a seed or number of cores below 0, or no devices")
    metrics = record.metrics
    for name in NUMBERS:
        value = metrics.get(name)
        if value is not None and type(value) is not float and type(value) is not int:
            raise ValueError(f"has metrics.{name}, which must be a number, as {kind_of(value)}")
    name = "validation_accuracy" if record.spec.tuning else "test_accuracy"
    accuracy = metrics.get(name)
    if record.status == Status.OK and (accuracy is None or not 0 <= accuracy <= 1):
        raise ValueError(f"has the status ok, but no metrics.{name} from 0 to 1: {accuracy}")
    if not all(type(metrics.get(name, [])) is list for name in NOTES):
        raise ValueError(f"has metrics.{' or metrics.'.join(NOTES)} that is no list")
    if type(metrics.get("energy_scope") or "") is not str:
        raise ValueError("has metrics.energy_scope that is no text")
    others, peak = record.resolved.get("other_trials", 0), record.resolved.get("matmul_peak_flops")
    if type(others) is not int or not (peak is None or type(peak) in (int, float)):
        raise ValueError("has resolved.other_trials or resolved.matmul_peak_flops that is no number")


# Predictions


def _check_directory(file: BinaryIO) -> None:
    """Refuse a zip file whose list of members alone could fill the memory, before `zipfile` reads it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 42))
    tail = file.read()
    if len(tail) < 42 or tail[20:24] != b"PK\x05\x06" or tail[40:] != b"\0\0":  # the end, without a comment
        raise ValueError("is not a whole npz file")
    members, length = struct.unpack("<HI", tail[30:36])
    if tail[:4] == NO_ARCHIVE or members > 16 or length > 2**16:
        raise ValueError("has more members than an npz file of predictions")


def _member(stored: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """Return one array, after its header was held against the member's size."""
    entry = stored.getinfo(f"{name}.npy")
    if entry.file_size > MOST_PREDICTION_BYTES:
        raise ValueError(f"has {entry.file_size:,} bytes of {name}, more than {MOST_PREDICTION_BYTES:,}")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"has {name} in a compression that NumPy does not write")
    with stored.open(entry) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read(member)
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "fiu" or min(shape, default=0) < 0 or member.tell() + size != entry.file_size:
            raise ValueError(f"has {name} that is no plain array of numbers: {dtype} {shape}")
        return np.frombuffer(member.read(size), dtype).reshape(shape, order="F" if fortran_order else "C")
