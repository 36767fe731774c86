"""What a plugin author imports: the descriptions of plugins and the images that a data set hands over.

An architecture is a file with `INFO = Architecture(...)` and `build(input_shape, num_classes, *, ...) -> keras.Model`;
a data set is a file with `INFO = Dataset(...)` and `load(*, ...) -> Splits`. docs/writing-plugins.md tells the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

ImageShape: TypeAlias = tuple[int, int, int]
"""Height, width and channels of a decoded image."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Describes an architecture. Every value must be a literal: `bench list` reads it without importing the file.

    Attributes:
        paper: where the architecture was published (a URL).
        min_size: smallest image height and width in pixels; smaller images give a skipped trial.
        trainable_params: published or derived counts of trainable parameters, held exactly by the tests. A key reads
            `HxWxC/classes` with parameters after a colon: `{"32x32x3/10": 269_722, "32x32x3/10:depth=56": 853_018}`.
        accuracy: accuracies that the paper or its reference code reports, as fractions, by data set, with the recipe
            named in the plugin's docstring.
        recipe: how the paper trains, by the keys of a recipe (docs/recipes.md); it is what `--recipe own` means.
        quick: parameters that make a large architecture small enough for the parts of the tests and of `bench check`
            that train: `{"depth": 10}`. Its parameter counts are held at its real size all the same.
        normalization: what the model takes, whatever the recipe says: `pixels` (0 to 255, for models that scale their
            inputs themselves); empty: what the recipe makes of the pixels.
        argument: the parameter that may follow the name without its key: with `"name"`, `keras:VGG16` means
            `keras:name='VGG16'`.

    """

    paper: str = ""
    min_size: int = 1
    trainable_params: Mapping[str, int] = field(default_factory=dict)
    accuracy: Mapping[str, float] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    normalization: str = ""
    argument: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Describes a data set. Every value must be a literal: `bench list` reads it without importing the file.

    Attributes:
        homepage: where to read about the data set.
        license: the terms of its images, as its source states them.
        download: the URL that is fetched when the data is not on disk; empty for embedded or generated data.
        download_size: how much that is, in words ("163 MB").
        horizontal_flip: whether a mirrored image keeps its label; augmentation flips images only then.
        crop: whether an image keeps its label that is shifted a little, or of which a part is cut out.
        recolor: whether an image keeps its label whose colours or contrast change; else RandAugment leaves them alone.
        cache: whether decoded arrays are kept in the cache folder; False for data that is quick to generate.
        evaluation_only: there is nothing to train on: `load` returns `TestSets`, for `--evaluate-also`.
        argument: the parameter that may follow the name without its key: with `"path"`, `folder:~/cats` means
            `folder:path='~/cats'`.

    """

    homepage: str = ""
    license: str = ""
    download: str = ""
    download_size: str = ""
    horizontal_flip: bool = False
    crop: bool = True
    recolor: bool = True
    cache: bool = True
    evaluation_only: bool = False
    argument: str = ""


class EncodedImages(Protocol):
    """An indexable source of encoded images (JPEG, PNG, ...) that are too large to hold decoded."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int, /) -> bytes:
        """Return the encoded bytes of one image. Called from several threads at once."""
        ...


Progress: TypeAlias = Callable[[str, int, int], None]
"""Takes what is being done, how many are done, and of how many."""

Images: TypeAlias = "npt.NDArray[np.uint8] | EncodedImages"


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: uint8 array N×H×W×C, or an indexable source of encoded images.
        labels: integer array of N class numbers from 0.

    """

    images: Images
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What a data set's `load` returns.

    Attributes:
        train: the training images; a validation split is carved from them where the source has none.
        test: the test images, used once, at the end of a trial.
        validation: the source's own validation images, where it has some.
        class_names: one name a class, in the order of the labels.
        image_shape: shape of a decoded image; may be left out where `images` are arrays. Encoded images are resized to
            it: the shorter side to fit, then the centre is cut out.
        fingerprint: identifies the content. Left out, it is the SHA-256 of all images and labels; a source of encoded
            images must give one of its own, since reading all of it may take hours.
        notes: what was found in the data that a user must know (files left out, duplicates), a sentence each; lines
            after the first hold details. They are kept with the prepared data, and shown each time it is used.

    """

    train: Split
    test: Split
    validation: Split | None = None
    class_names: tuple[str, ...]
    image_shape: ImageShape | None = None
    fingerprint: str = ""
    notes: tuple[str, ...] = ()

    def named(self) -> dict[str, Split]:
        """Return the splits there are, by name."""
        splits = {"train": self.train, "test": self.test, "validation": self.validation}
        return {name: split for name, split in splits.items() if split is not None}


@dataclass(frozen=True, kw_only=True)
class TestSets:
    """What `load` returns for a data set that is only evaluated on: named sets of test images of one size.

    Attributes:
        sets: uint8 arrays with their labels, by a name in which `/` separates what a set is about from its degree:
            `fog/3`.
        class_names: those of the data set that is trained on, in its order.

    """

    __test__ = False  # pytest takes the name for its own

    sets: Mapping[str, Split]
    class_names: tuple[str, ...]
