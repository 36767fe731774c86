"""TensorFlow Datasets' own builders: what a name stands for, whether its data can be had, and its preparation.

This imports TensorFlow Datasets, which takes a second, and for a few data sets TensorFlow.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.api import Progress
from bench.errors import DataError, UsageError

CATALOG = "https://www.tensorflow.org/datasets/catalog/overview"
LISTED = 12  # configurations at most that a message lists
RETRIES = 4  # of a request: TFDS's own ten take more than three minutes, in silence
WATCH_SECONDS = 0.5


def find_builder(name: str, data_dir: Path) -> Any:
    """Return TFDS's builder of `NAME` or `NAME/CONFIG`; prepares and downloads nothing.

    Raises:
        UsageError: TFDS knows no such name or configuration; says which are near.
        DataError: TFDS cannot make the builder, for want of a package, say.

    """
    import tensorflow_datasets as tfds

    base, _, config = name.partition("/")
    known = tfds.list_builders(with_community_datasets=False)
    if base not in known:
        raise UsageError(
            f"TFDS has no data set {base!r}. {_near(base, known)}Expected the name of one of its {len(known)} data "
            f"sets, or NAME/CONFIG: {CATALOG}"
        )
    try:
        configs = list(tfds.builder_cls(base).builder_configs)
        if not config or config in configs:
            return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except Exception as error:  # whatever it is: a builder runs its data set's own code
        raise DataError(f"TFDS cannot make its data set {name}: {type(error).__name__}: {error}") from error
    listed = ", ".join(configs[:LISTED]) + (f", ... ({len(configs)} in all)" if len(configs) > LISTED else "")
    raise UsageError(
        f"TFDS's data set {base} has no configuration {config!r}. {_near(config, configs)}It has: {listed or 'none'}."
    )


def require_files(builder: Any, name: str, data_dir: Path) -> tuple[str, ...]:
    """Return one URL for each host that data comes from; none where a person fetches it, and has done so.

    Raises:
        DataError: files that TFDS cannot download are not there; says which, and where they belong.

    """
    if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return tuple({urlsplit(url).netloc: url for url in builder.url_infos}.values())
    manual = data_dir / "downloads" / "manual"
    if not manual.is_dir() or not any(manual.iterdir()):
        instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        raise DataError(
            f"{name} is not in {data_dir}, and TFDS cannot download it. Its instructions: {instructions} Here "
            f"manual_dir is {manual}; it is empty. Copy its prepared folder to {data_dir / name} if you have one."
        )
    return ()


def prepare_folder(name: str, data_dir: Path, progress: Progress) -> Path:
    """Have TFDS download and write a data set, and return the folder that holds it.

    Raises:
        UsageError, DataError: it cannot be had.

    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    builder = find_builder(name, data_dir)
    require_files(builder, name, data_dir)
    downloader.MAX_RETRIES = RETRIES
    try:
        with _watch_download(builder, data_dir, progress):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # TFDS and TensorFlow raise dozens of kinds; all of them mean that there is no data
        raise DataError(f"TFDS cannot prepare {name} in {data_dir}: {type(error).__name__}: {error}") from error
    return Path(builder.data_dir)


def _near(name: str, known: Iterable[str]) -> str:
    """Return which of the known names look like this one, as a question."""
    known = list(known)
    folded = name.casefold()
    close = difflib.get_close_matches(folded, known, n=4, cutoff=0.6)
    around = [each for each in known if folded and folded in each and each not in close]
    near = [*close, *around][:5]
    return f"Did you mean {' or '.join(near)}? " if near else ""


@contextmanager
def _watch_download(builder: Any, data_dir: Path, progress: Progress) -> Iterator[None]:
    """Report how many bytes have arrived, twice a second, by looking at TFDS's download folder."""
    folder = data_dir / "downloads"
    total = sum(info.size for info in builder.url_infos.values())
    before, ended = _size(folder), threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            progress(f"downloading {builder.name} (bytes)", min(_size(folder) - before, total), total)

    watcher = threading.Thread(target=watch, daemon=True)
    if total:
        watcher.start()
    try:
        yield
    finally:
        ended.set()
        if total:
            watcher.join()
    if total:
        progress(f"downloading {builder.name} (bytes)", total, total)


def _size(folder: Path) -> int:
    """Return the bytes below a folder, without what TFDS has unpacked or was given by hand."""
    size = 0
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("extracted", "manual")]
        for name in files:
            with suppress(OSError):  # TFDS renames files while we look
                size += Path(root, name).stat().st_size
    return size
