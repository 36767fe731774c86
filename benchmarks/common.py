"""What the benchmark scripts share: medians with their spread, running bench, and saying which machine it was."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.data.cache import DataSource, default_cache_dir
from bench.data.tfds import default_data_dir
from bench.environment import cpu_name, package_versions, usable_cores
from bench.plugins import discover

TAIL = 4_000  # characters of a failed command's output that are shown


def make_parser(docstring: str) -> argparse.ArgumentParser:
    """Return a parser whose help is the script's docstring."""
    return argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--data-dir`."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="TFDS data directory (default: TFDS_DATA_DIR or ~/tensorflow_datasets)",
    )


def positive(text: str) -> int:
    """Read a whole number of at least 1 from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def print_machine() -> None:
    """Print what the figures below were measured on, and how busy it was before."""
    packages = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    load = f", load average {os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else ""
    print(f"{cpu_name()}, {usable_cores()} cores{load}\n{packages}", flush=True)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return `median (min to max)`."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def target(text: str, met: bool) -> str:
    """Return a line that holds a figure against its target. Informs only: timings are never asserted."""
    return f"target {text}: {'met' if met else 'missed'}"


def data_source(reference: str, data_dir: Path | None) -> DataSource:
    """Return a data set, named as on bench's command line, with the folders that bench would use."""
    folder = (data_dir or default_data_dir()).expanduser()
    return DataSource(discover("dataset").choose(reference), folder, default_cache_dir())


def data_dir_arguments(data_dir: Path | None) -> list[str]:
    """Return the folder as arguments for a command; none for the default folder."""
    return [] if data_dir is None else ["--data-dir", str(data_dir)]


def run_bench(*arguments: str) -> None:
    """Run a `bench` command; where it fails, end with what it printed."""
    run_python("-m", "bench", *arguments)


def run_python(*arguments: str) -> str:
    """Run this Python and return its standard output; where it fails, end with what it printed."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nexit code {done.returncode}\n{(done.stdout + done.stderr)[-TAIL:]}")
    return done.stdout


def write_json(path: Path, value: Any) -> None:
    """Write plain values as a JSON file."""
    path.write_text(json.dumps(value, indent=1) + "\n")
