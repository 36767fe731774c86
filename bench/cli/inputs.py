"""Turns arguments into what the other parts take: plugins with parameters, data sources, a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import DataError, UsageError
from bench.literals import parse_pairs
from bench.plugins import FOLDERS, Kind, discover
from bench.recipes import Recipe, resolve_recipe

if TYPE_CHECKING:
    from bench.data.cache import DataSource


def plugin_kinds(folder: str | None) -> list[Kind]:
    """Return the kind whose folder has this name, or both."""
    return [kind for kind, name in FOLDERS.items() if folder in (None, name)]


def sources_of(arguments: argparse.Namespace, references: Sequence[str]) -> list[DataSource]:
    """Return the data sets that were named, with the folders they work with."""
    from bench.data.cache import DataSource, default_cache_dir

    registry = discover("dataset", arguments.plugins)
    folder = data_dir(arguments)
    return [DataSource(registry.choose(reference), folder, default_cache_dir()) for reference in references]


def data_dir(arguments: argparse.Namespace) -> Path:
    """Return the TFDS data directory; one that was named must exist."""
    from bench.data.tfds import default_data_dir

    if arguments.data_dir is None:
        return default_data_dir()
    folder: Path = arguments.data_dir.expanduser()
    if not folder.is_dir():
        raise DataError(f"--data-dir {folder} does not exist. Expected a folder that holds prepared TFDS data sets.")
    return folder.resolve()


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Return the recipe with the command line's overrides."""
    overrides: dict[str, Any] = {}
    for pair in arguments.set:
        overrides |= parse_pairs(pair, "--set")
    for key in ("epochs", "batch_size", "learning_rate"):
        value = getattr(arguments, key)
        if value is not None and key in overrides:
            raise UsageError(f"{key} is given twice: by --set and by --{key.replace('_', '-')}. Leave one away.")
        if value is not None:
            overrides[key] = value
    return resolve_recipe(arguments.recipe, overrides)


def seeds_of(arguments: argparse.Namespace) -> int:
    """Return the number of seeds."""
    seeds: int = arguments.seeds
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1; got {seeds}.")
    return seeds
