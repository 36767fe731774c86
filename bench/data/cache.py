"""Prepared data sets: decoded once into memory-mapped arrays, with a small description that answers at once.

Of images that are stored as JPEG, an index is kept instead, and they stay where they are.

An entry is a folder named after everything that decides its content: the plugin's source, its parameters, and the
source's version and size. It is made under a lock in a temporary folder and renamed: it is there whole, or not at all.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import platformdirs
from filelock import FileLock

from bench.api import ImageShape, Progress, Split, Splits, TestSets
from bench.data import network, tfds
from bench.data.images import check_splits, check_test_sets, fingerprint, image_shape, parts_of, statistics
from bench.data.jpeg import JpegImages, is_saved, reopen
from bench.data.test_sets import require_trainable, test_sets_of
from bench.errors import BenchError, DataError, PluginError
from bench.plugins import FUNCTIONS, PluginChoice, load_module

FOLDERS = ("contents.py", "findings.py", "folder.py", "listing.py", "table.py")
TFDS = ("tfds.py", "tfds_arrays.py", "tfds_files.py", "tfrecords.py")
DECODERS = ("decoding.py", "images.py", "jpeg.py", "views.py", *TFDS, *FOLDERS)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What is known of a prepared data set without opening it.

    Channel statistics are of the training images / 255; a data set that is only evaluated on has none, and `counts`
    are those of its sets.
    """

    fingerprint: str
    class_names: tuple[str, ...]
    image_shape: ImageShape
    counts: Mapping[str, int]
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]
    cached: bool
    notes: tuple[str, ...] = ()

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

    def is_there(self) -> bool:
        """Return whether the plugin finds its source on disk, sound or damaged."""
        try:
            return self.version() is not None
        except DataError:
            return True

    def downloads(self) -> tuple[str, ...]:
        """Return a URL for each host that the absent data is fetched from; none where `load` needs no network.

        Raises:
            DataError: the data cannot be had: the plugin names no download, or a person has to fetch something.

        """
        if "downloads" in self.choice.plugin.functions:
            urls: tuple[str, ...] = self._call("downloads", {"data_dir": self.data_dir})
            return urls
        return (self.choice.plugin.info.download,)

    def load(self, progress: Progress) -> Splits | TestSets:
        """Call the plugin's `load`, and check what it returns."""
        loaded: Splits | TestSets = self._call("load", {"data_dir": self.data_dir, "progress": progress})
        check = check_test_sets if self.choice.plugin.info.evaluation_only else check_splits
        check(loaded, self.choice.label)
        return loaded

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
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise DataError(
                    f"data set {self.choice.label} needs more room: {error.strerror}. Free some, or set "
                    f"BENCH_CACHE_DIR to a folder on another disk; the cache is {self.cache_dir} now."
                ) from error
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
    """Raise `DataError`, with what to do, where the network cannot deliver an absent data set.

    Of several hosts one must answer: what others hold may be for other configurations.
    """
    reasons = {url: network.unreachable(url) for url in source.downloads()}
    if not reasons or not all(reasons.values()):
        return
    tried = ", ".join(f"{url or 'no URL'} ({reason})" for url, reason in reasons.items())
    present = ", ".join(tfds.on_disk(source.data_dir)) or "none"
    raise DataError(
        f"data set {source.choice.label} is not on disk and cannot be downloaded: tried {source.data_dir} and {tried}. "
        f"Copy the folder that TFDS prepared into {source.data_dir}, or name the folder that holds it with "
        f"--data-dir or TFDS_DATA_DIR. On disk there: {present}.{_elsewhere(source)}"
    )


def _elsewhere(source: DataSource) -> str:
    """Return where absent data may be, as far as that can be told."""
    parent = source.data_dir.parent
    if dataclasses.replace(source, data_dir=parent).is_there():
        return f" Did you mean --data-dir {parent}?"
    plugin = source.choice.plugin
    has_one_source = plugin.functions["version"] <= {"data_dir"}  # else what was prepared may be another variant
    if has_one_source and any((source.cache_dir / plugin.name).glob("*/info.json")):
        return " It was prepared before from another folder: name that one with --data-dir."
    return ""


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
    require_trainable(source.choice)
    opened = _open(source, prepared)
    assert isinstance(opened, Splits)
    return opened


def open_test_sets(source: DataSource, prepared: Prepared) -> TestSets:
    """Return what is evaluated on: the sets of a data set that is made for that, or another one's test images.

    Raises:
        DataError: the images are not those that were prepared.
    """
    return test_sets_of(_open(source, prepared))


def _open(source: DataSource, prepared: Prepared) -> Splits | TestSets:
    info, entry = prepared.info, prepared.entry
    if not info.cached:
        loaded = source.load(lambda *_: None)
        if _identify(loaded) != info.fingerprint:
            raise DataError(f"{source.choice.label} gives other images than when it was prepared. Delete {entry}.")
        return loaded
    opened = {name: _open_split(entry, name, source.data_dir) for name in info.counts}
    if source.choice.plugin.info.evaluation_only:
        return TestSets(sets=opened, class_names=info.class_names)
    return Splits(
        **opened,
        class_names=info.class_names,
        image_shape=info.image_shape,
        fingerprint=info.fingerprint,
        notes=info.notes,
    )


def _identify(loaded: Splits | TestSets) -> str:
    given = loaded.fingerprint if isinstance(loaded, Splits) else ""
    return given or fingerprint(loaded)


def _read_entry(source: DataSource, version: str | None) -> Prepared | None:
    if version is None:
        return None
    entry = source.entry(version)
    try:
        return Prepared(DataInfo.from_json(json.loads((entry / "info.json").read_text())), entry)
    except (OSError, ValueError, TypeError):  # not there, or damaged: it is prepared anew
        return None


def _build(source: DataSource, progress: Progress) -> Prepared:
    loaded = source.load(progress)
    info = _describe(loaded, source.choice.plugin.info.cache)
    version = source.version()  # again: a download has only now given the source a version
    if version is None:
        raise DataError(f"data set {source.choice.label} was loaded, and yet its source says that it is not on disk.")
    entry = source.entry(version)
    _write_entry(entry, info, parts_of(loaded), source.data_dir)
    return Prepared(info, entry)


def _describe(loaded: Splits | TestSets, cache: bool) -> DataInfo:
    shape, parts = image_shape(loaded), parts_of(loaded)
    mean, std = statistics(loaded.train.images, shape) if isinstance(loaded, Splits) else ((), ())
    return DataInfo(
        fingerprint=_identify(loaded),
        class_names=loaded.class_names,
        image_shape=shape,
        counts={name: len(split) for name, split in parts.items()},
        channel_mean=mean,
        channel_std=std,
        cached=cache and all(isinstance(split.images, np.ndarray | JpegImages) for split in parts.values()),
        notes=loaded.notes if isinstance(loaded, Splits) else (),
    )


def _write_entry(entry: Path, info: DataInfo, splits: Mapping[str, Split], data_dir: Path) -> None:
    temporary = entry.with_name(f".{entry.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed here: the lock is ours
    temporary.mkdir(parents=True)
    for name, split in splits.items() if info.cached else ():
        if isinstance(split.images, JpegImages):
            split.images.save(temporary, name, data_dir)
        else:
            np.save(temporary / f"{_stem(name)}_images.npy", np.asarray(split.images))
        np.save(temporary / f"{_stem(name)}_labels.npy", split.labels)
    (temporary / "info.json").write_text(json.dumps(dataclasses.asdict(info), indent=1))
    shutil.rmtree(entry, ignore_errors=True)  # a damaged one
    temporary.rename(entry)


def _open_split(entry: Path, name: str, data_dir: Path) -> Split:
    saved = is_saved(entry, name)
    images = reopen(entry, name, data_dir) if saved else np.load(entry / f"{_stem(name)}_images.npy", mmap_mode="r")
    return Split(images, np.load(entry / f"{_stem(name)}_labels.npy"))


def _stem(name: str) -> str:
    """Return how the files of a split or set begin; a set's name may hold what a file's cannot."""
    return quote(name, safe="")
