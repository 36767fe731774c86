"""`bench doctor`: what this machine offers, and what would be used of it."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from bench.cli.console import make_console
from bench.cli.inputs import data_dir
from bench.data.cache import DataSource, default_cache_dir, peek
from bench.data.tfds import on_disk
from bench.environment import Device, cpu_name, describe, find_gpus, resolve_precision
from bench.errors import BenchError
from bench.execution.devices import resolve_device
from bench.execution.server import ForkServer
from bench.plugins import PluginChoice, discover


def examine(arguments: argparse.Namespace) -> int:
    """Print a table of facts. Returns 1 where TensorFlow cannot be used, else 0."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    problem = _add_device(table)
    folder, cache = data_dir(arguments), default_cache_dir()
    table.add_row("data directory", f"{folder}: {', '.join(on_disk(folder)) or 'no data sets'}")
    table.add_row("data cache", f"{cache}: {_cached(arguments)}")
    table.add_row("free disk", f"{shutil.disk_usage(_existing(folder)).free / 1e9:,.1f} GB at the data directory")
    make_console().print(table)
    return int(problem)


def _add_device(table: Table) -> bool:
    with ForkServer() as server:
        try:
            server.check()
            device = resolve_device(server)
            backend, problem = "can be used", False
        except BenchError as error:
            device = Device("CPU", cpu_name())
            backend, problem = f"cannot be used: {error}", True
    environment = describe(device)
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    gpus = ", ".join(f"{gpu.name} ({gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in find_gpus())
    for name, value in (
        ("bench", f"{environment.bench} {environment.commit}"),
        ("Python", f"{environment.python} on {environment.os}"),
        ("packages", packages),
        ("TensorFlow", backend),
        ("processor", f"{environment.cpu}, {environment.cores} cores, {environment.memory_bytes / 2**30:.0f} GiB"),
        ("GPUs", gpus or "none that NVML sees"),
        ("trials run on", f"{device.kind} {device.name} {device.note}"),
        ("auto precision", resolve_precision("auto", device)),
    ):
        table.add_row(name, escape(value))
    return problem


def _cached(arguments: argparse.Namespace) -> str:
    """Return the data sets that are in the cache with their default parameters."""
    names = []
    for name, plugin in sorted(discover("dataset", arguments.plugins).plugins.items()):
        try:
            source = DataSource(PluginChoice(plugin, plugin.parameters), data_dir(arguments), default_cache_dir())
            if not plugin.error and peek(source) is not None:
                names.append(name)
        except BenchError as error:
            names.append(f"{name} (damaged: {error})")
    return escape(", ".join(names)) or "no data sets"


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
