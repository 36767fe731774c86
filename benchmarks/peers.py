"""Steady training images/s of `bench run` against its peers: scripts in PyTorch, Keras, TensorFlow and JAX.

All train `baseline_cnn` on CIFAR-10 with SGD, without augmentation (unless the side says `augmented`), and leave out
imports, the first steps and the evaluation; all wait for their input. sides.py lists the sides, and the scripts say
what they are. Sides are processes of their own and take turns, in reversed order every other round: a machine's load
moves all of them, so only the ratios within a round count. Where a target names several peers, the one with the highest
median counts.

    python benchmarks/peers.py --data-dir DIR --rounds 3 --json peers.json
    python benchmarks/peers.py --data-dir DIR --sides bench-float32 tensorflow-bare-float32 --epochs 3
    python benchmarks/peers.py --data-dir DIR --save-arrays FILE.npz      for running a peer by hand
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common import (
    add_data_dir,
    add_output,
    data_dir_arguments,
    machine,
    make_parser,
    positive,
    print_machine,
    run_bench,
    save_arrays,
    spread,
    target,
    write_json,
)
from sides import SIDES, Measured, run_side

# Multiply-adds of one image: two convolutions and two dense layers. Training costs three times the forward pass.
MACS = 32 * 32 * 32 * (9 * 3) + 16 * 16 * 64 * (9 * 32) + (8 * 8 * 64) * 128 + 128 * 10
FLOPS = 3 * 2 * MACS
MOST_BYTES = 2.5e9  # of bench
Runs = Mapping[str, Sequence[Measured]]  # of each side, one a round


@dataclass(frozen=True)
class Target:
    """How many times as fast as the fastest of some peers bench is to be."""

    bench: str
    peers: tuple[str, ...]
    least: float


@dataclass(frozen=True)
class Ratio:
    """A target with what was measured: each round's ratio to the peer that was the fastest, and that of mean speeds."""

    target: Target
    peer: str
    ratios: tuple[float, ...]
    mean_ratios: tuple[float, ...]

    @property
    def met(self) -> bool:
        """Whether the median reaches the target."""
        return statistics.median(self.ratios) >= self.target.least


def _tensorflow_bare(precision: str) -> tuple[str, ...]:
    return tuple(f"tensorflow-bare-{precision}{suffix}" for suffix in ("", "-add", "-1", "-30"))


TARGETS = (
    Target("bench-float32", _tensorflow_bare("float32"), 0.98),
    Target("bench-bfloat16", _tensorflow_bare("bfloat16"), 0.98),
    Target("bench-float32", ("torch-usual",), 1.6),
    Target("bench-bfloat16", ("torch-usual",), 2.5),
    Target("bench-bfloat16", ("torch-tuned-bfloat16", "torch-compiled-bfloat16"), 1.8),
    Target("bench-jax", ("jax-bare", "jax-scan"), 0.95),
    Target("bench-torch", ("torch-eager-nchw", "torch-tuned-float32"), 0.90),
    Target("bench-float32", ("keras-fit", "keras-tuned"), 0.95),
    Target("bench-augmented", ("keras-augmented",), 0.95),
)


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    print_machine()
    run_bench("prepare", "cifar10", "--quiet", *data_dir_arguments(arguments.data_dir))
    if arguments.save_arrays:
        save_arrays("cifar10", arguments.data_dir, arguments.save_arrays)
        return
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as folder:
        arguments.arrays = Path(folder) / "arrays.npz"
        save_arrays("cifar10", arguments.data_dir, arguments.arrays)
        measured = measure(arguments, Path(folder))
    ratios = compare(measured)
    show(measured, ratios)
    if arguments.json:
        write_json(arguments.json, summarize(arguments, measured, ratios))


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="runs of each side (default 3)")
    parser.add_argument(
        "--epochs", type=positive, default=1, metavar="N", help="epochs of each run (default 1); slow peers make fewer"
    )
    parser.add_argument("--batch-size", type=positive, default=128, metavar="N", help="default 128")
    chosen = parser.add_mutually_exclusive_group()
    default = [name for name, side in SIDES.items() if not side.extra]
    chosen.add_argument(
        "--sides", nargs="+", choices=SIDES, default=default, metavar="NAME", help=f"of: {', '.join(SIDES)}"
    )
    chosen.add_argument(
        "--all", action="store_const", const=list(SIDES), dest="sides", help="also the sides left out by default"
    )
    parser.add_argument("--save-arrays", type=Path, metavar="FILE.npz", help="write the images, and do nothing else")
    add_output(parser)
    add_data_dir(parser)
    return parser.parse_args()


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, list[Measured]]:
    """Return the runs of each side, printing them as they come."""
    measured: dict[str, list[Measured]] = {name: [] for name in SIDES if name in arguments.sides}
    for number in range(arguments.rounds):
        for name in list(measured)[:: -1 if number % 2 else 1]:
            given = run_side(name, arguments, folder / f"{name}-{number}")
            measured[name].append(given)
            print(f"  {number + 1}/{arguments.rounds} {name}: {given.images_per_second:,.0f} images/s", flush=True)
    return measured


def speeds(runs: Sequence[Measured]) -> list[float]:
    """Return the images/s of each round."""
    return [each.images_per_second for each in runs]


def compare(measured: Runs) -> list[Ratio]:
    """Return the ratios of those targets whose sides ran."""
    ratios = []
    for each in TARGETS:
        peers = [peer for peer in each.peers if peer in measured]
        if each.bench in measured and peers:
            fastest = max(peers, key=lambda peer: statistics.median(speeds(measured[peer])))
            pairs = list(zip(measured[each.bench], measured[fastest], strict=True))
            medians = tuple(bench.images_per_second / peer.images_per_second for bench, peer in pairs)
            means = tuple(bench.mean_images_per_second / peer.mean_images_per_second for bench, peer in pairs)
            ratios.append(Ratio(each, fastest, medians, means))
    return ratios


def matmul_peaks(measured: Runs) -> dict[str, float]:
    """Return the best matrix product of any library and round, FLOP/s, for each precision that has one."""
    peaks: dict[str, float] = {}
    for name, runs in measured.items():
        precision = SIDES[name].precision
        for found in filter(None, (run.matmul_flops_per_second for run in runs)):
            peaks[precision] = max(found, peaks.get(precision, 0.0))
    return peaks


def show(measured: Runs, ratios: Sequence[Ratio]) -> None:
    """Print each side's speed, share of the matrix products' peak and memory, and each target."""
    peaks = matmul_peaks(measured)
    for precision, peak in peaks.items():
        print(f"best {precision} matrix product: {peak / 1e9:,.0f} GFLOP/s, {peak / FLOPS:,.0f} images/s")
    for name, runs in measured.items():
        speed = f"{spread(speeds(runs), 0):>28} images/s, n = {len(runs)}"
        print(f"{name:<27} {speed}{details(name, runs, peaks)}")
    for ratio in ratios:
        wanted = target(f"at least {ratio.target.least}", ratio.met)
        figures = (
            f"{spread(ratio.ratios, 3)}, n = {len(ratio.ratios)}, of means {statistics.median(ratio.mean_ratios):.3f}"
        )
        print(f"{ratio.target.bench} / {ratio.peer}: {figures}; {wanted}")
    of_bench = [runs for name, runs in measured.items() if not SIDES[name].script]
    if of_bench:
        memory = [each.peak_memory_bytes for runs in of_bench for each in runs]
        wanted = target(f"at most {MOST_BYTES / 1e9} GB", max(memory) <= MOST_BYTES)
        print(f"peak memory of bench: {max(memory) / 1e9:.2f} GB; {wanted}")


def details(name: str, runs: Sequence[Measured], peaks: Mapping[str, float]) -> str:
    """Return a side's peak memory, and its share of the matrix products' peak where that is known."""
    memory = f", {max(each.peak_memory_bytes for each in runs) / 1e9:.2f} GB"
    peak = peaks.get(SIDES[name].precision)
    return memory if peak is None else f"{memory}, {statistics.median(speeds(runs)) * FLOPS / peak:.0%} of the peak"


def summarize(arguments: argparse.Namespace, measured: Runs, ratios: Sequence[Ratio]) -> dict[str, object]:
    """Return everything as plain values."""
    return {
        "machine": machine(),
        "settings": {"epochs": arguments.epochs, "batch_size": arguments.batch_size, "rounds": arguments.rounds},
        "flops_per_image": FLOPS,
        "matmul_flops_per_second": matmul_peaks(measured),
        "sides": {name: [asdict(each) for each in runs] for name, runs in measured.items()},
        "ratios": [{**asdict(each), "median": statistics.median(each.ratios), "met": each.met} for each in ratios],
    }


if __name__ == "__main__":
    main()
