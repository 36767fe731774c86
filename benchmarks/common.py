"""What the benchmark scripts share: medians with their spread, running bench, and saying which machine it was."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.cache import DataSource, default_cache_dir, find, open_splits
from bench.data.tfds import default_data_dir
from bench.environment import cpu_name, package_versions, usable_cores
from bench.plugins import discover

PEERS = ("torch", "jax", "benchopt")  # what the scripts run that bench does not need
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


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")


def positive(text: str) -> int:
    """Read a whole number of at least 1 from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def print_machine() -> None:
    """Print what the figures below were measured on, and how busy it was before."""
    facts = machine()
    load = "" if facts["load_average"] is None else f", load average {facts['load_average']:.2f}"
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    print(f"{facts['cpu']}, {facts['cores']} cores{load}\n{packages}", flush=True)


def machine() -> dict[str, Any]:
    """Return processor, cores, load average of the last minute and versions, as plain values."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "packages": {**package_versions("tensorflow"), **peer_versions()},
    }


def peer_versions() -> dict[str, str]:
    """Return the versions of those packages of the group `peers` that are installed."""
    found = {}
    for name in PEERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return `median (min to max)`."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


@dataclass(frozen=True)
class Bound:
    """How many times as long as a peer a side may take."""

    side: str
    peer: str
    most: float


def paired(bound: Bound, seconds: Mapping[str, Sequence[float]]) -> list[float]:
    """Return the ratio of each round; none where one of the two sides did not run."""
    if bound.side not in seconds or bound.peer not in seconds:
        return []
    return [side / peer for side, peer in zip(seconds[bound.side], seconds[bound.peer], strict=True)]


def show_bound(bound: Bound, seconds: Mapping[str, Sequence[float]]) -> None:
    """Print the ratios of a bound whose sides ran, and whether their median keeps it."""
    if ratios := paired(bound, seconds):
        wanted = target(f"at most {bound.most:g}", statistics.median(ratios) <= bound.most)
        print(f"{bound.side} / {bound.peer}: {spread(ratios, 3)}, n = {len(ratios)}; {wanted}")


def target(text: str, met: bool) -> str:
    """Return a line that holds a figure against its target. Informs only: timings are never asserted."""
    return f"target {text}: {'met' if met else 'missed'}"


def data_source(reference: str, data_dir: Path | None) -> DataSource:
    """Return a data set, named as on bench's command line, with the folders that bench would use."""
    folder = (data_dir or default_data_dir()).expanduser()
    return DataSource(discover("dataset").choose(reference), folder, default_cache_dir())


def save_arrays(reference: str, data_dir: Path | None, path: Path) -> None:
    """Write the decoded images of a prepared data set into an .npz file, for scripts that do without bench.

    It holds `images` uint8 (images, H, W, C) and `labels` int64 (images,), and likewise `test_images`, `test_labels`.
    """
    source = data_source(reference, data_dir)
    prepared = find(source)
    if prepared is None:
        raise SystemExit(f"{reference} is not in the cache yet; run `bench prepare {reference}` first.")
    splits = open_splits(source, prepared)
    arrays: dict[str, Any] = {"images": splits.train.images, "test_images": splits.test.images}
    np.savez(path, **arrays, labels=splits.train.labels, test_labels=splits.test.labels)


def data_dir_arguments(data_dir: Path | None) -> list[str]:
    """Return the folder as arguments for a command; none for the default folder."""
    return [] if data_dir is None else ["--data-dir", str(data_dir)]


def run_bench(*arguments: str) -> None:
    """Run a `bench` command; where it fails, end with what it printed."""
    run_python("-m", "bench", *arguments)


def run_python(*arguments: str) -> str:
    """Run this Python and return its standard output; where it fails, end with what it printed."""
    return run_command(sys.executable, *arguments)


def run_command(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return its standard output; where it fails, end with what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nexit code {done.returncode}\n{(done.stdout + done.stderr)[-TAIL:]}")
    return done.stdout


def write_json(path: Path, value: Any) -> None:
    """Write plain values as a JSON file."""
    path.write_text(json.dumps(value, indent=1) + "\n")
