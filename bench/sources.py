"""Which local modules a plugin imports, found by reading: they decide what it does as much as its own file.

Local are the modules beside the plugin (`from ._blocks import stem`; their names begin with an underscore, since other
files there are plugins), `bench.layers`, and whatever else is imported from neither the standard library nor
site-packages: a package that is being developed, say. Modules that those import count too.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

INSTALLED = "-packages"  # site-packages, dist-packages: wherever they are
SHARED_BLOCKS = ("bench", "layers")  # the rest of bench is hashed into the environment


@dataclass(frozen=True)
class LocalModules:
    """`hashes`: the SHA-256 of each local module's file. `siblings`: the sources of those beside the plugin."""

    hashes: Mapping[str, str]
    siblings: Mapping[str, bytes]


def local_modules(folder: Path, tree: ast.Module) -> LocalModules:
    """Return the local modules that a plugin in this folder imports, with those that they import.

    Raises:
        ValueError: it imports another plugin.
        OSError, SyntaxError: one of them cannot be read.

    """
    sources: dict[str, bytes] = {}
    waiting = list(_imported(tree, folder))
    while waiting:
        name, path = waiting.pop()
        if name not in sources:
            sources[name] = path.read_bytes()
            waiting += _imported(ast.parse(sources[name], filename=str(path)), folder, within=name)
    hashes = {name: hashlib.sha256(source).hexdigest() for name, source in sorted(sources.items())}
    return LocalModules(hashes, {name: source for name, source in sources.items() if name.startswith(".")})


def changed_modules(hashes: Mapping[str, str]) -> list[str]:
    """Return the local modules whose files are no longer those that were hashed, by their absolute names.

    Those beside a plugin are left out, which run as they were hashed, and `bench.layers`, which was imported before.
    """
    changed = []
    for name, digest in hashes.items():
        root = None if name.startswith((".", "bench.")) else _local_root(name.partition(".")[0])
        files = [] if root is None else [path for each, path in _files(name) if each == name]
        if any(hashlib.sha256(path.read_bytes()).hexdigest() != digest for path in files):
            changed.append(name)
    return changed


def _imported(tree: ast.Module, folder: Path, within: str = "") -> Iterator[tuple[str, Path]]:
    """Yield name and file of each local module that a syntax tree imports; `within` is the module that it is of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from _files(node.module or "", [alias.name for alias in node.names])
        elif isinstance(node, ast.ImportFrom) and (not within or within.startswith(".")):
            yield from _siblings(folder, [node.module] if node.module else [alias.name for alias in node.names])
        elif isinstance(node, ast.ImportFrom):
            package = within if _is_package(within) else within.rpartition(".")[0]
            try:
                name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError as error:
                raise ValueError(f"{within}, which it imports, cannot be read: {error}") from error
            yield from _files(name.rstrip("."), [alias.name for alias in node.names])


def _siblings(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    for name in names:
        if not name.startswith("_"):
            raise ValueError(
                f"it imports {name!r} from its own folder: a plugin never imports another plugin. Put what they share "
                f"into a file whose name begins with an underscore, _{name}.py say, and import that."
            )
        path = folder / f"{name}.py"
        if not path.is_file():
            raise ValueError(f"it imports {name!r} from its own folder, but {path} does not exist.")
        yield f".{name}", path


def _files(name: str, members: Iterable[str] = ()) -> Iterator[tuple[str, Path]]:
    """Yield the files that importing an absolute name executes, those of members that are modules included."""
    parts = name.split(".")
    root = _local_root(parts[0])
    if root is None:
        return
    if parts[0] == "bench":  # of `from bench.layers.basic import ...` that module alone: the package only passes on
        for deepest in (parts, *([*parts, member] for member in members)):
            if tuple(deepest[:2]) == SHARED_BLOCKS:
                yield from _file(deepest, root)
        return
    if root.suffix == ".py":
        yield name, root
        return
    for depth in range(len(parts)):
        yield from _file(parts[: depth + 1], root)
    for member in members:
        yield from _file([*parts, member], root)


def _file(parts: list[str], root: Path) -> Iterator[tuple[str, Path]]:
    path = root.joinpath(*parts[1:])
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            yield ".".join(parts), candidate
            return


def _is_package(name: str) -> bool:
    parts = name.split(".")
    root = _local_root(parts[0])
    return root is not None and root.joinpath(*parts[1:], "__init__.py").is_file()


@cache
def _local_root(name: str) -> Path | None:
    """Return the folder of a top-level package, or the file of a module, that is local; executes nothing."""
    if name in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = [Path(each) for each in spec.submodule_search_locations or ()]  # also of a package without __init__.py
    path = (folders[0] if folders else Path(spec.origin or "")).resolve()
    if name != "bench" and any(part.endswith(INSTALLED) for part in path.parts):
        return None
    return path if folders or path.suffix == ".py" else None
