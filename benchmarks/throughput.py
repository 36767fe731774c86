"""Steady training images/s of `bench run` against a bare Keras script doing the same work, and bench's peak memory.

Both train `baseline_cnn` on CIFAR-10 with the text's recipe at batch 128 in float32; a second variant adds the standard
recipe's augmentation (random crops and flips) on both sides. bench is run as a user runs it, and its speed is read from
its record; the peer is bare_keras.py. Neither counts the import, the first steps (which trace the network), or the
evaluation; both wait for their input. Each side is a process of its own, and the two take turns: a machine's load moves
both figures, so only the ratio of each pair counts.

Targets: bench at least 0.95 times as fast; peak memory of bench at most 2.5 GB.

    python benchmarks/throughput.py --data-dir DIR
    python benchmarks/throughput.py --data-dir DIR --tune 1 16      which setting suits the bare script best here
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
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
    write_json,
)

from bench.data.cache import find, open_splits
from bench.store import Store

TARGET_RATIO = 0.95
TARGET_BYTES = 2.5e9
ARRAYS = "arrays.npz"
BARE_SCRIPT = Path(__file__).with_name("bare_keras.py")
AUGMENTATION = {  # of each variant: overrides of bench's recipe, and arguments of the bare script
    "plain": ([], []),
    "augmented": (["crop_padding=0.125", "flip=true"], ["--augment"]),
}


@dataclass(frozen=True)
class Run:
    """What one side's process measured."""

    images_per_second: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Pair:
    """One round: bench, and the bare script right after it."""

    bench: Run
    bare: Run

    @property
    def ratio(self) -> float:
        """How many times as fast bench is."""
        return self.bench.images_per_second / self.bare.images_per_second


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    print_machine()
    run_bench("prepare", "cifar10", "--quiet", *data_dir_arguments(arguments.data_dir))
    with tempfile.TemporaryDirectory(prefix="bench-throughput-") as folder:
        save_arrays(arguments.data_dir, Path(folder))
        if arguments.tune:
            tune(arguments, Path(folder))
            return
        pairs = measure(arguments, Path(folder))
    for variant, measured in pairs.items():
        show(variant, measured)
    if arguments.json:
        settings = {"epochs": arguments.epochs, "batch_size": arguments.batch_size}
        write_json(arguments.json, {**settings, "variants": summarize(pairs)})


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="pairs of each variant (default 5)")
    parser.add_argument("--epochs", type=positive, default=3, metavar="N", help="epochs of each run (default 3)")
    parser.add_argument("--batch-size", type=positive, default=128, metavar="N", help="default 128")
    parser.add_argument(
        "--variants", nargs="+", choices=list(AUGMENTATION), default=list(AUGMENTATION), help="default: both"
    )
    parser.add_argument(
        "--drop-remainder", action="store_true", help="both sides leave out an epoch's last, smaller batch"
    )
    parser.add_argument(
        "--steps-per-execution", type=positive, metavar="N", help="of the bare script (default: its own)"
    )
    parser.add_argument(
        "--tune", nargs="+", type=positive, metavar="N", help="compare these steps per execution of the bare script"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    add_data_dir(parser)
    return parser.parse_args()


def save_arrays(data_dir: Path | None, folder: Path) -> None:
    """Write the decoded images for the bare script, so that each of its runs starts alike, from the same images."""
    source = data_source("cifar10", data_dir)
    prepared = find(source)
    assert prepared is not None  # `bench prepare` ran before
    train = open_splits(source, prepared).train
    np.savez(folder / ARRAYS, images=train.images, labels=train.labels)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, list[Pair]]:
    """Return each variant's pairs, printing them as they come."""
    pairs: dict[str, list[Pair]] = {variant: [] for variant in arguments.variants}
    for number in range(arguments.rounds):
        for variant in arguments.variants:
            bench = run_suite(arguments, variant, folder / f"results-{variant}-{number}")
            bare = run_bare(arguments, variant, folder, arguments.steps_per_execution)
            pair = Pair(bench, bare)
            pairs[variant].append(pair)
            speeds = f"bench {bench.images_per_second:,.0f}, bare {bare.images_per_second:,.0f} images/s"
            print(f"  {number + 1}/{arguments.rounds} {variant}: {speeds}, ratio {pair.ratio:.3f}", flush=True)
    return pairs


def run_suite(arguments: argparse.Namespace, variant: str, results: Path) -> Run:
    """Train with `bench run`, and return what its record says."""
    overrides = [*AUGMENTATION[variant][0], f"drop_remainder={str(arguments.drop_remainder).lower()}"]
    run_bench(
        *("run", "--arch", "baseline_cnn", "--dataset", "cifar10", "--recipe", "document", "--precision", "float32"),
        *("--batch-size", str(arguments.batch_size), "--epochs", str(arguments.epochs), "--set", *overrides),
        *("--results", str(results), *data_dir_arguments(arguments.data_dir)),
    )
    (record,) = Store(results).records()
    return Run(record.metrics["train_images_per_second"], record.metrics["peak_memory_bytes"])


def run_bare(arguments: argparse.Namespace, variant: str, folder: Path, steps_per_execution: int | None) -> Run:
    """Train with the bare script, and return what it says."""
    answer = folder / "bare.json"
    options = [*AUGMENTATION[variant][1], *data_dir_arguments(arguments.data_dir)]
    if arguments.drop_remainder:
        options.append("--drop-remainder")
    if steps_per_execution is not None:
        options += ["--steps-per-execution", str(steps_per_execution)]
    run_python(
        *(str(BARE_SCRIPT), "--json", str(answer), "--arrays", str(folder / ARRAYS)),
        *("--batch-size", str(arguments.batch_size), "--epochs", str(arguments.epochs), *options),
    )
    return Run(**json.loads(answer.read_text()))


def tune(arguments: argparse.Namespace, folder: Path) -> None:
    """Print the bare script's speed with each number of steps per execution, measured in turn."""
    speeds: dict[int, list[float]] = {steps: [] for steps in arguments.tune}
    for _ in range(arguments.rounds):
        for steps, measured in speeds.items():
            measured.append(run_bare(arguments, arguments.variants[0], folder, steps).images_per_second)
    for steps, measured in speeds.items():
        print(f"bare, {steps} steps per execution: {spread(measured, 0)} images/s, n = {len(measured)}")


def show(variant: str, pairs: Sequence[Pair]) -> None:
    """Print one variant's figures."""
    ratios = [pair.ratio for pair in pairs]
    memory = [pair.bench.peak_memory_bytes / 1e9 for pair in pairs]
    met = statistics.median(ratios) >= TARGET_RATIO, max(memory) <= TARGET_BYTES / 1e9
    print(f"{variant}, n = {len(pairs)}")
    print(f"  bench       {spread([pair.bench.images_per_second for pair in pairs], 0)} images/s")
    print(f"  bare Keras  {spread([pair.bare.images_per_second for pair in pairs], 0)} images/s")
    print(f"  ratio       {spread(ratios, 3)}; {target(f'at least {TARGET_RATIO}', met[0])}")
    print(f"  peak memory {spread(memory)} GB; {target(f'at most {TARGET_BYTES / 1e9} GB', met[1])}")
    print(f"  (bare Keras {spread([pair.bare.peak_memory_bytes / 1e9 for pair in pairs])} GB)")


def summarize(pairs: dict[str, list[Pair]]) -> dict[str, object]:
    """Return every pair, and the median of their ratios, as plain values."""
    return {
        variant: {
            "pairs": [{**asdict(pair), "ratio": pair.ratio} for pair in measured],
            "median_ratio": statistics.median(pair.ratio for pair in measured),
        }
        for variant, measured in pairs.items()
    }


if __name__ == "__main__":
    main()
