"""Folders of images, a folder for each class, for data set plugins: `version` and `load` do all that one needs.

Files are found (`listing`), decoded into one array on the disk (`contents`), divided (`table`), and what is odd about
them is told (`findings`).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.api import Progress, Split, Splits
from bench.data.contents import PART_NAMES, Contents, Files, Format, list_files, read_files, scratch_file
from bench.data.findings import LEAST, Survey, notes, passed_over, training_counts, unreadable_files
from bench.data.listing import LAYOUT, state
from bench.data.table import KEPT, TEST, TRAIN, Table, arrange, carve_test, drop_copies
from bench.errors import DataError, UsageError

RESIZE = ("fit", "stretch", "pad")
LARGEST = 4_096  # pixels a side
UNREADABLE = 0.01  # share of the files
SHOWN = 5  # names in an error
CHUNK = 1_024


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is made of the images; datasets/folder.py says what each option means.

    Raises:
        UsageError: a value makes no sense.

    """

    size: int
    channels: int
    resize: str
    test_fraction: float
    drop_duplicates: bool
    strict: bool

    def __post_init__(self) -> None:
        if not 1 <= self.size <= LARGEST:
            raise UsageError(f"data set folder: size must be 1 to {LARGEST} pixels; got {self.size}.")
        if self.channels not in (0, 1, 3):
            raise UsageError(
                "data set folder: channels must be 1 (grey), 3 (colour) or 0 (grey where all images are, else colour); "
                f"got {self.channels}."
            )
        if self.resize not in RESIZE:
            raise UsageError(f"data set folder: resize must be one of {', '.join(RESIZE)}; got {self.resize!r}.")
        if not 0 < self.test_fraction < 1:
            raise UsageError(
                f"data set folder: test_fraction must be above 0 and below 1; got {self.test_fraction:g}. A folder "
                "`test` holds test images of your own choice."
            )


def version(path: str) -> str:
    """Return what changes when a file in the folder is added, changed or removed.

    Raises:
        UsageError: no folder is named.
        DataError: it is not there, or has no classes.

    """
    return state(_root(path))


def load(path: str, options: Options, progress: Progress) -> Splits:
    """Read a folder of images, and say what was found.

    Raises:
        UsageError: no folder is named.
        DataError: there are too few classes or images, or too many files cannot be read.

    """
    root = _root(path)
    before = state(root)
    files = list_files(root)
    with files.names.file:
        if not len(files):
            ignored = f" Files that are no images by their names: {passed_over(files)}." if files.ignored else ""
            raise DataError(f"{root} has no images in its folders of classes.{ignored} {LAYOUT}")
        form = Format(options.size, options.channels or 3, options.resize)
        contents = read_files(files, form, progress)
        _check_readable(root, files, contents, options.strict)
        survey = _survey(root, files, contents, options)
        channels = options.channels or (1 if contents.grey else 3)
        splits = {PART_NAMES[part]: _split(survey, part, channels) for part in np.unique(survey.table.parts).tolist()}
        found = notes(survey)
    if state(root) != before:
        raise DataError(f"{root} changed while it was read. Run the same command again when it is complete.")
    return Splits(
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        class_names=survey.classes,
        notes=found,
    )


def _root(path: str) -> Path:
    if not path.strip():
        raise UsageError("data set folder: name the folder that holds the images: --dataset folder:~/photos.")
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"data set folder: {path[:60]!r} cannot be a path: {error}.") from None


def _check_readable(root: Path, files: Files, contents: Contents, strict: bool) -> None:
    count = int((~contents.readable).sum())
    if count > (0 if strict else UNREADABLE * len(files)):
        named = unreadable_files(files, contents)[:SHOWN]
        more = f"; and {count - len(named):,} more" if count > len(named) else ""
        allowed = "strict=true allows none" if strict else f"more than {UNREADABLE:.0%}"
        raise DataError(
            f"{root}: {count:,} of {len(files):,} files cannot be read as images ({allowed}): {'; '.join(named)}{more}."
            " Repair them, or move them elsewhere."
        )


def _survey(root: Path, files: Files, contents: Contents, options: Options) -> Survey:
    """Divide the images into training and test, and check that each class has enough."""
    table = arrange(files, contents)
    present = np.unique(table.labels)
    classes = tuple(files.classes[label] for label in present)
    table = replace(table, labels=np.searchsorted(present, table.labels).astype(np.int32))
    if len(classes) < 2:
        raise DataError(
            f"{root} has images of one class, {classes[0]}; there must be two at least.{_nested(root)} {LAYOUT}"
        )
    _check_known(root, table, classes)
    _check_enough(root, table, classes, LEAST)
    carved = "test" not in files.has_parts
    if carved:
        table = carve_test(table, contents, options.test_fraction)
    elif TEST not in table.parts:
        raise DataError(f"{root}: the folder test has no images. Without that folder, some of train are taken for it.")
    kept = drop_copies(table) if options.drop_duplicates else table
    _check_enough(root, kept, classes, KEPT, " beside test images and copies")
    return Survey(
        files=files, contents=contents, table=kept, classes=classes, carved=carved, dropped=len(table) - len(kept)
    )


def _nested(root: Path) -> str:
    """Return a hint where the named folder holds nothing but the one that was meant."""
    inside = [path for path in root.iterdir() if path.is_dir()]
    nested = len(inside) == 1 and len([path for path in inside[0].iterdir() if path.is_dir()]) > 1
    return f" Did you mean {inside[0]}?" if nested else ""


def _check_known(root: Path, table: Table, classes: tuple[str, ...]) -> None:
    known = {classes[label] for label in np.unique(table.of(TRAIN).labels)}
    unknown = [name for name in classes if name not in known]
    if not unknown:
        return
    by_case = {name.casefold(): name for name in known}
    near = by_case.get(unknown[0].casefold()) or "".join(difflib.get_close_matches(unknown[0], known, n=1))
    hint = f" Did you mean {near}, which train has?" if near else ""
    where = " or ".join(
        PART_NAMES[part] for part in np.unique(table.parts[np.isin(table.labels, _of(unknown, classes))])
    )
    raise DataError(
        f"{root}: {_some(unknown)} {'is' if len(unknown) == 1 else 'are'} in {where}, but train has no such images, so "
        f"that they could not be learnt.{hint} Rename or remove what does not belong there."
    )


def _check_enough(root: Path, table: Table, classes: tuple[str, ...], least: int, beside: str = "") -> None:
    few = [f"{name} ({count})" for name, count in training_counts(table, classes).items() if count < least]
    if few:
        raise DataError(
            f"{root}: too few training images of {_some(few)}; a class needs at least {least}{beside}. Add images, or "
            "move the folder of that class elsewhere."
        )


def _of(names: list[str], classes: tuple[str, ...]) -> list[int]:
    return [classes.index(name) for name in names]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _split(survey: Survey, part: int, channels: int) -> Split:
    """Copy one part's images, in the order of the table, into an array on the disk that has no name."""
    chosen, staged = survey.table.of(part), survey.contents.pixels
    with scratch_file() as file:
        for start in range(0, len(chosen), CHUNK):
            pixels: npt.NDArray[np.uint8] = staged[chosen.rows[start : start + CHUNK]]
            file.write(pixels[..., :channels].tobytes())
        file.flush()
        shape = (len(chosen), *staged.shape[1:3], channels)
        return Split(np.memmap(file, np.uint8, "r", shape=shape), chosen.labels.astype(np.int64))
