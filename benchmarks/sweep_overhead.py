"""Wall time of a sweep of twelve short trials: `bench run`, twelve plain scripts, and a benchopt benchmark.

The grid is two architectures times six seeds on scikit-learn's digits, five epochs of SGD at batch 32. Each side trains
the same networks on the same 1,437 images and scores the same 360 test images; no weights are kept. The clock runs from
a side's first process being started until its last one has ended. Sides take turns.

- bench: one command. A process a trial, forked from one that has imported TensorFlow. Beside accuracy it computes NLL,
  calibration and a confusion matrix, and it keeps logits, history and record of each trial and writes the leaderboard.
- scripts: plain_trial.py, once for each trial. Each imports TensorFlow.
- benchopt: benchopt_digits/, with the same Keras code as the scripts, all trials in one process, without its cache,
  plots and HTML, which would only cost it time.

The mean test accuracies, printed beside the seconds, show that the sides train alike; orders and weights are drawn
differently, so they agree only roughly.

Targets: bench at most 0.22 times the scripts' time, and at most 1.0 times benchopt's.

    python benchmarks/sweep_overhead.py --rounds 5 --json sweep.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from common import (
    Bound,
    add_output,
    machine,
    make_parser,
    paired,
    positive,
    print_machine,
    run_bench,
    run_command,
    run_python,
    show_bound,
    spread,
    write_json,
)

from bench.records import Status
from bench.store import Store

SCRIPTS = Path(__file__).parent
ARCHITECTURES = ("baseline_cnn", "baseline_cnn_bn")
BOUNDS = (Bound("bench", "scripts", 0.22), Bound("bench", "benchopt", 1.0))


@dataclass(frozen=True)
class Sweep:
    """One side's sweep: seconds from beginning to end, and the mean test accuracy of its trials."""

    seconds: float
    accuracy: float


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    print_machine()
    run_bench("prepare", "digits", "--quiet")
    with tempfile.TemporaryDirectory(prefix="bench-sweep-") as folder:
        measured = measure(arguments, Path(folder))
    seconds = {side: [sweep.seconds for sweep in sweeps] for side, sweeps in measured.items()}
    for side, sweeps in measured.items():
        accuracy = statistics.mean(sweep.accuracy for sweep in sweeps)
        print(f"{side:<9} {spread(seconds[side], 1)} s, n = {len(sweeps)}; mean test accuracy {accuracy:.3f}")
    for bound in BOUNDS:
        show_bound(bound, seconds)
    if arguments.json:
        write_json(arguments.json, summarize(arguments, measured, seconds))


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="runs of each side (default 3)")
    parser.add_argument("--seeds", type=positive, default=6, metavar="N", help="of each architecture (default 6)")
    parser.add_argument("--epochs", type=positive, default=5, metavar="N", help="of each trial (default 5)")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="default 32")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="default: all")
    add_output(parser)
    return parser.parse_args()


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, list[Sweep]]:
    """Return the sweeps of each side, printing them as they come."""
    measured: dict[str, list[Sweep]] = {side: [] for side in arguments.sides}
    for number in range(arguments.rounds):
        for side in list(measured)[:: -1 if number % 2 else 1]:
            own = folder / f"{side}-{number}"
            own.mkdir()
            sweep = time_sweep(side, arguments, own)
            measured[side].append(sweep)
            print(f"  {number + 1}/{arguments.rounds} {side}: {sweep.seconds:.1f} s", flush=True)
    return measured


def time_sweep(side: str, arguments: argparse.Namespace, folder: Path) -> Sweep:
    """Run one side's sweep, and make sure that all of its trials ended well."""
    run, read_accuracies = SIDES[side]
    start = time.perf_counter()
    run(arguments, folder)
    seconds = time.perf_counter() - start
    accuracies, expected = read_accuracies(folder), len(ARCHITECTURES) * arguments.seeds
    if len(accuracies) != expected:
        raise SystemExit(f"{side}: {len(accuracies)} trials ended well, expected {expected}")
    return Sweep(seconds, statistics.mean(accuracies))


def run_suite(arguments: argparse.Namespace, folder: Path) -> None:
    """Run the sweep with bench."""
    run_bench(
        *(
            "run",
            "--arch",
            *ARCHITECTURES,
            "--dataset",
            "digits",
            "--seeds",
            str(arguments.seeds),
            "--measure",
            "basic",
        ),
        *("--recipe", "document", "--epochs", str(arguments.epochs), "--batch-size", str(arguments.batch_size)),
        *("--precision", "float32", "--results", str(folder)),
    )


def suite_accuracies(folder: Path) -> list[float]:
    """Return what bench's records say."""
    return [each.metrics["test_accuracy"] for each in Store(folder).records() if each.status == Status.OK]


def run_scripts(arguments: argparse.Namespace, folder: Path) -> None:
    """Run a script for each trial, one after another."""
    for architecture, seed in product(ARCHITECTURES, range(arguments.seeds)):
        run_python(
            *(str(SCRIPTS / "plain_trial.py"), "--architecture", architecture, "--seed", str(seed)),
            *("--epochs", str(arguments.epochs), "--batch-size", str(arguments.batch_size)),
            *("--json", str(folder / f"{architecture}-{seed}.json")),
        )


def script_accuracies(folder: Path) -> list[float]:
    """Return what the scripts wrote."""
    return [json.loads(path.read_text())["accuracy"] for path in folder.glob("*.json")]


def run_benchopt(arguments: argparse.Namespace, folder: Path) -> None:
    """Run the sweep with benchopt."""
    grid = f"seed={list(range(arguments.seeds))},epochs={arguments.epochs},batch_size={arguments.batch_size}"
    run_command(
        *(sys.executable, "-m", "benchopt", "run", str(SCRIPTS / "benchopt_digits"), "-s", f"keras[{grid}]"),
        *("--no-cache", "--no-plot", "--no-html", "--n-repetitions", "1", "--no-timeout"),
        *("--output", str(folder / "results.parquet")),
        environment={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    )


def benchopt_accuracies(folder: Path) -> list[float]:
    """Return what benchopt wrote."""
    import pandas as pd

    return [float(value) for value in pd.read_parquet(folder / "results.parquet")["objective_accuracy"]]


SIDES: Mapping[str, tuple[Callable[[argparse.Namespace, Path], None], Callable[[Path], Sequence[float]]]] = {
    "bench": (run_suite, suite_accuracies),
    "benchopt": (run_benchopt, benchopt_accuracies),
    "scripts": (run_scripts, script_accuracies),
}


def summarize(
    arguments: argparse.Namespace, measured: Mapping[str, Sequence[Sweep]], seconds: Mapping[str, Sequence[float]]
) -> dict[str, object]:
    """Return everything as plain values."""
    return {
        "machine": machine(),
        "settings": {name: getattr(arguments, name) for name in ("rounds", "seeds", "epochs", "batch_size")},
        "sides": {side: [asdict(sweep) for sweep in sweeps] for side, sweeps in measured.items()},
        "ratios": [{**asdict(bound), "ratios": paired(bound, seconds)} for bound in BOUNDS],
    }


if __name__ == "__main__":
    main()
