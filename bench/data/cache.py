"""Prepared data sets: decoded once into memory-mapped arrays, with a small description that answers at once.

Of images that are stored as JPEG, an index is kept instead, and they stay where they are.

An entry is a folder named after everything that decides its content: the plugin's source, its parameters, and the
source's version and size. It is made under a lock in a temporary folder and renamed: it is there whole, or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock

from bench.api import ImageShape, Progress, Split, Splits
from bench.data import network, tfds
from bench.data.images import check_splits, fingerprint, image_shape, statistics
from bench.data.jpeg import JpegImages, is_saved, reopen
from bench.errors import BenchError, DataError, PluginError
from bench.plugins import FUNCTIONS, PluginChoice, load_module

DECODERS = ("decoding.py", "images.py", "jpeg.py", "tfds.py", "tfrecords.py", "views.py")


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What is known of a prepared data set without opening it. Channel statistics are of the training images / 255."""

    fingerprint: str
    class_names: tuple[str, ...]
    image_shape: ImageShape
    counts: Mapping[str, int]
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]
    cached: bool

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DataInfo:
        """Return the description that a cache entry holds."""
        tuples = {key: tuple(item) for key, item in value.items() if isinstance(item, list)}
        return cls(**{**value, **tuples})


@dataclass(frozen=True)
class Prepared:
    """A data set in the cache: its description, and the folder that holds it."""

    info: DataInfo
    entry: Path


@dataclass(frozen=True)
class DataSource:
    """A data set plugin with its parameters, and the folders it works with."""

    choice: PluginChoice
    data_dir: Path
    cache_dir: Path

    def version(self) -> str | None:
        """Return what the plugin says of its source; None where the data is not on disk and needs a download."""
        if "version" not in self.choice.plugin.functions:
            return ""
        version: str | None = self._call("version", {"data_dir": self.data_dir})
        return version

    def load(self, progress: Progress) -> Splits:
        """Call the plugin's `load`, and check what it returns."""
        splits: Splits = self._call("load", {"data_dir": self.data_dir, "progress": progress})
        check_splits(splits, self.choice.label)
        return splits

    def entry(self, version: str) -> Path:
        """Return the folder that holds, or will hold, this data set in the cache."""
        plugin = self.choice.plugin
        unversioned = "version" not in plugin.functions and "data_dir" in plugin.functions[FUNCTIONS["dataset"]]
        folder = str(self.data_dir) if unversioned else ""
        key = json.dumps(
            [
                plugin.source_hash,
                _decoder_hash(),
                dict(self.choice.parameters),
                version,
                folder,
                dict(plugin.modules.hashes),
            ],
            sort_keys=True,
        )
        return self.cache_dir / plugin.name / hashlib.sha256(key.encode()).hexdigest()[:16]

    def _call(self, function: str, provided: Mapping[str, Any]) -> Any:
        """Call a function of the plugin with those of its parameters and the provided values that it takes."""
        offered = {**self.choice.parameters, **provided}
        taken = {name: offered[name] for name in self.choice.plugin.functions[function] if name in offered}
        module = load_module(self.choice.plugin)
        try:
            return getattr(module, function)(**taken)
        except BenchError:
            raise
        except Exception as error:
            raise PluginError(
                f"{self.choice.plugin.path}: `{function}` raised {type(error).__name__}: {error}"
            ) from error


@cache
def _decoder_hash() -> str:
    """Identify the code here that decides pixels and statistics: what an older one decoded is not used."""
    folder = Path(__file__).parent
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in DECODERS)).hexdigest()


def default_cache_dir() -> Path:
    """Return `BENCH_CACHE_DIR`, or the user's cache folder."""
    return Path(os.environ.get("BENCH_CACHE_DIR") or Path(platformdirs.user_cache_dir("bench")) / "datasets")


def peek(source: DataSource) -> Prepared | None:
    """Return a data set that is prepared already, else None. Reads two small files.

    Raises:
        DataError: the source is damaged.
    """
    return _read_entry(source, source.version())


def find(source: DataSource) -> Prepared | None:
    """Return a prepared data set, or None for one that can be prepared.

    Raises:
        DataError: the data is absent and cannot be downloaded, or it is damaged.
    """
    version = source.version()
    if version is None:
        require_download(source)
    return _read_entry(source, version)


def require_download(source: DataSource) -> None:
    """Raise `DataError`, with what to do, where the network cannot deliver an absent data set."""
    plugin = source.choice.plugin
    reason = network.unreachable(plugin.info.download)
    if reason:
        present = ", ".join(tfds.on_disk(source.data_dir)) or "none"
        parent = source.data_dir.parent
        hint = f" Did you mean --data-dir {parent}?" if plugin.name in tfds.on_disk(parent) else ""
        if not hint and any((source.cache_dir / plugin.name).glob("*/info.json")):
            hint = " It was prepared before from another folder: name that one with --data-dir."
        raise DataError(
            f"data set {plugin.name} is not on disk and cannot be downloaded: tried {source.data_dir} and "
            f"{plugin.info.download or 'no URL'} ({reason}). Copy its prepared folder to "
            f"{source.data_dir / plugin.name}, or name the folder that holds it with --data-dir or TFDS_DATA_DIR. "
            f"On disk there: {present}.{hint}"
        )


def prepare(source: DataSource, progress: Progress) -> Prepared:
    """Return the data set in the cache, putting it there first where that has not been done.

    Raises:
        DataError: the data cannot be had, or the cache cannot be written.
        PluginError: the plugin's `load` fails or returns something else than its interface says.

    """
    try:
        source.cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(source.cache_dir / f"{source.choice.plugin.name}.lock"):
            return find(source) or _build(source, progress)
    except OSError as error:
        raise DataError(
            f"the data cache {source.cache_dir} cannot be written: {error}. Set BENCH_CACHE_DIR to another folder."
        ) from error


def open_splits(source: DataSource, prepared: Prepared) -> Splits:
    """Return the splits of a prepared data set: memory-mapped arrays, JPEGs by index, or what the plugin hands over.

    Raises:
        DataError: the images are not those that were prepared.
    """
    info, entry = prepared.info, prepared.entry
    if not info.cached:
        splits = source.load(lambda *_: None)
        if (splits.fingerprint or fingerprint(splits)) != info.fingerprint:
            raise DataError(f"{source.choice.label} gives other images than when it was prepared. Delete {entry}.")
        return splits
    opened = {name: _open_split(entry, name, source.data_dir) for name in info.counts}
    return Splits(**opened, class_names=info.class_names, image_shape=info.image_shape, fingerprint=info.fingerprint)


def _read_entry(source: DataSource, version: str | None) -> Prepared | None:
    if version is None:
        return None
    entry = source.entry(version)
    try:
        return Prepared(DataInfo.from_json(json.loads((entry / "info.json").read_text())), entry)
    except (OSError, ValueError, TypeError):  # not there, or damaged: it is prepared anew
        return None


def _build(source: DataSource, progress: Progress) -> Prepared:
    splits = source.load(progress)
    named = splits.named()
    mean, std = statistics(splits.train.images, image_shape(splits))
    info = DataInfo(
        fingerprint=splits.fingerprint or fingerprint(splits),
        class_names=splits.class_names,
        image_shape=image_shape(splits),
        counts={name: len(split) for name, split in named.items()},
        channel_mean=mean,
        channel_std=std,
        cached=source.choice.plugin.info.cache and isinstance(splits.train.images, np.ndarray | JpegImages),
    )
    version = source.version()  # again: a download has only now given the source a version
    if version is None:
        raise DataError(f"data set {source.choice.label} was loaded, and yet its source says that it is not on disk.")
    entry = source.entry(version)
    _write_entry(entry, info, named, source.data_dir)
    return Prepared(info, entry)


def _write_entry(entry: Path, info: DataInfo, splits: Mapping[str, Split], data_dir: Path) -> None:
    temporary = entry.with_name(f".{entry.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed here: the lock is ours
    temporary.mkdir(parents=True)
    for name, split in splits.items() if info.cached else ():
        if isinstance(split.images, JpegImages):
            split.images.save(temporary, name, data_dir)
        else:
            np.save(temporary / f"{name}_images.npy", np.asarray(split.images))
        np.save(temporary / f"{name}_labels.npy", split.labels)
    (temporary / "info.json").write_text(json.dumps(dataclasses.asdict(info), indent=1))
    shutil.rmtree(entry, ignore_errors=True)  # a damaged one
    temporary.rename(entry)


def _open_split(entry: Path, name: str, data_dir: Path) -> Split:
    saved = is_saved(entry, name)
    images = reopen(entry, name, data_dir) if saved else np.load(entry / f"{name}_images.npy", mmap_mode="r")
    return Split(images, np.load(entry / f"{name}_labels.npy"))
