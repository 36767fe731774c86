"""`bench check`: holds plugins against the contract that the tests hold them against, and says what to mend."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from bench.cli.console import make_console
from bench.cli.inputs import existing_data_dir
from bench.contract.descriptions import check_description, kind_of
from bench.contract.findings import Finding, Result
from bench.contract.forks import Started, check_in_fork
from bench.data.cache import DataSource, default_cache_dir
from bench.errors import PluginError, UsageError, unknown_name
from bench.execution.server import ForkServer
from bench.execution.work import Place, ServerDiedError, WorkDiedError, WorkFailedError
from bench.fields import printable
from bench.literals import expanded, split_reference
from bench.plugins import FOLDERS, Kind, Plugin, PluginChoice, Registry, discover, read_plugin

NO_GPU = Place(variables={"CUDA_VISIBLE_DEVICES": "-1"})
WIDTH = 26  # of the names of checks
INDENT = " " * 10


@dataclass(frozen=True)
class Target:
    """A plugin to be checked, as it was named."""

    plugin: Plugin
    choice: PluginChoice | None = None
    note: str = ""


def check_plugins(arguments: argparse.Namespace) -> int:
    """Check each plugin that was named; returns 1 where something is wrong with one, else 0.

    Raises:
        UsageError: a name or file is no plugin.

    """
    targets = [target for name in arguments.names for target in _targets(name, arguments.plugins)]
    data_dir = existing_data_dir(arguments.data_dir)
    server, console, began = ForkServer(arguments.backend), make_console(), time.monotonic()
    if any(target.choice for target in targets):
        server.start()
    results = [_check(target, server, data_dir, console) for target in targets]
    checks = sum(map(len, results))
    findings = sum(len(each.findings) for result in results for each in result)
    seconds = f"{time.monotonic() - began:.0f} s"
    if findings:
        what = f"{findings} finding{'s' if findings > 1 else ''} in {checks} checks"
        console.print(Text(f"{what}, {seconds}", style="bold red"))
    else:
        console.print(Text(f"all well: {checks} checks, {seconds}", style="bold green"))
    return int(bool(findings))


def _targets(name: str, plugins: Sequence[Path]) -> Iterator[Target]:
    """Yield what a name or file stands for: one name may be that of an architecture and of a data set."""
    file, colon, parameters = name.partition(".py:")
    path = expanded(Path(f"{file}.py" if colon else name))
    if path.suffix == ".py":
        if not path.is_file():
            raise UsageError(f"{path} does not exist. Expected the name of a plugin, or its file.")
        yield _file_target(path, parameters, plugins)
        return
    registries = {kind: discover(kind, plugins) for kind in FOLDERS}
    stem, _ = split_reference(name)
    kinds = [kind for kind, registry in registries.items() if stem in registry.plugins]
    if not kinds:
        known = {each for registry in registries.values() for each in registry.plugins}
        raise UsageError(f"{unknown_name('plugin', stem, known)} A file is named by its path: architectures/{stem}.py.")
    for kind in kinds:
        yield _target(registries[kind], name, registries[kind].plugins[stem])


def _file_target(path: Path, parameters: str, plugins: Sequence[Path]) -> Target:
    kind = kind_of(path)
    plugin = read_plugin(kind, path)
    reference = f"{plugin.name}:{parameters}" if parameters else plugin.name
    target = _target(Registry(kind, {plugin.name: plugin}), reference, plugin)
    return Target(target.plugin, target.choice, _where(kind, plugin, plugins))


def _target(registry: Registry, reference: str, plugin: Plugin) -> Target:
    """Return a target; one whose file cannot be read has no parameters, and so has an architecture's none to choose."""
    if plugin.error:
        return Target(plugin)
    argument = plugin.info.argument
    if registry.kind == "architecture" and argument in plugin.info.quick and reference == plugin.name:
        return Target(plugin, PluginChoice(plugin, plugin.parameters))  # checked as INFO.quick has it
    return Target(plugin, registry.choose(reference))


def _where(kind: Kind, plugin: Plugin, plugins: Sequence[Path]) -> str:
    """Return how `bench run` would find a file; empty where it does."""
    try:
        found = discover(kind, plugins).plugins.get(plugin.name)
    except PluginError as error:
        return str(error)
    if found is not None and found.path == plugin.path:
        return ""
    folder = plugin.path.parent
    if found is not None:
        return f"{found.path} has this name already: give the file another one before it is used."
    if folder.name == FOLDERS[kind]:
        return f"`bench run` finds it with --plugins {folder.parent}"
    return f"`bench run` finds it in a folder named {FOLDERS[kind]}: --plugins DIR is for DIR/{FOLDERS[kind]}/*.py"


def _check(target: Target, server: ForkServer, data_dir: Path, console: Console) -> list[Result]:
    """Check one plugin, and print each result as it comes."""
    title = target.choice.label if target.choice else target.plugin.name
    heading = Text(f"{target.plugin.kind} {printable(title)} ", style="bold")
    console.print(heading.append(f"({printable(str(target.plugin.path))})", style="not bold dim"), soft_wrap=True)
    results = _results(target, server, data_dir, console)
    if target.note:
        console.print(Text(f"  note    {printable(target.note)}", style="yellow"), soft_wrap=True)
    return results


def _results(target: Target, server: ForkServer, data_dir: Path, console: Console) -> list[Result]:
    current, results = "start", []

    def add(result: Result) -> None:
        results.append(result)
        _print(result, target.plugin, console)

    def see(event: Any) -> None:
        nonlocal current
        if isinstance(event, Started):
            current = event.check
            status.update(f"{event.check} ...")
        else:
            add(event)

    if target.choice is None:
        add(check_description(target.plugin))
        return results
    source = DataSource(target.choice, data_dir, default_cache_dir())
    with console.status("importing the backend ...") as status:
        try:
            server.run(check_in_fork, _subject(target.choice, source), on_event=see, place=NO_GPU)
        except (WorkDiedError, WorkFailedError, ServerDiedError) as error:
            add(Result(current, (Finding(f"this check did not end: {error}"),)))
    return results


def _subject(choice: PluginChoice, source: DataSource) -> PluginChoice | DataSource:
    return source if choice.plugin.kind == "dataset" else choice


def _print(result: Result, plugin: Plugin, console: Console) -> None:
    line = Text("  wrong   ", style="bold red") if result.findings else Text("  ok      ", style="green")
    line.append(f"{result.check:<{WIDTH}}" if result.note else result.check, style="not bold default")
    console.print(line.append(printable(result.note), style="not bold dim"), soft_wrap=True)
    for finding in result.findings:
        _print_finding(finding, plugin, console)


def _print_finding(finding: Finding, plugin: Plugin, console: Console) -> None:
    where = f"{plugin.path}:{finding.line}" if finding.line else f"{plugin.path}"
    message = printable(f"{where}: {finding.message}").replace("\n", f"\n{INDENT}  ")
    console.print(Text(f"{INDENT}{message}"), soft_wrap=True)
    if finding.mend:
        console.print(Text(f"{INDENT}-> {printable(finding.mend)}", style="cyan"), soft_wrap=True)
