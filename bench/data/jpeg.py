"""Images stored as JPEGs of any size in TFRecord files, and the views of them that training and evaluation see.

A view is a box of the source, later brought to the data set's size, and whether it is mirrored. Views are drawn from
the sizes in the index, so drawing them decodes nothing; `bench.data.views` makes their pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.api import ImageShape
from bench.errors import DataError

if TYPE_CHECKING:
    from bench.data.tfrecords import Index

LEAST_AREA = 0.08  # of random crops, as a share of the image
GREATEST_RATIO = 4 / 3  # of a crop's longer side to its shorter one
ATTEMPTS = 10
CENTRE = 0.875  # share of the shorter side that evaluation sees: 224 of 256 pixels


@dataclass(frozen=True, eq=False)
class JpegImages:
    """A split's encoded images (`bench.api.EncodedImages`), read where TFDS wrote them.

    Attributes:
        files: the TFRecord files.
        index: where each image lies in them.

    """

    files: Sequence[Path]
    index: Index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int, /) -> bytes:
        """Return the encoded bytes of one image.

        A file is opened for each image: ImageNet has more files than a process may hold open, and opening one costs
        microseconds where decoding costs a millisecond.

        Raises:
            DataError: the file cannot be read, or ends before the image does.

        """
        record = self.index[position]
        try:
            with self.files[record["file"]].open("rb", buffering=0) as file:
                encoded = os.pread(file.fileno(), int(record["length"]), int(record["offset"]))
        except OSError as error:
            raise self.damaged(position, str(error)) from error
        if len(encoded) < record["length"]:
            raise self.damaged(position, "the file has become shorter")
        return encoded

    def sizes(self, positions: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Return the images' heights and widths in pixels, of shape (len(positions), 2)."""
        chosen = self.index[positions]
        return np.stack([chosen["height"], chosen["width"]], axis=1).astype(np.int64)

    def damaged(self, position: int, reason: str) -> DataError:
        """Return the error that names an image's file and its record there, counted from 0."""
        file = self.index["file"]
        number = position - int(np.searchsorted(file, file[position]))
        return DataError(
            f"{self.files[file[position]]}, record {number}: the image cannot be read ({reason}). Copy or prepare the "
            "data again."
        )

    def save(self, folder: Path, name: str, data_dir: Path) -> None:
        """Write the index to a cache entry: two small files. The images stay where they are, relative to `data_dir`."""
        np.save(folder / f"{name}_records.npy", self.index)
        files = {os.path.relpath(path, data_dir): path.stat().st_size for path in self.files}
        (folder / f"{name}_files.json").write_text(json.dumps(files, indent=1))


def is_saved(folder: Path, name: str) -> bool:
    """Return whether a cache entry holds an index of that split, rather than arrays of pixels."""
    return (folder / f"{name}_records.npy").exists()


def reopen(folder: Path, name: str, data_dir: Path) -> JpegImages:
    """Return what `JpegImages.save` wrote.

    Raises:
        DataError: a TFRecord file is gone, or has another size than when it was indexed.

    """
    sizes: dict[str, int] = json.loads((folder / f"{name}_files.json").read_text())
    for relative, size in sizes.items():
        path = data_dir / relative
        found = path.stat().st_size if path.exists() else "none"
        if found != size:
            raise DataError(
                f"{path} is not the file that was indexed: expected {size:,} bytes, found {found}. Copy or prepare "
                f"the data again; if it was meant to change, delete {folder}."
            )
    index = np.load(folder / f"{name}_records.npy", mmap_mode="r")
    return JpegImages([data_dir / relative for relative in sizes], index)


@dataclass(frozen=True)
class Views:
    """Which part of which images a batch of n shows.

    Attributes:
        positions: integers (n,), of the images in their split.
        boxes: int64 (n, 4), top, left, height and width in pixels of the source.
        flipped: bool (n,), whether the view is mirrored.

    """

    positions: npt.NDArray[np.integer]
    boxes: npt.NDArray[np.int64]
    flipped: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.positions)

    def parts(self, size: int) -> Iterator[Views]:
        """Yield the views in order, `size` at a time."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield Views(self.positions[part], self.boxes[part], self.flipped[part])


def draw_boxes(
    images: JpegImages,
    positions: npt.NDArray[np.integer],
    shape: ImageShape,
    random: np.random.Generator,
    least_area: float,
) -> npt.NDArray[np.int64]:
    """Draw which part of these images training sees: a random one of at least that share of the area; 0: the centre."""
    sizes = images.sizes(positions)
    return random_boxes(sizes, random, least_area) if least_area else centre_boxes(sizes, shape)


def centre_views(images: JpegImages, positions: npt.NDArray[np.integer], shape: ImageShape) -> Views:
    """Return how evaluation sees these images."""
    return Views(positions, centre_boxes(images.sizes(positions), shape), np.zeros(len(positions), np.bool_))


def random_boxes(
    sizes: npt.NDArray[np.int64], random: np.random.Generator, least_area: float = LEAST_AREA
) -> npt.NDArray[np.int64]:
    """Draw a random part of each image: 8 to 100 % of its area, 3:4 to 4:3 in shape, anywhere (Szegedy et al. 2015).

    The area is drawn uniformly and the logarithm of the ratio too, ten times at most until the box fits into the image,
    as torchvision's `RandomResizedCrop` does; the box is then as much of the centre as the ratios allow.

    Args:
        sizes: heights and widths, (n, 2).
        random: draws 22 numbers an image, however many of them are needed.
        least_area: another share of the area than 8 %.

    """
    count, limit = len(sizes), np.log(GREATEST_RATIO)
    area = sizes.prod(axis=1) * random.uniform(least_area, 1, (ATTEMPTS, count))
    ratio = np.exp(random.uniform(-limit, limit, (ATTEMPTS, count)))
    drawn = np.rint(np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)], axis=-1)).astype(np.int64)
    fits = ((drawn > 0) & (drawn <= sizes)).all(axis=-1)
    chosen = drawn[fits.argmax(axis=0), np.arange(count)]
    corner = np.floor(random.random((count, 2)) * (sizes - chosen + 1)).astype(np.int64)
    boxes = np.concatenate([corner, chosen], axis=1)
    longest = np.rint(sizes.min(axis=1, keepdims=True) * GREATEST_RATIO).astype(np.int64)
    return np.where(fits.any(axis=0)[:, None], boxes, _centred(sizes, np.minimum(sizes, longest)))


def centre_boxes(sizes: npt.NDArray[np.int64], shape: ImageShape) -> npt.NDArray[np.int64]:
    """Return the centre of each image, in the shape's proportions: 87.5 % of the largest such box.

    It is what is left when the shorter side is resized to 256 and 224 pixels are cut out of the middle (Krizhevsky et
    al. 2012, and the evaluation of most published figures since), for any size.

    """
    target = np.array(shape[:2])
    scale = CENTRE * (sizes / target).min(axis=1, keepdims=True)
    return _centred(sizes, np.clip(np.rint(target * scale).astype(np.int64), 1, sizes))


def _centred(sizes: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([(sizes - chosen) // 2, chosen], axis=1)
