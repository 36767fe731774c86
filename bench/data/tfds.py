"""Data sets of TensorFlow Datasets, for data set plugins: `version` and a `load` do all that such a plugin needs.

Only `load` and its like import TensorFlow Datasets. Everything else reads the JSON files that TFDS leaves beside its
data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.api import ImageShape, Progress, Split, Splits
from bench.data.jpeg import JpegImages
from bench.data.tfds_files import default_data_dir, find_folder, on_disk, version
from bench.errors import DataError, UsageError

__all__ = [
    "DEFAULT_SIZE",
    "Progress",
    "default_data_dir",
    "downloads",
    "load",
    "load_jpegs",
    "load_test",
    "on_disk",
    "version",
]

DEFAULT_SIZE = 64  # in pixels, of images that differ in size
LARGEST_ARRAYS = 4 * 2**30  # bytes of all images of a data set; more than that stay JPEGs, where they are JPEGs
VALIDATION = ("validation", "val", "valid", "dev")  # what TFDS's data sets call such a split
TEST_SHARE = 0.2  # of the training images, where nothing else is labelled


def downloads(name: str, data_dir: Path, image: str = "image", label: str = "label") -> tuple[str, ...]:
    """Return a URL for each host that an absent data set is fetched from; none where all files are at hand.

    Raises:
        UsageError: TFDS has no such data set.
        DataError: it is no classification set, or a person has to fetch files first.

    """
    from bench.data.tfds_arrays import classified
    from bench.data.tfds_builders import find_builder, require_files

    builder = find_builder(name, data_dir)
    classified(name, builder.info.features, image, label)
    return require_files(builder, name, data_dir)


def load(
    name: str,
    data_dir: Path,
    progress: Progress,
    *,
    size: int = 0,
    train: str = "train",
    test: str = "test",
    validation: str = "",
    image: str = "image",
    label: str = "label",
) -> Splits:
    """Return a data set, which is downloaded and prepared first where it is absent.

    Images of one size stay as they are, unless `size` is given. Images that differ in size are brought to `size`, or
    to 64 pixels: the shorter side to fit, then the centre. They become arrays; where these would take more than 4 GiB
    and TFDS holds JPEGs, these stay in its files, as with `load_jpegs`.

    Args:
        name: `NAME` or `NAME/CONFIG`.
        data_dir: TFDS's data directory.
        progress: is told how far it is.
        size: height and width in pixels; 0 says nothing.
        train: the split of the training images.
        test: the split of the test images. Without one, or where its labels are withheld, the validation split is the
            test set; without that, a stratified fifth of the training images, which never changes. A note says so.
        validation: the split of the validation images; unless given, the one there is.
        image: the feature that holds the images. `/` leads into features of features.
        label: the feature that holds the class: a ClassLabel, or a bool.

    Raises:
        UsageError: TFDS has no such data set, or the size is negative.
        DataError: the download failed, a file cannot be read, or there is no such split or feature.

    """
    import tensorflow_datasets as tfds

    from bench.data.tfds_arrays import classified, is_withheld, read_split, readable

    if size < 0:
        raise UsageError(f"{name}: expected a size of at least 1 pixel, or 0 for images as they are; got {size}.")
    folder = _prepared(name, data_dir, progress)
    with readable(name, folder):
        builder = tfds.builder_from_directory(folder)
        what = classified(name, builder.info.features, image, label)
        counts = {split: info.num_examples for split, info in builder.info.splits.items()}
        withheld = test in counts and is_withheld(builder, test, label)
        roles = _assign(name, counts, train=train, test=test, validation=validation, withheld=withheld)
        shape = _shape(what.shape, size)
        if shape != what.shape and what.indexable and _bytes(roles, counts, shape) > LARGEST_ARRAYS:
            splits, fingerprint = _indexed(folder, roles, what.class_names, progress)
        else:
            read = {role: read_split(builder, split, what, shape, progress) for role, split in roles.splits.items()}
            splits, fingerprint = read, ""
    if "test" not in splits:
        splits |= _carved(name, splits["train"])
    return Splits(
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        class_names=what.class_names,
        image_shape=shape,
        fingerprint=fingerprint,
        notes=roles.notes,
    )


def load_test(name: str, data_dir: Path, progress: Progress, split: str = "test") -> Split:
    """Return one split of a data set as arrays, for data sets that are only evaluated on.

    Raises:
        UsageError, DataError: as `load`.

    """
    import tensorflow_datasets as tfds

    from bench.data.tfds_arrays import classified, read_split, readable

    folder = _prepared(name, data_dir, progress)
    with readable(name, folder):
        builder = tfds.builder_from_directory(folder)
        what = classified(name, builder.info.features, "image", "label")
        _require_split(name, split, builder.info.splits)
        return read_split(builder, split, what, _shape(what.shape, 0), progress)


def load_jpegs(name: str, data_dir: Path, progress: Progress, shape: ImageShape, test: str = "test") -> Splits:
    """Index a data set of JPEGs of any size, which stay in TFDS's files; it is prepared first where it is absent.

    Args:
        name: of the data set.
        data_dir: TFDS's data directory.
        progress: is told how many images are indexed.
        shape: height, width and channels that images are brought to.
        test: which of TFDS's splits holds the test images; the training images are its split `train`.

    Raises:
        DataError: files are missing or damaged.

    """
    folder = _prepared(name, data_dir, progress)
    try:
        class_names = tuple((folder / "label.labels.txt").read_text().split("\n")[:-1])
    except OSError as error:
        raise DataError(f"{name} has no readable class names: {error}. Copy or prepare the data again.") from error
    splits, fingerprint = _indexed(folder, Roles({"train": "train", "test": test}), class_names, progress)
    return Splits(
        train=splits["train"],
        test=splits["test"],
        class_names=class_names,
        image_shape=shape,
        fingerprint=fingerprint,
    )


@dataclass(frozen=True)
class Roles:
    """Which of TFDS's splits is which here: by `train`, `test` and `validation`; and what a user must know of that."""

    splits: Mapping[str, str]
    notes: tuple[str, ...] = ()


def _assign(name: str, counts: Mapping[str, int], *, train: str, test: str, validation: str, withheld: bool) -> Roles:
    """Return which split is which; `withheld`: the labels of the test split are not public."""
    _require_split(name, train, counts)
    own = validation or next((each for each in VALIDATION if each in counts and each not in (train, test)), "")
    splits = {"train": train}
    if own:
        _require_split(name, own, counts)
        splits["validation"] = own
    if test != "test":
        _require_split(name, test, counts)
    if test in counts and not withheld:
        return Roles({**splits, "test": test})
    why = f"the labels of {name}'s split {test} are not public" if withheld else f"{name} has no test split"
    if own:
        return Roles({"train": train, "test": own}, (f"{why}: its split {own} is the test set.",))
    return Roles(splits, (f"{why}: a stratified fifth of its training images, always the same, is the test set.",))


def _require_split(name: str, split: str, available: Mapping[str, Any]) -> None:
    if split not in available:
        raise DataError(f"{name} has no split {split!r}. Available: {', '.join(available)}.")


def _shape(stored: tuple[int | None, int | None, int], size: int) -> ImageShape:
    height, width, channels = stored
    if height is None or width is None or size:
        side = size or DEFAULT_SIZE
        return side, side, channels if channels in (1, 3) else 3
    return height, width, channels


def _bytes(roles: Roles, counts: Mapping[str, int], shape: ImageShape) -> int:
    return sum(counts[split] for split in roles.splits.values()) * shape[0] * shape[1] * shape[2]


def _carved(name: str, train: Split) -> dict[str, Split]:
    """Return what is left of the training images, and a stratified share of them to test on."""
    from sklearn.model_selection import train_test_split

    try:
        parts = train_test_split(np.arange(len(train)), test_size=TEST_SHARE, stratify=train.labels, random_state=0)
    except ValueError as error:
        raise DataError(
            f"{name} has no test split, and none can be carved from its training images: {error}"
        ) from error
    return dict(zip(("train", "test"), (_part(train, np.sort(part)) for part in parts), strict=True))


def _part(split: Split, positions: Any) -> Split:
    images = split.images
    if isinstance(images, JpegImages):
        return Split(JpegImages(images.files, images.index[positions]), split.labels[positions])
    assert isinstance(images, np.ndarray)
    return Split(images[positions], split.labels[positions])


def _indexed(
    folder: Path, roles: Roles, class_names: tuple[str, ...], progress: Progress
) -> tuple[dict[str, Split], str]:
    """Return the splits by an index of their JPEGs, and the fingerprint made of these JPEGs' checksums."""
    digest = hashlib.sha256("\0".join(class_names).encode())
    splits = {}
    for role, split in roles.splits.items():
        images = _index(folder, split, progress)
        digest.update(f"{role} {len(images)}".encode() + images.index["checksum"].tobytes())
        splits[role] = Split(images, images.index["label"].astype(np.int64))
    return splits, digest.hexdigest()


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


def _prepared(name: str, data_dir: Path, progress: Progress) -> Path:
    """Return the folder of a data set, after preparing it where it is absent."""
    folder = find_folder(name, data_dir)
    if folder is None:
        from bench.data.tfds_builders import prepare_folder

        folder = prepare_folder(name, data_dir, progress)
    return folder
