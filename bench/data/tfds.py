"""Data sets of TensorFlow Datasets, for data set plugins: `version` and a `load` do all that such a plugin needs.

Only `load` imports TensorFlow Datasets. Everything else reads the JSON files that TFDS leaves beside its data.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.api import ImageShape, Progress, Split, Splits
from bench.data.jpeg import JpegImages
from bench.errors import DataError

TFRECORD_FRAMING = 16  # bytes around each record: its length and two checksums
READ_BATCH = 500
WATCH_SECONDS = 0.5


def default_data_dir() -> Path:
    """Return `TFDS_DATA_DIR`, or TFDS's own default folder."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def version(name: str, data_dir: Path) -> str | None:
    """Return version and file sizes of a prepared data set; None where it is not on disk.

    Raises:
        DataError: files are missing or truncated.

    """
    folder = _find(name, data_dir)
    return None if folder is None else f"tfds {name} {folder.name} {_check_files(folder)} bytes"


def on_disk(data_dir: Path) -> list[str]:
    """Return the names of the data sets that lie prepared in a TFDS data directory."""
    depths = ("*", "*/*")  # NAME or NAME/CONFIG; nothing deeper, since downloads may lie there unpacked
    found = [path for depth in depths for path in data_dir.glob(f"{depth}/[0-9]*/dataset_info.json")]
    return sorted({str(path.parent.parent.relative_to(data_dir)) for path in found})


def load(name: str, data_dir: Path, progress: Progress) -> Splits:
    """Download the data set where it is absent, and decode it. For sets whose images all have one size.

    Raises:
        DataError: the download failed, a file cannot be read, or images differ in size.

    """
    import tensorflow_datasets as tfds

    folder = _find(name, data_dir)
    try:
        if folder is None:
            builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
            with _watch_download(builder, data_dir, progress):
                builder.download_and_prepare()
        else:
            builder = tfds.builder_from_directory(folder)
        image, label = builder.info.features["image"], builder.info.features["label"]
        if None in image.shape:
            raise DataError(f"{name}: the images differ in size ({image.shape}); they need a plugin of their own.")
        splits = {split: _read(builder, split, image.shape, progress) for split in builder.info.splits}
    except DataError:
        raise
    except Exception as error:  # TFDS and TensorFlow raise dozens of kinds; all of them mean that there is no data
        raise DataError(f"{name} cannot be read from {folder or data_dir}: {type(error).__name__}: {error}") from error
    return Splits(
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        class_names=tuple(label.names),
    )


def load_jpegs(name: str, data_dir: Path, progress: Progress, shape: ImageShape, test: str = "test") -> Splits:
    """Index a data set of JPEGs of any size, which stay in TFDS's files. It must be there: nothing is downloaded.

    Args:
        name: of the data set.
        data_dir: TFDS's data directory.
        progress: is told how many images are indexed.
        shape: height, width and channels that images are brought to.
        test: which of TFDS's splits holds the test images; the training images are its split `train`.

    Raises:
        DataError: files are missing or damaged.

    """
    folder = _find(name, data_dir)
    if folder is None:
        raise DataError(f"{name} is not in {data_dir}. Copy its prepared folder to {data_dir / name}.")
    try:
        class_names = tuple((folder / "label.labels.txt").read_text().split("\n")[:-1])
    except OSError as error:
        raise DataError(f"{name} has no readable class names: {error}. Copy or prepare the data again.") from error
    digest = hashlib.sha256("\0".join(class_names).encode())
    splits = {}
    for kind, split in (("train", "train"), ("test", test)):
        images = _index(folder, split, progress)
        digest.update(f"{kind} {len(images)}".encode() + images.index["checksum"].tobytes())
        splits[kind] = Split(images, images.index["label"].astype(np.int64))
    return Splits(**splits, class_names=class_names, image_shape=shape, fingerprint=digest.hexdigest())


def _index(folder: Path, split: str, progress: Progress) -> JpegImages:
    from bench.data.tfrecords import index_files

    info = json.loads((folder / "dataset_info.json").read_text())
    counts = {each["name"]: [int(length) for length in each["shardLengths"]] for each in info["splits"]}
    if split not in counts:
        raise DataError(f"{folder} has no split {split}. Available: {', '.join(counts)}.")
    files = sorted(folder.glob(f"{info['name']}-{split}.{info['fileFormat']}-*"))
    total = sum(counts[split])
    index = index_files(files, counts[split], lambda done: progress(f"indexing {info['name']} {split}", done, total))
    return JpegImages(files, index)


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


def _read(builder: Any, split: str, shape: tuple[int, ...], progress: Progress) -> Split:
    total = builder.info.splits[split].num_examples
    images: npt.NDArray[np.uint8] = np.empty((total, *shape), np.uint8)
    labels = np.empty(total, np.int64)
    done = 0
    for batch in builder.as_dataset(split=split, shuffle_files=False, batch_size=READ_BATCH):
        count = len(batch["label"])
        images[done : done + count] = batch["image"].numpy()
        labels[done : done + count] = batch["label"].numpy()
        done += count
        progress(f"decoding {builder.info.name} {split}", done, total)
    if done != total:
        raise DataError(f"{builder.info.name} {split}: expected {total} images, found {done}. Prepare it again.")
    return Split(images, labels)


def _find(name: str, data_dir: Path) -> Path | None:
    folders = [path.parent for path in (data_dir / name).glob("[0-9]*/dataset_info.json")]
    return max(folders, key=lambda folder: _numbers(folder.name), default=None)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _check_files(folder: Path) -> int:
    """Return the bytes of all splits, once each split's files are known to be there in full."""
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
    except ValueError as error:
        raise DataError(
            f"{folder / 'dataset_info.json'} is damaged ({error}). Copy or prepare the data again."
        ) from error
    sizes = []
    for split in info["splits"]:
        shards = [int(length) for length in split["shardLengths"]]
        files = sorted(folder.glob(f"{info['name']}-{split['name']}.{info['fileFormat']}-*"))
        found = sum(file.stat().st_size for file in files)
        expected = int(split["numBytes"]) + TFRECORD_FRAMING * sum(shards)
        if len(files) != len(shards) or (info["fileFormat"] == "tfrecord" and found != expected):
            raise DataError(
                f"{folder}: the {split['name']} split should be {len(shards)} file(s) of {expected:,} bytes in all, "
                f"found {len(files)} of {found:,}. The copy or download broke off: fetch it again, or delete the "
                "folder and let `bench prepare` download it."
            )
        sizes.append(found)
    return sum(sizes)
