"""Images/s of bench's input from stored JPEGs, against PyTorch's DataLoader and Google's Grain with Pillow.

All sides make batches of random resized crops of the same images, mirrored half of the time, as uint8; nothing is
trained. The data is made for it: JPEGs of about 500x375 pixels in the layout of TFDS's `imagenet2012` (jpegs.py; about
0.07 MB each). Each side is a process of its own, and they take turns, in reversed order every other round: only the
ratios within a round count. The first batches are not timed, and all sides go on for some batches after the last timed
one, so that what lies in their buffers at the beginning is not counted for nothing. Beside the speed stand the
processor's milliseconds per image, of a side with all its threads and processes; they move less with a machine's load.

Target: bench at least 1.5 times as fast as the DataLoader with two worker processes.

    python benchmarks/input_pipeline.py --json input.json
    python benchmarks/input_pipeline.py --sides bench torch --rounds 7
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import jpegs
import psutil
from common import (
    add_output,
    machine,
    make_parser,
    positive,
    print_machine,
    run_python,
    spread,
    target,
    write_json,
)
from input_sides import SIDES, Task

TARGET_PEER, TARGET_RATIO = "torch", 1.5
CLASSES = 10
WARM_UP, TAIL = 20, 16  # batches before and after those that are timed


@dataclass(frozen=True)
class Measured:
    """One run of a side; the processor's seconds are those of all its threads and processes."""

    images_per_second: float
    cpu_seconds_per_image: float


Runs = Mapping[str, Sequence[Measured]]  # of each side, one a round


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    if arguments.side:
        print(json.dumps(asdict(measure_side(arguments))))
        return
    print_machine()
    if any(name.startswith("grain") for name in arguments.sides):
        print(f"grain {metadata.version('grain')}", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-jpegs-") as folder:
        arguments.data_dir = arguments.data_dir or make_data(Path(folder), arguments.images)
        runs = measure(arguments)
    show(runs)
    if arguments.json:
        write_json(arguments.json, summarize(arguments, runs))


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="runs of each side (default 5)")
    parser.add_argument("--images", type=positive, default=2_000, metavar="N", help="JPEGs to make (default 2000)")
    parser.add_argument("--batches", type=positive, default=100, metavar="N", help="timed in each run (default 100)")
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="default 64")
    parser.add_argument("--size", type=positive, default=224, metavar="PIXELS", help="of the crops (default 224)")
    parser.add_argument("--workers", type=positive, default=2, metavar="N", help="of the peers (default 2)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="a TFDS data directory with imagenet2012 to use")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), metavar="NAME", help="default: all")
    parser.add_argument("--side", choices=SIDES, help="run one side once in this process, and print its images/s")
    add_output(parser)
    return parser.parse_args()


def make_data(folder: Path, count: int) -> Path:
    """Write the images and return the TFDS data directory."""
    splits = {"train": jpegs.examples(count, CLASSES), "validation": jpegs.examples(CLASSES, CLASSES, seed=1)}
    made = jpegs.write(folder, splits, CLASSES)
    size = sum(path.stat().st_size for path in made.glob("*train*")) / count / 1e3
    print(f"{count} JPEGs of {size:.0f} kB on average", flush=True)
    return folder


def measure_side(arguments: argparse.Namespace) -> Measured:
    """Run one side and return what was measured of its timed batches."""
    batches = WARM_UP + arguments.batches + TAIL
    task = Task(arguments.data_dir, arguments.size, arguments.batch_size, batches, arguments.workers)
    made = SIDES[arguments.side](task)
    for _ in itertools.islice(made, WARM_UP):
        pass
    start, cpu = time.perf_counter(), cpu_seconds()
    count = sum(len(images) for images in itertools.islice(made, arguments.batches))
    return Measured(count / (time.perf_counter() - start), (cpu_seconds() - cpu) / count)


def cpu_seconds() -> float:
    """Return what this process and those it has started have used of the processor."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def measure(arguments: argparse.Namespace) -> Runs:
    """Return the runs of each side, printing them as they come."""
    runs: dict[str, list[Measured]] = {name: [] for name in SIDES if name in arguments.sides}
    settings = ("batches", "batch_size", "size", "workers", "data_dir")
    options = [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in settings]
    for number in range(arguments.rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            given = Measured(**json.loads(run_python(__file__, "--side", name, *options).splitlines()[-1]))
            runs[name].append(given)
            print(f"  {number + 1}/{arguments.rounds} {name}: {given.images_per_second:,.0f} images/s", flush=True)
    return runs


def ratios(runs: Runs) -> dict[str, list[float]]:
    """Return bench's speed over each peer's, round by round; nothing without bench."""
    if "bench" not in runs:
        return {}
    return {
        name: [ours.images_per_second / peer.images_per_second for ours, peer in zip(runs["bench"], peers, strict=True)]
        for name, peers in runs.items()
        if name != "bench"
    }


def show(runs: Runs) -> None:
    """Print the medians with their spread, the ratios and the target."""
    for name, measured in runs.items():
        speed = spread([each.images_per_second for each in measured], 0)
        cpu = spread([1_000 * each.cpu_seconds_per_image for each in measured])
        print(f"{name:<14} {speed:>28} images/s, {cpu} ms of the processor an image, n = {len(measured)}")
    for name, found in ratios(runs).items():
        wanted = target(f"at least {TARGET_RATIO}", statistics.median(found) >= TARGET_RATIO)
        print(f"bench / {name:<14} {spread(found)}{f'; {wanted}' if name == TARGET_PEER else ''}")


def summarize(arguments: argparse.Namespace, runs: Runs) -> dict[str, object]:
    """Return everything as plain values."""
    settings = ("rounds", "images", "batches", "batch_size", "size", "workers")
    found = ratios(runs)
    return {
        "machine": machine(),
        "grain": metadata.version("grain"),
        "settings": {name: getattr(arguments, name) for name in settings},
        "runs": {name: [asdict(each) for each in measured] for name, measured in runs.items()},
        "ratios": found,
        "median_ratios": {name: statistics.median(each) for name, each in found.items()},
    }


if __name__ == "__main__":
    main()
