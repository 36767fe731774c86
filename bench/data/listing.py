"""What lies in a folder of images: its parts (train, test, ...), its classes, and their files.

Nothing is kept in memory for a file: a million names would take more than what is known of their images.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import DataError

PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "validation"
)
TAIL = re.compile(r"[ _-]*(set|data|images|split)$")  # training_set is a name of train, too
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp"})
FORMATS = "JPEG, PNG, BMP, GIF and WebP"
JUNK = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "#recycle", "#snapshot", "system volume information", "lost+found"}
)
STRAY, HIDDEN = "in no class folder", "hidden"  # what else than endings of names is counted
LAYOUT = "Expected a folder for each class, or folders train, test and val that hold them (docs/own-images.md)."


@dataclass(frozen=True)
class ClassFolder:
    """A folder whose images are of one class, in one part of the data; `part` is empty where there are no parts."""

    part: str
    name: str
    path: str


@dataclass(frozen=True)
class ImageFile:
    """A file that is an image by its name."""

    folder: ClassFolder
    entry: os.DirEntry[str]


def class_folders(root: Path, ignored: Counter[str]) -> list[ClassFolder]:
    """Return the folders of classes, in the order of their names.

    Args:
        root: the folder of images.
        ignored: counts files that lie in no class.

    Raises:
        DataError: the folder has no classes, cannot be read, or its layout is ambiguous.

    """
    children = _folders(root, ignored)
    parts = _parts(root, children)
    if parts and "train" not in parts:
        raise DataError(f"{root} has {' and '.join(sorted(parts))}, but no folder train. {LAYOUT}")
    inside = {part: _folders(folder, ignored) for part, folder in parts.items()} if parts else {"": children}
    found = [
        ClassFolder(part, shown(unicodedata.normalize("NFC", path.name)), str(path))
        for part, folders in inside.items()
        for path in folders
    ]
    if not found:
        stray = f" Images that lie in no class folder: {ignored[STRAY]:,}." if ignored[STRAY] else " It is empty."
        raise DataError(f"{root} has no folders of classes.{stray} {LAYOUT}")
    if not parts:
        _refuse_inverted(root, children)
    return sorted(found, key=lambda each: (each.part, each.name, each.path))


def image_files(folders: list[ClassFolder], ignored: Counter[str]) -> Iterator[ImageFile]:
    """Yield the images of classes, in folders at any depth; each folder is entered once a class, so links may loop.

    Args:
        folders: those of the classes.
        ignored: counts hidden files, and those that are no images by their names' endings.

    Raises:
        DataError: a folder cannot be read.

    """
    for folder in folders:
        entered = {_identity(str(path)) for path in Path(folder.path).parents}  # a link back up is not followed
        waiting, links = [folder.path], list[str]()
        while waiting or links:
            current = waiting.pop() if waiting else links.pop()  # real folders first: links may lead to the same
            identity = _identity(current)
            if identity in entered:
                continue
            entered.add(identity)
            for entry in _entries(current):
                if _is_hidden(entry.name):
                    ignored[HIDDEN] += 1
                elif _is_folder(entry):
                    (links if entry.is_symlink() else waiting).append(entry.path)
                elif _is_image(entry):
                    yield ImageFile(folder, entry)
                else:
                    ignored[_ending(entry.name)] += 1


def state(root: Path) -> str:
    """Return a hash of names, sizes and times of all images: it changes when one of them is added, changed or removed.

    The order in which the system lists them does not matter.

    Raises:
        DataError: as `class_folders` and `image_files` do.

    """
    count, total = 0, 0
    ignored: Counter[str] = Counter()
    for image in image_files(class_folders(root, ignored), ignored):
        count += 1
        total += int.from_bytes(hashlib.blake2b(_description(image), digest_size=16).digest())
    return f"{root} {count} images {total % 2**128:032x}"


def shown(name: str) -> str:
    """Return a file name as text: names may hold bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _description(image: ImageFile) -> bytes:
    folder, entry = image.folder, image.entry
    try:
        status = entry.stat()
        facts = f"{status.st_size} {status.st_mtime_ns} {status.st_mode}"
    except OSError:
        facts = "absent"  # a link to nothing
    return b"\0".join((folder.part.encode(), os.fsencode(entry.path), facts.encode()))


def _parts(root: Path, children: list[Path]) -> dict[str, Path]:
    """Return the folders of train, test and validation; none where the children are classes."""
    named: dict[str, list[Path]] = {}
    for path in children:
        named.setdefault(_part(path), []).append(path)
    others = named.pop("", [])
    twice = [_list(paths) for paths in named.values() if len(paths) > 1]
    if twice and not others:
        raise DataError(f"{root} has {twice[0]}, which mean the same. Put their images into one of them.")
    parts = {part: paths[0] for part, paths in named.items()}
    if parts and others:
        if any(_folders(path, Counter()) for path in parts.values()):
            raise DataError(
                f"{root} has {_list(list(parts.values()))}, and beside them {_list(others)}: are these classes, or "
                f"parts of the data? Move what is neither elsewhere. {LAYOUT}"
            )
        return {}  # a class may be named "train", where the others are "bus" and "car"
    return parts


def _part(folder: Path) -> str:
    return PARTS.get(TAIL.sub("", folder.name.casefold()), "")


def _refuse_inverted(root: Path, classes: list[Path]) -> None:
    """Raise where each class holds train and test, which would be mixed."""
    inside = [{_part(path) for path in _folders(folder, Counter())} for folder in classes]
    if inside and all({"train", "test"} <= each for each in inside):
        name = shown(classes[0].name)
        raise DataError(
            f"{root}: each of its folders holds train and test, such as {name}/train. Turn them around: train/{name}. "
            f"{LAYOUT}"
        )


def _folders(folder: Path, ignored: Counter[str]) -> list[Path]:
    found = []
    for entry in _entries(str(folder)):
        if _is_hidden(entry.name):
            ignored[HIDDEN] += 1
        elif _is_folder(entry):
            found.append(Path(entry.path))
        else:
            ignored[STRAY if _is_image(entry) else _ending(entry.name)] += 1
    return sorted(found)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        raise DataError(f"{shown(folder)} does not exist. {LAYOUT}") from None
    except NotADirectoryError:
        raise DataError(f"{shown(folder)} is a file, not a folder. {LAYOUT} An archive has to be unpacked.") from None
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: str, error: OSError) -> DataError:
    return DataError(
        f"the folder {shown(folder)} cannot be read: {error.strerror}. Its images would be missing; make it readable, "
        "or move it elsewhere."
    )


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in JUNK


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Return whether a file is an image by its name; a link to nothing is one, too, which then cannot be read."""
    if _ending(entry.name) not in EXTENSIONS:
        return False
    try:
        return entry.is_file() or not os.path.exists(entry.path)  # noqa: PTH110
    except OSError:  # a link to itself
        return True


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)  # noqa: PTH116 - there may be a million
    except OSError as error:
        raise _unreadable(folder, error) from error
    return status.st_dev, status.st_ino


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "no ending"  # noqa: PTH122 - there may be a million


def _list(paths: list[Path]) -> str:
    return " and ".join(sorted(shown(path.name) for path in paths)[:8])
