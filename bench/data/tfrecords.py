"""An index of images inside TFRecord files: where each one's bytes lie, its label and its size, from one pass.

A file is a sequence of records: length (8 bytes), its checksum (4), a serialised `tf.train.Example`, its checksum (4).
The pass reads lengths, labels and the images' headers; pixels are not decoded, and nothing is copied. TensorFlow is not
needed.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ContainerIO import ContainerIO

from bench.data.decoding import upright
from bench.errors import DataError

RECORD = np.dtype(
    [
        ("file", "<i4"),  # its number in the list of files
        ("offset", "<i8"),  # of the image's bytes in the file
        ("length", "<i4"),  # of the image in bytes
        ("label", "<i4"),
        ("height", "<i4"),  # in pixels, upright
        ("width", "<i4"),
        ("plain", "?"),  # a grey or RGB JPEG that is stored upright; anything else is left to Pillow
        ("checksum", "<u4"),  # of the record, as its writer left it
    ]
)
HEAD, TAIL = 12, 4  # bytes before and after each record's content
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
REPORT_EVERY = 1_000
Index: TypeAlias = npt.NDArray[np.void]
"""One `RECORD` an image, in the order of the files."""


def index_files(files: Sequence[Path], counts: Sequence[int], progress: Callable[[int], None]) -> Index:
    """Return an array of `RECORD`, one an image, in the order of the files.

    Args:
        files: TFRecord files of examples with the features `image` (encoded) and `label`.
        counts: how many records each of them should hold.
        progress: called with the number of images that are indexed.

    Raises:
        DataError: a file is absent, damaged or holds another number of records, or an image has no readable header.

    """
    index = np.empty(sum(counts), RECORD)
    done = 0
    for number, (path, count) in enumerate(zip(files, counts, strict=True)):
        found = 0
        for values in _read_file(path):
            if found < count:
                index[done + found] = (number, *values)
            found += 1
            if (done + found) % REPORT_EVERY == 0:
                progress(done + found)
        if found != count:
            raise _damaged(path, f"expected {count:,} records, found {found:,}")
        done += count
    progress(done)
    return index


def _read_file(path: Path) -> Iterator[tuple[int | bool, ...]]:
    """Yield each record's values of `RECORD`, without the first."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield from _read_records(path, content)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise _damaged(path, str(error)) from error


def _read_records(path: Path, content: mmap.mmap) -> Iterator[tuple[int | bool, ...]]:
    start, number = 0, 0
    while start < len(content):
        stop = start + HEAD + int.from_bytes(content[start : start + 8], "little")
        where = f"record {number}"
        if stop + TAIL > len(content):
            raise _damaged(path, f"{where} reaches beyond the file's end")
        try:
            features = _features(content, start + HEAD, stop)
            (offset, end), label = features["image"], _integer(content, *features["label"])
        except (KeyError, ValueError, IndexError) as error:
            raise _damaged(path, f"{where} is no example with an image and a label ({error!r})") from error
        height, width, plain = _measure(path, where, content, offset, end - offset)
        checksum = int.from_bytes(content[stop : stop + TAIL], "little")
        yield offset, end - offset, label, height, width, plain, checksum
        start, number = stop + TAIL, number + 1


def _measure(path: Path, where: str, content: mmap.mmap, offset: int, length: int) -> tuple[int, int, bool]:
    """Return height, width and whether the image is plain, from its header alone where it is."""
    try:
        with Image.open(ContainerIO(cast(IO[bytes], content), offset, length)) as image:
            turned = "exif" in image.info and image.getexif().get(ORIENTATION, 1) != 1
            if image.format == "JPEG" and image.mode in ("L", "RGB") and not turned:
                return image.height, image.width, True
        decoded = upright(content[offset : offset + length], 3)
    except (OSError, SyntaxError) as error:  # Pillow raises the latter for some damaged headers
        raise _damaged(path, f"the image of {where} cannot be read ({error})") from error
    return decoded.height, decoded.width, False


def _features(content: mmap.mmap, start: int, stop: int) -> Mapping[str, list[int]]:
    """Return where each feature's first value lies in a serialised `tf.train.Example`.

    In protocol buffers' encoding: Example holds Features (field 1), that a map entry each (1) of a name (1) and a
    Feature (2); a Feature holds a list of bytes (1), floats (2) or integers (3), and the list its values (1).
    """
    found = {}
    ((_, *features),) = _fields(content, start, stop)
    for _, *entry in _fields(content, *features):
        (_, *name), (_, *feature) = sorted(_fields(content, *entry))
        ((_, *values),) = _fields(content, *feature)
        (_, *first), *_ = _fields(content, *values)
        found[content[slice(*name)].decode()] = first
    return found


def _fields(content: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, begin and end of each field of a message; all those of an Example are of the kind with a length."""
    while start < stop:
        key, start = _varint(content, start)
        length, start = _varint(content, start)
        if key & 7 != 2 or start + length > stop:
            raise ValueError("its fields do not fit together")
        yield key >> 3, start, start + length
        start += length


def _integer(content: mmap.mmap, start: int, stop: int) -> int:
    value, end = _varint(content, start)
    if end > stop or value > np.iinfo(np.int32).max:
        raise ValueError("its label is no class number")
    return value


def _varint(content: mmap.mmap, start: int) -> tuple[int, int]:
    """Return a variable-length integer and where it ends: seven bits a byte, the lowest first."""
    value = shift = 0
    while True:
        byte = content[start]
        value |= (byte & 127) << shift
        start, shift = start + 1, shift + 7
        if byte < 128:
            return value, start


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is damaged: {reason}. Copy or prepare the data again.")
