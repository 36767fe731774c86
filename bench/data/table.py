"""The readable images of a folder, a row each, ordered by the hash of their files: copies lie side by side.

The order, and which images are the test images where no folder says it, depend on what the files hold alone, not on
their names; a file that is added or removed moves no other from training to test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bench.data.contents import PART_NAMES, Contents, Files

TRAIN, TEST, VALIDATION = range(len(PART_NAMES))
KEPT = 2  # training images of a class that are never made test images


@dataclass(frozen=True)
class Table:
    """Images by column.

    Attributes:
        rows: their positions among all files, int64 (images,).
        parts: positions in `PART_NAMES`, uint8 (images,).
        labels: class numbers, int32 (images,).
        groups: numbers of distinct contents, ascending from 0, int64 (images,): copies have the same.

    """

    rows: npt.NDArray[np.int64]
    parts: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    groups: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Table:
        """Return some of the images."""
        return Table(self.rows[chosen], self.parts[chosen], self.labels[chosen], self.groups[chosen])

    def of(self, part: int) -> Table:
        """Return the images of one part."""
        return self.where(self.parts == part)

    def copies(self, part: int) -> npt.NDArray[np.int64]:
        """Return how often a part holds each content, int64 (contents,)."""
        return np.bincount(self.groups[self.parts == part], minlength=int(self.groups[-1]) + 1)


def arrange(files: Files, contents: Contents) -> Table:
    """Return the readable images in the order of their hashes."""
    digests = contents.digests
    order = np.lexsort((files.labels, digests[:, 1], digests[:, 0]))
    order = order[contents.readable[order]]
    differs = (digests[order[1:]] != digests[order[:-1]]).any(axis=1)
    groups = np.concatenate([np.zeros(min(len(order), 1), np.int64), np.cumsum(differs, dtype=np.int64)])
    return Table(order, files.parts[order], files.labels[order], groups)


def carve_test(table: Table, contents: Contents, fraction: float) -> Table:
    """Return the table with test images chosen from the training images: those whose hash is in the lowest fraction.

    Copies stay together. Of each class, the image with the lowest hash is among them, and those with the highest two
    are not, so that there is something to train on and to test.
    """
    candidates = np.flatnonzero(table.parts == TRAIN)
    rank, count = _ranks(table.labels[candidates])
    low = contents.digests[table.rows[candidates], 0] / 2.0**64 < fraction
    chosen = np.zeros(int(table.groups[-1]) + 1, np.bool_)
    chosen[table.groups[candidates[(low | (rank == 0)) & (rank < count - KEPT)]]] = True
    moved = (table.parts == TRAIN) & chosen[table.groups]
    return replace(table, parts=np.where(moved, TEST, table.parts).astype(np.uint8))


def _ranks(labels: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each image's position among those of its class, and how many these are."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    count = np.empty(len(labels), np.int64)
    count[order] = np.repeat(counts, counts)
    return rank, count


def drop_copies(table: Table) -> Table:
    """Return the table without those training images that test or validation hold too, or that repeat another."""
    elsewhere = table.copies(TEST) + table.copies(VALIDATION) > 0
    train = np.flatnonzero(table.parts == TRAIN)
    pairs = np.stack([table.groups[train], table.labels[train]], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    kept = table.parts != TRAIN
    kept[train[first]] = True
    return table.where(kept & ~((table.parts == TRAIN) & elsewhere[table.groups]))
