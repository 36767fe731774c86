"""What each command does. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse

from bench.cli.inputs import plugin_kinds, settings_of, sources_of, sweep_of
from bench.literals import format_literal
from bench.plugins import FOLDERS, Plugin, discover


def run(arguments: argparse.Namespace) -> int:
    """Run a sweep and report; `bench run --help` explains the exit code."""
    from bench.execution.server import ForkServer

    sweep = sweep_of(arguments)
    settings = settings_of(arguments, sweep.settings)
    if settings.engine == "local" and not arguments.dry_run:
        for backend in {each.backend for each in sweep.combinations}:
            ForkServer(backend).start()  # it imports the backend while this process imports all else and plans
    from bench.cli.run import run_sweep

    return run_sweep(sweep, settings, arguments)


def report(arguments: argparse.Namespace) -> int:
    """Make the tables anew from the records, and print the leaderboard."""
    from bench.archive import read_records
    from bench.cli.console import print_leaderboard, sound_records
    from bench.report.files import write_report
    from bench.store import Store

    records = sound_records(read_records(arguments.results), arguments.results)
    Store(arguments.results).check_writable()
    print_leaderboard(write_report(arguments.results, records), arguments.results)
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Show what every `bench run` at work on a results folder is at."""
    from bench.cli.status import show_status

    return show_status(arguments)


def compare(arguments: argparse.Namespace) -> int:
    """Say which architecture is more accurate, as far as the records can tell."""
    from bench.cli.compare import compare_architectures

    return compare_architectures(arguments)


def prepare(arguments: argparse.Namespace) -> int:
    """Download and cache data sets."""
    from bench.cli.progress import prepare_progress, print_notes
    from bench.execution.planning import prepare_sources
    from bench.execution.server import ForkServer

    sources = sources_of(arguments.datasets, arguments.plugins, arguments.data_dir)
    with prepare_progress(arguments.quiet) as progress:
        prepared = prepare_sources(sources.values(), ForkServer(), progress)
    print_notes(prepared)
    if not arguments.quiet:
        for source in sources.values():
            info = prepared[source.choice.label].info
            counts = ", ".join(f"{count:,} {split}" for split, count in info.counts.items())
            size = "×".join(map(str, info.image_shape))
            print(f"{source.choice.label}: {counts} images of {size}, {len(info.class_names)} classes; ready")
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Hold plugins against the contract; exit code 1 where something is to be mended."""
    from bench.cli.check import check_plugins

    return check_plugins(arguments)


def new(arguments: argparse.Namespace) -> int:
    """Write a plugin to begin with."""
    from bench.cli.new import write_plugin

    return write_plugin(arguments)


def list_plugins(arguments: argparse.Namespace) -> int:
    """Print the plugins, broken ones with their error; exit code 1 where one is broken."""
    broken = False
    for kind in plugin_kinds(arguments.kind):
        print(f"{FOLDERS[kind]}:")
        for _, plugin in sorted(discover(kind, arguments.plugins).plugins.items()):
            _print_plugin(plugin)
            broken |= bool(plugin.error)
    return int(broken)


def _print_plugin(plugin: Plugin) -> None:
    if plugin.error:
        print(f"  {plugin.name:<20} BROKEN: {plugin.path}: {plugin.error}")
        return
    print(f"  {plugin.name:<20} {plugin.summary}")
    for line in _facts(plugin):
        print(f"  {'':<20} {line}")


def _facts(plugin: Plugin) -> list[str]:
    """Return what else a reader wants to know of a plugin, a line a fact."""
    pairs = ", ".join(f"{key}={format_literal(value)}" for key, value in plugin.parameters.items())
    facts = {"parameters": pairs}
    if plugin.kind == "architecture":
        facts["paper"] = plugin.info.paper
    else:
        facts["download"] = plugin.info.download_size
        facts["license"] = plugin.info.license
    return [f"{name}: {value}" for name, value in facts.items() if value]


def doctor(arguments: argparse.Namespace) -> int:
    """Print what this machine offers; exit code 1 where TensorFlow, or another installed backend, cannot be used."""
    from bench.cli.doctor import examine

    return examine(arguments)
