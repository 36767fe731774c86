"""What somebody should know of their folder of images before they trust a benchmark on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.data.contents import LISTED, PART_NAMES, Contents, Files
from bench.data.table import TEST, TRAIN, VALIDATION, Table

LEAST, FEW = 5, 20  # training images of a class: fewer are an error; fewer are pointed out
IMBALANCE = 10  # times as many training images in the largest class as in the smallest


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found, and what was made of it: `table` has class numbers that are positions in `classes`."""

    files: Files
    contents: Contents
    table: Table
    classes: tuple[str, ...]
    carved: bool
    dropped: int


def notes(survey: Survey) -> tuple[str, ...]:
    """Return what is to be known, the gravest first: a sentence each, with examples in the lines that follow."""
    checks = (
        _unreadable,
        _between,
        _contradictions,
        _within,
        _untested,
        _few,
        _imbalance,
        _alike,
        _empty,
        _ignored,
        _made,
    )
    return tuple(note for check in checks for note in check(survey))


def unreadable_files(files: Files, contents: Contents) -> list[str]:
    """Return the names of files that cannot be read, with the reasons: the first `LISTED` of them."""
    return sorted(f"{files.names.shown(row)}: {reason}" for row, reason in contents.errors.items())


def training_counts(table: Table, classes: Sequence[str]) -> dict[str, int]:
    """Return how many training images each class has, the fewest first."""
    counts = np.bincount(table.of(TRAIN).labels, minlength=len(classes))
    return {classes[index]: int(counts[index]) for index in np.argsort(counts, kind="stable")}


def _unreadable(survey: Survey) -> Iterator[str]:
    count = int((~survey.contents.readable).sum())
    if count:
        files = unreadable_files(survey.files, survey.contents)
        yield _note(f"{_count(count, 'file')} cannot be read and {_is(count)} left out", files, count)


def _between(survey: Survey) -> Iterator[str]:
    table = survey.table
    for part, other, effect in (
        (TRAIN, TEST, "the test accuracy is too good by that (drop_duplicates=true leaves them out of training)"),
        (TRAIN, VALIDATION, "the validation accuracy is too good by that"),
        (VALIDATION, TEST, "what is chosen on the validation images is chosen on these test images, too"),
    ):
        counts = table.copies(other)
        both = np.flatnonzero((table.copies(part) > 0) & (counts > 0))
        if len(both):
            total = int(counts[both].sum())
            summary = f"{_count(total, PART_NAMES[other] + ' image')} {_is(total)} in {PART_NAMES[part]}, too: {effect}"
            pairs = (f"{_first(survey, group, other)} = {_first(survey, group, part)}" for group in both[:LISTED])
            yield _note(summary, pairs, len(both))


def _contradictions(survey: Survey) -> Iterator[str]:
    table = survey.table
    starts = np.flatnonzero(np.diff(table.groups, prepend=-1))
    lowest, highest = (each.reduceat(table.labels, starts) for each in (np.minimum, np.maximum))
    several = np.flatnonzero(lowest != highest)
    if len(several):
        names = survey.files.names
        ends = np.append(starts[1:], len(table))
        pairs = (  # copies are in the order of their labels: the first and the last differ
            f"{names.shown(table.rows[starts[each]])} = {names.shown(table.rows[ends[each] - 1])}"
            for each in several[:LISTED]
        )
        summary = f"{_count(len(several), 'image')} {_is(len(several))} in more than one class"
        yield _note(f"{summary}: one of the labels is wrong", pairs, len(several))


def _within(survey: Survey) -> Iterator[str]:
    table, names = survey.table, survey.files.names
    for part, name in enumerate(PART_NAMES):
        repeated = np.flatnonzero(table.copies(part) > 1)
        if len(repeated):
            spare = int((table.copies(part)[repeated] - 1).sum())
            chosen = table.of(part)
            starts = np.searchsorted(chosen.groups, repeated[:LISTED])
            pairs = (f"{names.shown(chosen.rows[at])} = {names.shown(chosen.rows[at + 1])}" for at in starts)
            verb = "repeats another one" if spare == 1 else "repeat other ones"
            yield _note(f"{_count(spare, f'{name} image')} {verb}", pairs, len(repeated))


def _untested(survey: Survey) -> Iterator[str]:
    for part in (TEST, VALIDATION):
        there = np.unique(survey.table.of(part).labels)
        absent = [name for label, name in enumerate(survey.classes) if label not in set(there.tolist())]
        if absent and len(there):
            name = PART_NAMES[part]
            summary = f"{_count(len(absent), 'class')} without {name} images: the {name} accuracy says nothing of them"
            yield _note(summary, absent[:LISTED], len(absent))


def _few(survey: Survey) -> Iterator[str]:
    few = {name: count for name, count in training_counts(survey.table, survey.classes).items() if count < FEW}
    if few:
        lines = [f"{name}: {count}" for name, count in few.items()][:LISTED]
        yield _note(f"{_count(len(few), 'class')} with fewer than {FEW} training images", lines, len(few))


def _imbalance(survey: Survey) -> Iterator[str]:
    counts = list(training_counts(survey.table, survey.classes).items())
    (smallest, fewest), (largest, most) = counts[0], counts[-1]
    if most > IMBALANCE * fewest:
        yield (
            f"the classes differ much in size: {most:,} training images of {largest}, {fewest:,} of {smallest}. "
            "Accuracy tells of the large ones above all; per_class_accuracy in the records tells of each"
        )


def _alike(survey: Survey) -> Iterator[str]:
    named: dict[str, list[str]] = {}
    for name in survey.classes:
        named.setdefault("".join(name.casefold().split()), []).append(name)
    alike = [" and ".join(map(repr, names)) for names in named.values() if len(names) > 1]
    if alike:
        yield _note("classes whose names differ in case or spaces alone are classes of their own", alike, len(alike))


def _empty(survey: Survey) -> Iterator[str]:
    empty = [name for name in survey.files.classes if name not in set(survey.classes)]
    if empty:
        yield _note(f"{_count(len(empty), 'folder')} without images that count as no class", empty[:LISTED], len(empty))


def _ignored(survey: Survey) -> Iterator[str]:
    if survey.files.ignored:
        yield f"files that were passed over: {passed_over(survey.files)}"


def passed_over(files: Files) -> str:
    """Return how many files are no images by their names, by kind: `12 hidden, 3 .txt`."""
    named = (f"{count:,} {kind}" for kind, count in files.ignored.most_common(10))
    return ", ".join([*named, *(["..."] if len(files.ignored) > 10 else [])])


def _made(survey: Survey) -> Iterator[str]:
    if survey.dropped:
        are = f"{_count(survey.dropped, 'training image')} {_is(survey.dropped)}"
        yield f"{are} left out, as copies of other images (drop_duplicates=true)"
    if survey.carved:
        images = f"{len(survey.table.of(TEST)):,} of {len(survey.table):,} images"
        yield f"there is no folder test with classes: {images}, chosen by a hash of each file, are the test images"


def _first(survey: Survey, group: np.int64, part: int) -> str:
    """Return the name of a part's first image with that content."""
    table = survey.table
    start, end = np.searchsorted(table.groups, [group, group + 1])
    return survey.files.names.shown(table.rows[start + int(np.argmax(table.parts[start:end] == part))])


def _note(summary: str, details: Iterable[str], count: int) -> str:
    lines = list(details)
    more = [f"... and {count - len(lines):,} more"] if count > len(lines) else []
    return "\n".join([summary, *lines, *more])


def _count(number: int, what: str) -> str:
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{number:,} {what if number == 1 else plural}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
