"""Which process works on what: a claim is a locked file, which the kernel unlocks when its process ends in any way.

So a claim of a dead process is no obstacle, and needs no rule for when a process counts as dead. On a network disk that
holds for as long as its file locks work. (The package filelock, which guards the data cache, leaves its files behind.)
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from bench.atomic import process_tag


class Claim:
    """What this process works on, until `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    @property
    def folder(self) -> Path:
        """The folder that is claimed."""
        return self._path.parent

    def release(self) -> None:
        """Give it up, and leave no file behind."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)  # first: nobody can lock a file that is about to go
            os.close(self._descriptor)
            self._descriptor = -1


def claim(folder: Path) -> Claim | None:
    """Claim a folder, which is made where it is absent; None where another process, or this one, has claimed it.

    Raises:
        OSError: the folder cannot be written.

    """
    path = folder / ".claim"
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # somebody removed the empty folder in between
            continue
        except FileExistsError:  # or while `mkdir` looked at what was in its way
            if _is_no_folder(folder):
                raise
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_open_file(path, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{process_tag()}\n".encode())  # for people: the lock is what counts
            return Claim(path, descriptor)
        os.close(descriptor)  # its owner gave it up, and removed it, while we opened it


def _is_no_folder(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return not stat.S_ISDIR(path.lstat().st_mode)
    return False


def _is_open_file(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False
