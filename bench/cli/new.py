"""`bench new`: writes a plugin to begin with, commented, and runnable as it is."""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
from pathlib import Path
from string import Template
from typing import cast

from bench.errors import StoreError, UsageError
from bench.literals import expanded
from bench.plugins import FOLDERS, Kind, discover, searched_folders

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9_]*")
RUNS = {
    "architecture": "bench run --arch {name} baseline_cnn --dataset digits --epochs 5",
    "dataset": "bench run --arch baseline_cnn --dataset {name} --epochs 5",
}


def write_plugin(arguments: argparse.Namespace) -> int:
    """Write the file, and print what to do next.

    Raises:
        UsageError: the name cannot be a plugin's, or is taken.
        StoreError: the file cannot be written.

    """
    kind, name, parent = cast("Kind", arguments.kind), arguments.name, expanded(arguments.plugins)
    _check_name(kind, name)
    folder = parent / FOLDERS[kind]
    path = folder / f"{name}.py"
    _check_free(kind, name, path, parent)
    made = not folder.is_dir()
    text = (TEMPLATES / f"{kind}.py.txt").read_text(encoding="utf-8")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(Template(text).substitute(name=name))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}. Name another folder with --plugins.") from error
    print(f"written: {path}" + (f" (the folder {folder} is new)" if made else ""))
    found = "" if folder.resolve() in searched_folders(kind) else f" --plugins {shlex.quote(str(arguments.plugins))}"
    print("It works as it is: change it, check it, and compare it:")
    print(f"  bench check {name}{found}")
    print(f"  {RUNS[kind].format(name=name)}{found}")
    print("docs/writing-plugins.md explains each part.")
    return 0


def _check_name(kind: Kind, name: str) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        near = re.sub(r"\W+", "_", name.removesuffix(".py").lower()).strip("_")
        fits = NAME.fullmatch(near) and not keyword.iskeyword(near)
        raise UsageError(
            f"{name!r} cannot be the name of {_a(kind)}: expected lower-case letters, digits and underscores, "
            f"the first a letter, and no word of Python.{f' Did you mean {near}?' if fits else ''}"
        )


def _check_free(kind: Kind, name: str, path: Path, parent: Path) -> None:
    """Raise UsageError where a plugin of that kind has the name, or something is at the path."""
    if path.exists():
        raise UsageError(f"{path} is there already, and is left as it is. Take another name, or another --plugins.")
    has_plugins = any((parent / each).is_dir() for each in FOLDERS.values())
    taken = discover(kind, [parent] if has_plugins else []).plugins.get(name)
    if taken is not None:
        raise UsageError(f"{_a(kind)} is named {name!r} already: {taken.path}. Take another name.")


def _a(kind: Kind) -> str:
    return {"architecture": "an architecture", "dataset": "a data set"}[kind]
