"""What can be said of a plugin from its text alone: nothing is executed, and Keras is not imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench.api import Architecture, Dataset, ImageShape
from bench.contract.findings import Finding, Found, Result, result_of
from bench.errors import UsageError
from bench.literals import parse_pairs, replace_defaults
from bench.plugins import DESCRIPTIONS, FOLDERS, FUNCTIONS, Kind, Plugin
from bench.recipes import OWN, resolve_recipe

COUNT_KEY = re.compile(r"(\d+)x(\d+)x(\d+)/(\d+)(?::(.+))?")
LINE = re.compile(r"in line (\d+)")


def kind_of(path: Path) -> Kind:
    """Return what a file is: by its INFO, else by its function, else by its folder.

    Raises:
        UsageError: nothing tells.

    """
    text = path.read_text(encoding="utf-8", errors="replace")
    for kind, description in DESCRIPTIONS.items():
        if re.search(rf"^INFO\b.*=.*\b{description.__name__}\(", text, re.MULTILINE):
            return kind
    for kind, function in FUNCTIONS.items():
        if re.search(rf"^def {function}\(", text, re.MULTILINE) or path.resolve().parent.name == FOLDERS[kind]:
            return kind
    raise UsageError(
        f"{path} is no plugin: expected `INFO = Architecture(...)` or `INFO = Dataset(...)` in it; "
        "docs/writing-plugins.md shows both, and `bench new` writes one."
    )


def check_description(plugin: Plugin) -> Result:
    """Check what the text of a plugin says of it."""
    return result_of("description", _check(plugin))


def parse_count_key(key: str, parameters: Mapping[str, Any]) -> tuple[ImageShape, int, Mapping[str, Any]]:
    """Return image shape, classes and parameters that a key of `INFO.trainable_params` stands for.

    Raises:
        UsageError: it is not of the form `HxWxC/classes[:KEY=VALUE,...]`, or has parameters that are not the plugin's.

    """
    match = COUNT_KEY.fullmatch(key)
    if match is None:
        raise UsageError(f"trainable_params: expected a key like 32x32x3/10 or 32x32x3/10:depth=56, got {key!r}.")
    height, width, channels, classes = map(int, match.groups()[:4])
    where = f"trainable_params: {key}"
    changes = parse_pairs(match[5], where) if match[5] else {}
    return (height, width, channels), classes, replace_defaults(parameters, changes, where)


def line_of(plugin: Plugin, field: str) -> int:
    """Return the line in which a field of INFO begins; 0 where it is not written."""
    words = (node for node in ast.walk(ast.parse(plugin.source)) if isinstance(node, ast.keyword))
    return next((word.value.lineno for word in words if word.arg == field), 0)


def _check(plugin: Plugin) -> Found:
    if plugin.error:
        found = LINE.search(plugin.error)
        yield Finding(plugin.error, line=int(found[1]) if found else 0)
        return
    if not plugin.summary.endswith((".", ".)")):
        yield Finding(
            f"the docstring's first line must be a sentence that ends with a full stop, got {plugin.summary!r}.",
            "`bench list` shows it.",
            line=1,
        )
    yield from {"architecture": _architecture, "dataset": _dataset}[plugin.kind](plugin)


def _architecture(plugin: Plugin) -> Found:
    info: Architecture = plugin.info
    if info.min_size < 1:
        yield Finding(f"INFO.min_size must be at least 1 pixel, got {info.min_size}.", line=line_of(plugin, "min_size"))
    for data, accuracy in info.accuracy.items():
        if not 0 < accuracy < 1:
            yield Finding(
                f"INFO.accuracy holds fractions between 0 and 1, got {accuracy} for {data}.",
                line=line_of(plugin, "accuracy"),
            )
    for key in info.trainable_params:
        yield from _refused(plugin, "trainable_params", partial(parse_count_key, key, plugin.parameters))
    yield from _refused(plugin, "quick", lambda: replace_defaults(plugin.parameters, info.quick, "INFO.quick"))
    if info.recipe:
        yield from _refused(plugin, "recipe", lambda: resolve_recipe(OWN, {}, info.recipe))


def _dataset(plugin: Plugin) -> Found:
    info: Dataset = plugin.info
    if bool(info.download) != bool(info.download_size):
        yield Finding(
            "INFO.download and INFO.download_size must both be there, or neither.",
            "Say how much is fetched, in words: '163 MB'.",
            line=line_of(plugin, "download") or line_of(plugin, "download_size"),
        )
    for name in ("version", "downloads"):
        unknown = plugin.functions.get(name, frozenset()) - plugin.parameters.keys() - {"data_dir"}
        if unknown:
            yield Finding(
                f"`{name}` takes {', '.join(sorted(unknown))}, which `load` does not have as a parameter.",
                f"It gets data_dir, and those of load's parameters that it names: {', '.join(plugin.parameters)}.",
            )


def _refused(plugin: Plugin, field: str, read: Callable[[], object]) -> Found:
    """Yield why a field of INFO cannot be read."""
    try:
        read()
    except UsageError as error:
        yield Finding(f"INFO.{field}: {error}", line=line_of(plugin, field))
