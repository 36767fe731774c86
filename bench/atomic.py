"""Files that are whole, or not there: they are written beside their place under a temporary name, and renamed.

A temporary name says which process writes, so that what a killed one has left is told from what is being written.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = re.compile(r"\..*\.(\d+@.*)\.tmp")


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield where to write a file that takes the place of `path` at the end; after an error nothing is left of it.

    With `durable`, it is on the disk before it does.
    """
    temporary = path.with_name(f".{path.name}.{process_tag()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def process_tag() -> str:
    """Return what names this process among those of all machines, fit for a file's name."""
    return f"{os.getpid()}@{platform.node()}"


def is_dead(tag: str) -> bool:
    """Return whether the process of that tag is known to have ended: of another machine's, nothing is known."""
    import psutil

    number, _, node = tag.partition("@")
    if node != platform.node() or not re.fullmatch(r"[0-9]{1,9}", number):
        return False
    return not psutil.pid_exists(int(number))


def is_left(name: str) -> bool:
    """Return whether a file's name is a temporary one of a process that is known to have ended."""
    match = TEMPORARY.fullmatch(name)
    return match is not None and is_dead(match[1])
