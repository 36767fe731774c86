"""Finds plugins: a file in `architectures/` or `datasets/` is one, and its stem is its name.

Everything `bench list` shows is read from the syntax tree, so listing imports neither the files nor TensorFlow, and one
broken file cannot hide the others. Only `load_module` executes a plugin.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.abc
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal

from bench.api import Architecture, Dataset
from bench.errors import PluginError, UsageError, unknown_name
from bench.literals import format_reference, is_plain, replace_defaults, split_reference
from bench.sources import LocalModules, changed_modules, local_modules

Kind = Literal["architecture", "dataset"]
FUNCTIONS: Mapping[Kind, str] = {"architecture": "build", "dataset": "load"}
FOLDERS: Mapping[Kind, str] = {"architecture": "architectures", "dataset": "datasets"}
ENTRY_POINT_GROUPS: Mapping[Kind, str] = {kind: f"bench.{folder}" for kind, folder in FOLDERS.items()}
DESCRIPTIONS: Mapping[Kind, type] = {"architecture": Architecture, "dataset": Dataset}
CHOICES = {"normalization": ("pixels",)}  # of a description's texts, those that only some values mean anything in
PROVIDED = {"data_dir", "progress"}  # keyword arguments that the runner fills in, never the user's parameters


@dataclass(frozen=True)
class Plugin:
    """One plugin file, as read from its syntax tree.

    `functions` are its public functions, each with the names of its keyword-only arguments; `error` says why the
    plugin cannot be used, if it cannot.
    """

    kind: Kind
    name: str
    path: Path
    summary: str = ""
    info: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    functions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    source: bytes = field(default=b"", repr=False)
    source_hash: str = ""
    modules: LocalModules = field(default=LocalModules({}, {}), repr=False)
    error: str = ""


@dataclass(frozen=True)
class PluginChoice:
    """A plugin with a value for each of its parameters."""

    plugin: Plugin
    parameters: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The name with the parameters that differ from their defaults, as typed on the command line."""
        argument = self.plugin.info.argument if self.plugin.info else ""
        return format_reference(self.plugin.name, self.parameters, self.plugin.parameters, argument)


@dataclass(frozen=True)
class Registry:
    """The plugins of one kind, by name."""

    kind: Kind
    plugins: Mapping[str, Plugin]

    def choose(self, reference: str) -> PluginChoice:
        """Resolve `NAME[:KEY=VALUE,...]`.

        Raises:
            UsageError: no plugin has that name, it has no such parameter, or a value has another type.
            PluginError: the plugin's file is broken.

        """
        name, changes = split_reference(reference)
        if "," in name:
            raise UsageError(f"{self.kind} {name!r}: names are separated by spaces, and parameters follow a colon.")
        if name not in self.plugins:
            hint = f" A folder of images is named folder:{name}" if os.path.isdir(name) else ""  # noqa: PTH112 - Path.is_dir raises for a name that is too long
            raise UsageError(f"{unknown_name(self.kind, name, self.plugins)}{hint if self.kind == 'dataset' else ''}")
        plugin = self.plugins[name]
        if plugin.error:
            raise PluginError(f"{plugin.path}: {plugin.error}")
        parameters = replace_defaults(plugin.parameters, self._keyed(plugin, changes), f"{self.kind} {name}")
        argument = plugin.info.argument
        if argument and not parameters[argument]:
            raise UsageError(f"{self.kind} {name} needs its {argument} after a colon: {name}:{argument.upper()}.")
        return PluginChoice(plugin, parameters)

    def _keyed(self, plugin: Plugin, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the changes with the key of the value that was given without one."""
        argument = plugin.info.argument
        if "" in changes and not argument:
            raise UsageError(
                f"{self.kind} {plugin.name}: expected KEY=VALUE after the colon, got {changes['']!r}. "
                f"Its parameters: {', '.join(plugin.parameters) or 'none'}."
            )
        if "" in changes and argument in changes:
            raise UsageError(f"{self.kind} {plugin.name}: its {argument} is given twice, once without its key.")
        return {key or argument: value for key, value in changes.items()}


def discover(kind: Kind, extra_folders: Iterable[Path] = ()) -> Registry:
    """Read every plugin of one kind: the built-in ones, installed packages' and the extra folders'.

    Raises:
        PluginError: an extra folder holds no plugins, or two files have the same name.

    """
    plugins: dict[str, Plugin] = {}
    for folder in [*searched_folders(kind), *_user_folders(kind, extra_folders)]:
        for path in sorted(folder.glob("[!_]*.py")):
            plugin = read_plugin(kind, path)
            if plugin.name in plugins:
                first = plugins[plugin.name].path
                if first == plugin.path:
                    continue  # the same folder, named twice
                raise PluginError(f"two {FOLDERS[kind]} are named {plugin.name!r}: {first} and {path}. Rename one.")
            plugins[plugin.name] = plugin
    return Registry(kind, plugins)


def searched_folders(kind: Kind) -> list[Path]:
    """Return the folders that are searched without being named: the built-in one, and those of installed packages.

    Raises:
        PluginError: an entry point names no package.

    """
    return [_builtin_folder(kind), *_installed_folders(kind)]


def read_plugin(kind: Kind, path: Path) -> Plugin:
    """Read one plugin file without executing it; what is wrong with it ends in `error`."""
    path = path.resolve()
    try:
        source = path.read_bytes()
        tree = ast.parse(source, filename=str(path))
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        info = _read_info(kind, tree)
        parameters = _read_parameters(functions, FUNCTIONS[kind])
        if info.argument and type(parameters.get(info.argument)) is not str:
            raise ValueError(f"INFO.argument is {info.argument!r}, but `{FUNCTIONS[kind]}` has no such text parameter.")
        modules = local_modules(path.parent, tree)
    except SyntaxError as error:
        where = "" if error.filename == str(path) else f" of {error.filename}"
        return Plugin(kind, path.stem, path, error=f"syntax error in line {error.lineno}{where}: {error.msg}")
    except (OSError, ValueError) as error:
        return Plugin(kind, path.stem, path, error=str(error))
    return Plugin(
        kind=kind,
        name=path.stem,
        path=path,
        summary=(ast.get_docstring(tree) or "").partition("\n")[0],
        info=info,
        parameters=parameters,
        functions={name: frozenset(word.arg for word in node.args.kwonlyargs) for name, node in functions.items()},
        source=source,
        source_hash=hashlib.sha256(source).hexdigest(),
        modules=modules,
    )


def load_module(plugin: Plugin) -> ModuleType:
    """Execute a plugin under a private module name, and return the module.

    What runs is the source that was read and hashed, whatever has become of the file since; that holds for the modules
    beside it, too. Other local modules are imported from their files, which must be those that were hashed.

    Raises:
        PluginError: the source raises while it is executed, or a local module has changed since it was hashed.

    """
    changed = changed_modules(plugin.modules.hashes)
    if changed:
        raise PluginError(
            f"{plugin.path}: {', '.join(changed)}, which it imports, changed after the trials were planned. The same "
            "command plans them anew."
        )
    package = f"_bench_{plugin.kind}_{plugin.name}"
    sources = {f"{package}.{plugin.name}": plugin.source}
    sources |= {package + name: source for name, source in plugin.modules.siblings.items()}
    finder = _SourceFinder(package, plugin.path.parent, sources)
    _forget(package)
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module(f"{package}.{plugin.name}")
    except Exception as error:
        _forget(package)
        hint = _beside(error, plugin.path.parent)
        raise PluginError(f"{plugin.path} cannot be imported: {type(error).__name__}: {error}{hint}") from error
    finally:
        sys.meta_path.remove(finder)


class _SourceFinder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds a package of that name that is in no file, and in it modules whose sources are at hand."""

    def __init__(self, package: str, folder: Path, sources: Mapping[str, bytes]) -> None:
        self.package, self.folder, self.sources = package, folder, {package: b"", **sources}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        """Return how to load one of the modules; None for any other."""
        if name not in self.sources:
            return None
        spec = ModuleSpec(name, self, origin=self._file(name), is_package=name == self.package)
        spec.has_location = name != self.package
        return spec

    def get_source(self, name: str) -> str:
        """Return a module's source."""
        return importlib.util.decode_source(self.sources[name])

    def get_code(self, name: str) -> CodeType:
        """Return a module, compiled."""
        return compile(self.sources[name], self._file(name), "exec", dont_inherit=True)

    def is_package(self, name: str) -> bool:
        """Return whether it is the package."""
        return name == self.package

    def _file(self, name: str) -> str:
        return str(self.folder / f"{name.rpartition('.')[2]}.py")


def _beside(error: Exception, folder: Path) -> str:
    """Return how to import a module that is not found, though it is beside the plugin."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    is_there = name is not None and (folder / f"{name}.py").is_file()
    return f" (to import the file beside it, write `from .{name} import ...`)" if is_there else ""


def _forget(package: str) -> None:
    """Remove a plugin that was loaded before, and what it had loaded from beside it."""
    for name in [each for each in sys.modules if each == package or each.startswith(f"{package}.")]:
        del sys.modules[name]


def _builtin_folder(kind: Kind) -> Path:
    package = Path(__file__).resolve().parent
    inside = package / FOLDERS[kind]  # an installed wheel carries the plugins inside the package
    return inside if inside.is_dir() else package.parent / FOLDERS[kind]


def _installed_folders(kind: Kind) -> list[Path]:
    group = ENTRY_POINT_GROUPS[kind]
    return [folder for entry in importlib.metadata.entry_points(group=group) for folder in _package_folders(entry)]


def _package_folders(entry: importlib.metadata.EntryPoint) -> list[Path]:
    """Return the folders of the package that an entry point names; executes nothing."""
    top, *parts = entry.value.split(".")
    spec = importlib.util.find_spec(top)  # of a top-level package alone: to find another one executes those around it
    roots = spec.submodule_search_locations if spec else None
    folders = [folder for folder in (Path(root, *parts) for root in roots or ()) if folder.is_dir()]
    if not folders:
        raise PluginError(
            f"the entry point {entry.name!r} ({entry.group}) names no package: {entry.value!r}. Expected one whose "
            ".py files are plugins, my_nets.architectures say; are they in the wheel?"
        )
    return folders


def _user_folders(kind: Kind, folders: Iterable[Path]) -> list[Path]:
    found = []
    for folder in folders:
        if not any((folder / name).is_dir() for name in FOLDERS.values()):
            hint = f" Did you mean --plugins {folder.parent}?" if folder.name in FOLDERS.values() else ""
            raise PluginError(f"--plugins {folder}: expected a folder that holds architectures/ or datasets/.{hint}")
        found.append(folder / FOLDERS[kind])
    return found


def _read_info(kind: Kind, tree: ast.Module) -> Any:
    description = DESCRIPTIONS[kind]
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "INFO" for target in targets):
                info = _evaluate_call(description, node.value)
                _check_choices(info, node.lineno)
                return info
    raise ValueError(f"has no `INFO = {description.__name__}(...)`; docs/writing-plugins.md shows one.")


def _evaluate_call(description: type, call: ast.Call) -> Any:
    called = ast.unparse(call.func).rpartition(".")[2]
    if called != description.__name__:
        raise ValueError(f"INFO must be {description.__name__}(...), found {called}(...).")
    try:
        arguments = {word.arg or "**": ast.literal_eval(word.value) for word in call.keywords}
        info = description(*map(ast.literal_eval, call.args), **arguments)
        _check_types(info, description())
        return info
    except (ValueError, TypeError) as error:
        raise ValueError(f"INFO in line {call.lineno} must be literal keyword arguments: {error}") from None


def _check_types(info: Any, defaults: Any) -> None:
    for item in dataclasses.fields(info):
        value, expected = getattr(info, item.name), type(getattr(defaults, item.name))
        if type(value) is not expected:
            raise ValueError(f"{item.name} must be {expected.__name__}, got {value!r}")


def _check_choices(info: Any, line: int) -> None:
    for name, allowed in CHOICES.items():
        value = getattr(info, name, "")
        if value and value not in allowed:
            raise ValueError(
                f"INFO in line {line}: {name} must be one of {', '.join(allowed)}, or empty; got {value!r}."
            )


def _read_parameters(functions: Mapping[str, ast.FunctionDef], name: str) -> dict[str, Any]:
    if name not in functions:
        raise ValueError(f"has no function `{name}`; docs/writing-plugins.md shows one.")
    parameters: dict[str, Any] = {}
    arguments = functions[name].args
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if argument.arg in PROVIDED:
            continue
        try:
            parameters[argument.arg] = _literal(default)
        except ValueError:
            raise ValueError(f"`{name}`: the keyword argument {argument.arg!r} needs a literal default.") from None
    return parameters


def _literal(default: ast.expr | None) -> Any:
    """Return the default's value; raises ValueError where there is none, or none that a parameter can have."""
    value = ast.literal_eval(default) if default else {}
    if not is_plain(value):
        raise ValueError
    return value
