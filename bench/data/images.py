"""Images as data sets hand them over: checks, decoding, channel statistics and the fingerprint of their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt

from bench.api import Images, ImageShape, Split, Splits, TestSets
from bench.data.decoding import PIL_MODES, upright
from bench.data.jpeg import JpegImages
from bench.data.views import centre_batches
from bench.errors import DataError, PluginError

CHUNK = 2_000
STATISTICS_SAMPLE = 1_000  # of encoded images, evenly spaced


def check_splits(splits: object, owner: str) -> None:
    """Hold what a plugin's `load` returned against the interface.

    Raises:
        PluginError: saying what was expected and what came.

    """
    if not isinstance(splits, Splits):
        raise PluginError(f"data set {owner}: `load` must return bench.api.Splits, got {type(splits).__name__}.")
    _check_class_names(splits.class_names, owner)
    for name, split in splits.named().items():
        where = f"data set {owner}, split {name}"
        _check_split(split, len(splits.class_names), where)
        if isinstance(split.images, np.ndarray):
            _check_array(splits, split.images, where)
        else:
            _check_encoded(splits, where)


def check_test_sets(test_sets: object, owner: str) -> None:
    """Hold what `load` of a data set returned that is only evaluated on against the interface.

    Raises:
        PluginError: saying what was expected and what came.

    """
    if not isinstance(test_sets, TestSets):
        raise PluginError(
            f"data set {owner} is evaluation_only: `load` must return bench.api.TestSets, got "
            f"{type(test_sets).__name__}."
        )
    _check_class_names(test_sets.class_names, owner)
    if not test_sets.sets:
        raise PluginError(f"data set {owner}: expected at least one set of test images, got none.")
    for name, split in test_sets.sets.items():
        where = f"data set {owner}, set {name}"
        _check_split(split, len(test_sets.class_names), where)
        _check_array(test_sets, split.images, where)


def _check_class_names(class_names: tuple[str, ...], owner: str) -> None:
    if not all(isinstance(name, str) for name in class_names):
        raise PluginError(f"data set {owner}: class_names must be strings, got {class_names!r}.")
    if len(class_names) < 2:
        raise PluginError(f"data set {owner}: expected at least two class_names, got {len(class_names)}.")


def _check_split(split: object, classes: int, where: str) -> None:
    if not isinstance(split, Split):
        raise PluginError(f"{where}: expected bench.api.Split, got {type(split).__name__}.")
    labels = split.labels
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise PluginError(f"{where}: labels must be a one-dimensional integer array.")
    if not len(labels) or len(labels) != len(split.images):
        raise PluginError(f"{where}: expected one label an image, got {len(labels)} for {len(split.images)}.")
    if labels.min() < 0 or labels.max() >= classes:
        raise PluginError(f"{where}: labels must be 0 to {classes - 1}, got {labels.min()} to {labels.max()}.")


def _check_array(loaded: Splits | TestSets, images: Images, where: str) -> None:
    found = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        raise PluginError(f"{where}: images must be uint8 N×H×W×C, got {found}.")
    if images.shape[1:] != image_shape(loaded):
        raise PluginError(f"{where}: images are {images.shape[1:]}, expected {image_shape(loaded)}.")


def _check_encoded(splits: Splits, where: str) -> None:
    if not splits.fingerprint or splits.image_shape is None or splits.image_shape[2] not in PIL_MODES:
        raise PluginError(f"{where}: encoded images need a fingerprint, and an image_shape of 1 or 3 channels.")


def parts_of(loaded: Splits | TestSets) -> Mapping[str, Split]:
    """Return what a data set's `load` handed over, by name."""
    return loaded.named() if isinstance(loaded, Splits) else loaded.sets


def image_shape(loaded: Splits | TestSets) -> ImageShape:
    """Return height, width and channels of the decoded images."""
    if isinstance(loaded, Splits) and loaded.image_shape is not None:
        return loaded.image_shape
    images = next(iter(parts_of(loaded).values())).images
    assert isinstance(images, np.ndarray)
    height, width, channels = images.shape[1:]
    return height, width, channels


def gather(images: Images, indices: npt.NDArray[np.int64], shape: ImageShape) -> npt.NDArray[np.uint8]:
    """Return the images at those positions, decoded: uint8 of shape (len(indices), *shape)."""
    if isinstance(images, np.ndarray):
        return np.asarray(images[indices])
    if isinstance(images, JpegImages):
        return next(centre_batches(images, indices, len(indices), shape))
    decoded = _decoders().map(lambda index: decode(images[int(index)], shape), indices)
    return np.stack(list(decoded))


def decode(encoded: bytes, shape: ImageShape) -> npt.NDArray[np.uint8]:
    """Decode one image and bring it to the shape: the shorter side to fit, bilinear, then the centre cut out.

    Raises:
        DataError: the bytes are not an image.

    """
    from PIL import Image, ImageOps

    height, width, channels = shape
    try:
        image = upright(encoded, channels)
    except OSError as error:
        raise DataError(f"an image of {len(encoded)} bytes cannot be decoded: {error}") from error
    fitted = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(fitted, np.uint8).reshape(shape)


def statistics(images: Images, shape: ImageShape) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation, of pixel values / 255."""
    step = 1 if isinstance(images, np.ndarray) else max(1, len(images) // STATISTICS_SAMPLE)
    indices = np.arange(0, len(images), step)
    total, squares = np.zeros(shape[2]), np.zeros(shape[2])
    for start in range(0, len(indices), CHUNK):
        values = gather(images, indices[start : start + CHUNK], shape).reshape(-1, shape[2]).astype(np.float32) / 255
        total += values.sum(axis=0, dtype=np.float64)
        squares += np.square(values).sum(axis=0, dtype=np.float64)
    pixels = len(indices) * shape[0] * shape[1]
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1e-12))
    return tuple(mean.tolist()), tuple(std.tolist())


def fingerprint(loaded: Splits | TestSets) -> str:
    """Return the SHA-256 of all images, labels and class names."""
    digest = hashlib.sha256("\0".join(loaded.class_names).encode())
    for name, split in parts_of(loaded).items():
        assert isinstance(split.images, np.ndarray)
        digest.update(f"{name} {split.images.shape}".encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(split.labels.astype("<i8").tobytes())
    return digest.hexdigest()


@cache
def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())
