"""`bench doctor`: what this machine offers, and what would be used of it."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from bench.cli.console import make_console
from bench.cli.inputs import existing_data_dir
from bench.data.cache import DataSource, default_cache_dir, peek
from bench.data.tfds import on_disk
from bench.environment import (
    BACKENDS,
    Device,
    cpu_name,
    describe,
    find_gpus,
    package_versions,
    resolve_precision,
    usable_cores,
)
from bench.errors import BackendError, BenchError
from bench.execution.devices import matmul_peak, resolve_devices
from bench.execution.server import ForkServer, require_installed
from bench.execution.work import Place
from bench.plugins import PluginChoice, discover


def examine(arguments: argparse.Namespace) -> int:
    """Print a table of facts. Returns 1 where an installed backend, or TensorFlow, cannot be used, else 0."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    _add_facts(table)
    problems = [_add_backend(table, backend) for backend in BACKENDS]  # all of them: each adds its lines
    folder, cache = existing_data_dir(arguments.data_dir), default_cache_dir()
    table.add_row("data directory", f"{folder}: {', '.join(on_disk(folder)) or 'no data sets'}")
    table.add_row("data cache", f"{cache}: {_cached(arguments)}")
    table.add_row("free disk", f"{shutil.disk_usage(_existing(folder)).free / 1e9:,.1f} GB at the data directory")
    make_console().print(table)
    return int(any(problems))


def _add_facts(table: Table) -> None:
    environment = describe(Device("CPU", cpu_name()), "tensorflow")
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    gpus = ", ".join(f"{gpu.name} ({gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in find_gpus())
    for name, value in (
        ("bench", f"{environment.bench} {environment.commit}"),
        ("Python", f"{environment.python} on {environment.os}"),
        ("packages", packages),
        ("processor", f"{environment.cpu}, {environment.cores} cores, {environment.memory_bytes / 2**30:.0f} GiB"),
        ("GPUs", gpus or "none that NVML sees"),
    ):
        table.add_row(name, escape(value))


def _add_backend(table: Table, backend: str) -> bool:
    """Add what a backend can do here; return whether it cannot be used although it is installed, or is TensorFlow."""
    server, title = ForkServer(backend), BACKENDS[backend].title
    try:
        require_installed(backend)
    except BackendError:
        table.add_row(title, escape(f"not installed: {BACKENDS[backend].install}"))
        return backend == "tensorflow"
    try:
        server.check()
        device = resolve_devices(server)[0]
        version = package_versions(backend)[BACKENDS[backend].package]
        peaks = _peaks(server, device)
    except BenchError as error:
        table.add_row(title, escape(f"cannot be used: {error}"))
        return True
    table.add_row(title, escape(f"{version}, trains on {device.kind} {device.name} {device.note}"))
    table.add_row("", peaks)
    return False


def _peaks(server: ForkServer, device: Device) -> str:
    """Return the matrix-product peaks of the precisions that `auto` and a user would take here."""
    auto = resolve_precision("auto", device)
    precisions = dict.fromkeys(("float32", "mixed_bfloat16", auto))
    peaks = [f"{_peak(server, device, each)} {each}" for each in precisions]
    return f"matrix products: {', '.join(peaks)}; auto precision: {auto}"


def _peak(server: ForkServer, device: Device, precision: str) -> str:
    try:
        resolve_precision(precision, device)
    except BackendError:
        return "no"
    return f"{matmul_peak(server, device, precision, Place(), usable_cores()) / 1e9:,.0f} GFLOP/s"


def _cached(arguments: argparse.Namespace) -> str:
    """Return the data sets that are in the cache with their default parameters."""
    folder, names = existing_data_dir(arguments.data_dir), []
    for name, plugin in sorted(discover("dataset", arguments.plugins).plugins.items()):
        if plugin.error or plugin.info.argument:  # there is no folder: or tfds: without a path or name
            continue
        try:
            source = DataSource(PluginChoice(plugin, plugin.parameters), folder, default_cache_dir())
            if peek(source) is not None:
                names.append(name)
        except BenchError as error:
            names.append(f"{name} (damaged: {error})")
    return escape(", ".join(names)) or "no data sets"


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
