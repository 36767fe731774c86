"""What image files hold: their pixels, all brought to one size, and a hash of each file.

Files are decoded in threads into a file that has no name, so nothing is left behind whatever happens to the process.
Memory holds some 40 bytes a file, and the images that are being decoded.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import warnings
from array import array
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.api import Progress
from bench.data.cache import default_cache_dir
from bench.data.decoding import BACKGROUND, PIL_MODES, plain
from bench.data.listing import FORMATS, ClassFolder, class_folders, image_files, shown

if TYPE_CHECKING:
    from PIL.Image import Image

PART_NAMES = ("train", "test", "validation")
PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
LISTED = 100  # files of one kind that are named
CHUNK = 1_024
LARGE_PIXELS = 16_000_000  # larger images are decoded one at a time, so that memory stays bounded
_large = threading.Lock()


def scratch_file() -> IO[bytes]:
    """Return an empty file without a name, on the disk of the cache: the system's own temporary files may be memory."""
    folder = default_cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


class Names:
    """The names of many files, kept on the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = scratch_file()
        self.ends = array("q", [0])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def append(self, path: str) -> None:
        """Add the path of a file below the root."""
        name = os.fsencode(os.path.relpath(path, self.root))
        self.file.write(name)
        self.ends.append(self.ends[-1] + len(name))

    def relative(self, row: int) -> str:
        """Return a file's path below the root, as the system has it."""
        start, end = self.ends[row : row + 2]
        return os.fsdecode(os.pread(self.file.fileno(), end - start, start))

    def shown(self, row: int) -> str:
        """Return a file's path below the root, for people."""
        return shown(self.relative(row))


@dataclass(frozen=True)
class Files:
    """The files of a folder, a row each.

    Attributes:
        names: their paths.
        parts: positions in `PART_NAMES`, uint8 (files,).
        labels: positions in `classes`, int32 (files,).
        classes: the names of all classes, those without images included.
        has_parts: which parts have a folder; none where the classes lie side by side.
        ignored: how many files were passed over, by the endings of their names.

    """

    names: Names
    parts: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    classes: tuple[str, ...]
    has_parts: frozenset[str]
    ignored: Counter[str]

    def __len__(self) -> int:
        return len(self.parts)


@dataclass(frozen=True)
class Contents:
    """What the files hold, in their order.

    Attributes:
        digests: the first 128 bits of each file's SHA-256, uint64 (files, 2).
        readable: which files are images, bool (files,).
        pixels: uint8 (files, size, size, channels), undefined where a file is not readable.
        errors: why files are not readable, by row; the first `LISTED` of them.
        grey: whether no image has any colour.

    """

    digests: npt.NDArray[np.uint64]
    readable: npt.NDArray[np.bool_]
    pixels: npt.NDArray[np.uint8]
    errors: dict[int, str]
    grey: bool


@dataclass(frozen=True)
class Format:
    """What images are brought to: `size` pixels square, by `resize` (fit, stretch or pad), of 1 or 3 channels."""

    size: int
    channels: int
    resize: str


def list_files(root: Path) -> Files:
    """Return the images of a folder by their names, without opening them.

    Raises:
        DataError: there are no classes, or a folder cannot be read.

    """
    ignored: Counter[str] = Counter()
    folders = class_folders(root, ignored)
    classes = tuple(sorted({folder.name for folder in folders}))
    number = {name: index for index, name in enumerate(classes)}
    names, parts, labels = Names(root), array("B"), array("i")
    for image in image_files(folders, ignored):
        names.append(image.entry.path)
        parts.append(PART_NAMES.index(image.folder.part or "train"))
        labels.append(number[image.folder.name])
    names.file.flush()
    return Files(
        names=names,
        parts=np.array(parts, np.uint8),
        labels=np.array(labels, np.int32),
        classes=classes,
        has_parts=_parts_of(folders),
        ignored=ignored,
    )


def read_files(files: Files, form: Format, progress: Progress) -> Contents:
    """Decode all files, in threads.

    Raises:
        OSError: the disk is full.

    """
    from PIL import Image

    Image.init()  # not in several threads at once
    rows, shape = len(files), (form.size, form.size, form.channels)
    digests = np.zeros((rows, 2), np.uint64)
    readable = np.zeros(rows, np.bool_)
    errors: dict[int, str] = {}
    grey = True
    with scratch_file() as staged, ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow: an odd tag in a file is no finding
        os.truncate(staged.fileno(), rows * form.size**2 * form.channels)
        stage = partial(_stage, files.names, form, staged.fileno())
        for chunk in _chunks(rows):
            for row, found in zip(chunk, pool.map(stage, chunk), strict=True):
                if isinstance(found, str):
                    errors |= {row: found} if len(errors) < LISTED else {}
                    continue
                digests[row] = np.frombuffer(found.digest, ">u8")
                readable[row] = True
                grey &= found.grey
            progress(f"reading {shown(files.names.root.name)}", chunk.stop, rows)
        pixels = np.memmap(staged, np.uint8, "r", shape=(rows, *shape))
    return Contents(digests, readable, pixels, errors, grey)


@dataclass(frozen=True)
class _Found:
    digest: bytes
    grey: bool


def _stage(names: Names, form: Format, staged: int, row: int) -> _Found | str:
    """Write one image's pixels to its place in the staging file; return its hash, or why it cannot be read."""
    try:
        with (names.root / names.relative(row)).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()[:16]
            pixels = _decode(file, form)
    except Exception as error:  # Pillow raises dozens of kinds; all of them mean that this is no image
        return _reason(error)
    os.pwrite(staged, pixels.tobytes(), row * pixels.nbytes)
    return _Found(digest, form.channels == 1 or bool((pixels == pixels[..., :1]).all()))


def _decode(file: IO[bytes], form: Format) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if not file.seek(0, os.SEEK_END):
        raise ValueError("empty file")
    file.seek(0)
    with Image.open(file, formats=PILLOW_FORMATS) as image:
        count = image.width * image.height
        if Image.MAX_IMAGE_PIXELS and count > Image.MAX_IMAGE_PIXELS:
            raise ValueError(f"{image.width}×{image.height} pixels; the limit is {Image.MAX_IMAGE_PIXELS:,} in all")
        alone: AbstractContextManager[object] = _large if count > LARGE_PIXELS else nullcontext()
        with alone:
            image.draft(None, (2 * form.size, 2 * form.size))  # of JPEG: decoded at 1/2, 1/4 or 1/8, but no smaller
            square = _resized(plain(image, form.channels), form)
        return np.asarray(square, np.uint8).reshape(form.size, form.size, form.channels)


def _resized(image: Image, form: Format) -> Image:
    """Return the image as a square. Pillow's bilinear filter covers all pixels when it shrinks: it is antialiased."""
    from PIL import Image, ImageOps

    square, filter_ = (form.size, form.size), Image.Resampling.BILINEAR
    if form.resize == "fit":
        return ImageOps.fit(image, square, filter_)
    if form.resize == "stretch":
        return image.resize(square, filter_)
    scale = form.size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new(PIL_MODES[form.channels], square, BACKGROUND)
    canvas.paste(image.resize((width, height), filter_), ((form.size - width) // 2, (form.size - height) // 2))
    return canvas


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"none of {FORMATS}"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _parts_of(folders: list[ClassFolder]) -> frozenset[str]:
    return frozenset(folder.part for folder in folders if folder.part)


def _chunks(rows: int) -> Iterator[range]:
    return (range(start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK))
