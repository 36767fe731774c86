"""How long CIFAR-10 takes to open from bench's cache, once it has been prepared, against reading it through TFDS.

The cache holds decoded, memory-mapped arrays; TFDS decodes 60,000 PNGs each time. Each side runs in fresh processes, in
turn; importing is not counted. Opening is `find` and `open_splits` of bench.data.cache and a look at each split's first
and last image. Since a memory map reads nothing until it is touched, touching every page once is measured too.

Target: opening takes at most 0.5 s.

    python benchmarks/data_open.py --data-dir DIR
    python benchmarks/data_open.py --data-dir DIR --side cache      one side, once, in this process
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from common import (
    add_data_dir,
    data_dir_arguments,
    data_source,
    make_parser,
    positive,
    print_machine,
    run_bench,
    run_python,
    spread,
    target,
)

from bench.data.cache import find, open_splits

TARGET_SECONDS = 0.5
LABELS = {
    "open": "bench: opening from the cache",
    "touch": "bench: touching every page after that",
    "read": "TFDS: reading and decoding",
}


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.data_dir)))
        return
    print_machine()
    seconds = measure(arguments)
    for name, label in LABELS.items():
        print(f"{label:<38} {spread(seconds[name], 3)} s, n = {len(seconds[name])}")
    print(target(f"opening at most {TARGET_SECONDS} s", statistics.median(seconds["open"]) <= TARGET_SECONDS))


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=positive, default=5, metavar="N", help="runs of each side (default 5)")
    parser.add_argument("--side", choices=list(SIDES), help="run one side once, and print its seconds as JSON")
    add_data_dir(parser)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of each thing that is timed, from fresh processes."""
    folder = data_dir_arguments(arguments.data_dir)
    run_bench("prepare", "cifar10", "--quiet", *folder)  # so that every opening is at least the second one
    seconds: dict[str, list[float]] = {name: [] for name in LABELS}
    for _ in range(arguments.runs):
        for side in SIDES:
            for name, value in json.loads(run_python(__file__, "--side", side, *folder)).items():
                seconds[name].append(value)
    return seconds


def open_cache(data_dir: Path | None) -> dict[str, float]:
    """Open the prepared data set, and return the seconds of opening and of touching every page."""
    source = data_source("cifar10", data_dir)
    start = time.perf_counter()
    prepared = find(source)
    if prepared is None:
        raise SystemExit("CIFAR-10 is not in the cache yet; run `bench prepare cifar10` first.")
    splits = open_splits(source, prepared).named().values()
    for split in splits:
        int(split.images[0].sum() + split.images[-1].sum())
    opened = time.perf_counter()
    for split in splits:
        int(split.images[:, 0, 0, 0].sum())  # an image is 3 kB, less than a page
    return {"open": opened - start, "touch": time.perf_counter() - opened}


def read_tfds(data_dir: Path | None) -> dict[str, float]:
    """Read all images through TFDS, and return the seconds."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tf.constant(0)  # TensorFlow's own start is not counted
    start = time.perf_counter()
    splits = tfds.load("cifar10", split=["train", "test"], batch_size=-1, data_dir=data_dir, download=False)
    for split in splits:
        split["image"].numpy()
    return {"read": time.perf_counter() - start}


SIDES: dict[str, Callable[[Path | None], dict[str, float]]] = {"cache": open_cache, "tfds": read_tfds}


if __name__ == "__main__":
    main()
