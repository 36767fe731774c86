"""The contract of data sets: what `load` hands over, that it does so again, and that no test image is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bench.api import Dataset, Split, Splits, TestSets
from bench.contract.descriptions import check_description
from bench.contract.findings import Finding, Found, Result, run_check
from bench.data.cache import DataSource, Prepared, open_splits, open_test_sets, prepare
from bench.data.images import fingerprint, gather, parts_of

LOOKED_AT = 10  # images of a split that are decoded
LEAST_CONTRAST = 0.005  # standard deviation of a channel, of a range of 1


def check_dataset(source: DataSource, started: Callable[[str], None] = lambda _: None) -> Iterator[Result]:
    """Yield the result of each check of a data set, in order; those that need its images come after loading them.

    Args:
        source: the data set, with its parameters and folders. It is prepared in the cache.
        started: is told the name of each check before it begins.

    """
    plugin = source.choice.plugin
    started("description")
    described = check_description(plugin)
    yield described
    if plugin.error or described.findings:
        return
    subject = Subject(source)
    for name, check in CHECKS.items():
        started(name)
        result = run_check(name, check, subject, plugin.path)
        yield result
        if name == "loading" and result.findings:
            return


class Subject:
    """A data set under examination, prepared and opened once."""

    def __init__(self, source: DataSource) -> None:
        self.source = source
        self.info: Dataset = source.choice.plugin.info

    @cached_property
    def prepared(self) -> Prepared:
        """Its description, in the cache."""
        return prepare(self.source, lambda *_: None)

    @cached_property
    def opened(self) -> Splits | TestSets:
        """Its images."""
        opens = open_test_sets if self.info.evaluation_only else open_splits
        return opens(self.source, self.prepared)

    @property
    def parts(self) -> Mapping[str, Split]:
        """Its splits or sets, by name."""
        return parts_of(self.opened)

    @property
    def is_decoded(self) -> bool:
        """Whether all images are arrays."""
        return all(isinstance(part.images, np.ndarray) for part in self.parts.values())


def _loading(subject: Subject) -> Found:
    counts = ", ".join(f"{len(part):,} {name}" for name, part in subject.parts.items())
    info = subject.prepared.info
    yield f"{counts} images of {'x'.join(map(str, info.image_shape))}, {len(info.class_names)} classes"
    yield from (note.partition("\n")[0] for note in info.notes)


def _images(subject: Subject) -> Found:
    shape = subject.prepared.info.image_shape
    for name, part in subject.parts.items():
        some = gather(part.images, np.linspace(0, len(part) - 1, LOOKED_AT).astype(np.int64), shape)
        if some.dtype != np.uint8 or some.shape[1:] != shape:
            yield Finding(f"{name}: expected uint8 images of {shape}, got {some.dtype} of {some.shape[1:]}.")
        if len(part) > 1 and (some == some[0]).all():
            yield Finding(f"{name}: {LOOKED_AT} images from its start to its end are all the same.")


def _classes(subject: Subject) -> Found:
    names = subject.prepared.info.class_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield Finding(f"class_names has {', '.join(map(repr, twice))} more than once.", "Give each class its own name.")
    for name, part in subject.parts.items():
        empty = [names[label] for label in sorted(set(range(len(names))) - set(np.unique(part.labels).tolist()))]
        if empty:
            yield Finding(
                f"{name} has no image of {len(empty)} of {len(names)} classes: {', '.join(empty[:5])}.",
                "Its score would say nothing of them: divide the images by class, or leave the classes away.",
            )


def _same_again(subject: Subject) -> Found:
    if not subject.is_decoded:
        yield "encoded images have a fingerprint of their own"
        return
    expected = subject.prepared.info.fingerprint
    given = isinstance(subject.opened, Splits) and subject.opened.fingerprint not in ("", expected)
    again = subject.opened if subject.info.download else subject.source.load(lambda *_: None)
    if not given and getattr(again, "fingerprint", "") in ("", expected) and fingerprint(again) != expected:
        yield Finding(
            "loading it twice gives two contents.",
            "Draw from generators with a fixed seed, and sort what a folder lists.",
        )


def _statistics(subject: Subject) -> Found:
    if not isinstance(subject.opened, Splits):
        yield "nothing is trained on"
        return
    info, images = subject.prepared.info, subject.opened.train.images
    if isinstance(images, np.ndarray):
        exact = [_mean_and_std(images[..., channel]) for channel in range(images.shape[3])]
        if not np.allclose(exact, list(zip(info.channel_mean, info.channel_std, strict=True)), rtol=1e-4):
            yield Finding(
                f"mean and deviation of each channel are {exact}, the cache says otherwise.",
                f"Delete {subject.prepared.entry}.",
            )
    else:
        yield "of a sample"
    if min(info.channel_std) < LEAST_CONTRAST:
        yield Finding("the training images have a channel without contrast.", "Pixels go from 0 to 255, not to 1.")


def _mean_and_std(pixels: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Return mean and standard deviation of pixels / 255, exactly: from how often each value occurs."""
    counts = np.sum([np.bincount(some.ravel(), minlength=256) for some in _batches(pixels)], axis=0)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum()
    return float(mean), float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum()))


def _batches(images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the images some at a time: counting values makes eight bytes of each."""
    return (images[start : start + 1_000] for start in range(0, len(images), 1_000))


def _leaks(subject: Subject) -> Found:
    if not isinstance(subject.opened, Splits) or not subject.is_decoded:
        yield "not looked for"
        return
    train = set(map(_digest, np.asarray(subject.opened.train.images)))
    shared = sum(_digest(image) in train for image in np.asarray(subject.opened.test.images))
    if shared and subject.info.download:  # some famous sets have a few: that is their source's business
        yield f"{shared:,} of {len(subject.opened.test):,} test images are training images too, as downloaded"
    elif shared:
        yield Finding(
            f"{shared:,} of {len(subject.opened.test):,} test images are training images too.",
            "Remove duplicates before the images are divided.",
        )


def _digest(image: npt.NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


CHECKS: Mapping[str, Callable[[Subject], Found]] = {
    "loading": _loading,
    "images": _images,
    "classes": _classes,
    "same again": _same_again,
    "channel statistics": _statistics,
    "test images apart": _leaks,
}
