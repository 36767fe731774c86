"""Reads data sets that TensorFlow Datasets has written: which features hold images and classes, and their arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.api import ImageShape, Progress, Split
from bench.data.images import decode
from bench.errors import BenchError, DataError

READ_BATCH = 500
PROBED = 100  # labels that tell whether a split's are withheld
JPEGS = ("jpeg", None)  # an image feature's format: JPEG, or as it was in its source, nearly always JPEG too


@dataclass(frozen=True)
class Classified:
    """The features of a data set that hold an image and its class.

    Attributes:
        image: the image's name; `/` leads into a feature that has features: `pair/left`.
        label: likewise, of a class (a `ClassLabel`), or of something that is so or not (a bool).
        shape: height, width and channels; the first two are None where images differ in size.
        class_names: one a class.
        indexable: whether `tfrecords.index_files` can read it as it is.

    """

    image: str
    label: str
    shape: tuple[int | None, int | None, int]
    class_names: tuple[str, ...]
    indexable: bool


def classified(name: str, features: Any, image: str, label: str) -> Classified:
    """Return what the data set's features say of those two.

    Raises:
        DataError: they are not an image and a class; says which features are.

    """
    import tensorflow_datasets as tfds

    kinds = dict(_leaves(features))
    pixels, classes = kinds.get(image), kinds.get(label)
    names = _class_names(classes, label)
    if not isinstance(pixels, tfds.features.Image) or pixels.np_dtype != np.uint8 or len(names) < 2:
        images = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.Image)]
        labels = [key for key, kind in kinds.items() if len(_class_names(kind, key)) > 1]
        raise DataError(
            f"{name} is no classification set by its features {image!r} (expected 8-bit images) and {label!r} "
            f"(expected a class). It has images in: {', '.join(images) or 'none'}; classes in: "
            f"{', '.join(labels) or 'none'}; features in all: {', '.join(kinds)}. Name others with "
            "image='...' and label='...', or choose another data set."
        )
    height, width, channels = pixels.shape
    indexable = (image, label) == ("image", "label") and pixels.encoding_format in JPEGS and _is_class(classes)
    return Classified(image, label, (height, width, channels or 3), names, indexable)


@contextmanager
def readable(name: str, folder: Path) -> Iterator[None]:
    """Turn what TFDS and TensorFlow raise, dozens of kinds, into one error: there is no data.

    Raises:
        DataError: anything was raised within that is not an error of this package.

    """
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        raise DataError(f"{name} cannot be read from {folder}: {type(error).__name__}: {error}") from error


def is_withheld(builder: Any, split: str, label: str) -> bool:
    """Return whether a split's labels are not public: TFDS then writes -1 for all of them."""
    probed = min(PROBED, builder.info.splits[split].num_examples)
    batches = _dataset(builder, f"{split}[:{probed}]", {"label": label}, {})
    return bool(np.all(np.concatenate([_at(batch, label).numpy() for batch in batches]) < 0))


def read_split(builder: Any, split: str, what: Classified, shape: ImageShape, progress: Progress) -> Split:
    """Return a split as arrays; images of another shape are brought to this one, as `bench.data.images.decode` does.

    Raises:
        DataError: the files hold another number of images than TFDS noted.

    """
    total = builder.info.splits[split].num_examples
    images: npt.NDArray[np.uint8] = np.empty((total, *shape), np.uint8)
    labels = np.empty(total, np.int64)
    done, encoded = 0, shape != what.shape
    skipped = {what.image: True} if encoded else {}
    with ThreadPoolExecutor() as threads:
        for batch in _dataset(builder, split, {"image": what.image, "label": what.label}, skipped):
            pixels, numbers = _at(batch, what.image).numpy(), _at(batch, what.label).numpy()
            part = slice(done, done + len(numbers))
            images[part] = list(threads.map(partial(decode, shape=shape), pixels)) if encoded else pixels
            labels[part] = numbers
            done += len(numbers)
            progress(f"decoding {builder.info.name} {split}", done, total)
    if done != total:
        raise DataError(f"{builder.info.name} {split}: expected {total} images, found {done}. Prepare it again.")
    return Split(images, labels)


def _dataset(builder: Any, split: str, wanted: Mapping[str, str], skipped: Mapping[str, bool]) -> Any:
    """Return batches of the wanted features alone, without decoding those to be skipped."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    spec: dict[str, Any] = {}
    decoders: dict[str, Any] = {}
    for path in wanted.values():
        _put(spec, features, path, True)
    for path in skipped:
        _put(decoders, features, path, tfds.decode.SkipDecoding())
    partial_decoding = tfds.decode.PartialDecoding(spec, decoders=decoders or None)
    return builder.as_dataset(split=split, shuffle_files=False, batch_size=READ_BATCH, decoders=partial_decoding)


def _leaves(features: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each feature by its path."""
    import tensorflow_datasets as tfds

    for key, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _leaves(feature, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", feature


def _class_names(feature: Any, path: str) -> tuple[str, ...]:
    """Return the classes that a feature tells apart; none where it is no class."""
    import tensorflow_datasets as tfds

    if _is_class(feature):
        return tuple(feature.names or ())
    if isinstance(feature, tfds.features.Tensor) and feature.shape == () and feature.np_dtype == np.bool_:
        leaf = path.rpartition("/")[2]
        return f"not {leaf}", leaf
    return ()


def _is_class(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.ClassLabel)


def _at(tree: Any, path: str) -> Any:
    """Return what lies at a path; a key of its own may hold a `/`."""
    if path in tree:
        return tree[path]
    head, _, rest = path.partition("/")
    return _at(tree[head], rest)


def _put(tree: dict[str, Any], features: Any, path: str, value: Any) -> None:
    """Put a value where a path leads to in the features."""
    if path in features:
        tree[path] = value
        return
    head, _, rest = path.partition("/")
    _put(tree.setdefault(head, {}), features[head], rest, value)
