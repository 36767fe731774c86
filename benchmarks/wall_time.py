"""Wall time of a whole `bench run` on CIFAR-10, over that of a bare TensorFlow script doing the same.

Ten epochs of `baseline_cnn` with the recipe `document` at batch 128 (its own 32 would tell more of Python's overhead
and less of what a training costs), whole batches only, in float32, and the test images scored once. The clock runs from
the start of the process to its end, imports and everything else included. bench runs with `--measure basic`, from data
prepared before; the script, bare_tensorflow.py, reads the same images from an .npz file, keeps nothing, and imports no
Keras.

Target: bench takes at most 1.05 times as long.

    python benchmarks/wall_time.py --data-dir DIR --rounds 3 --json wall.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from common import (
    Bound,
    add_data_dir,
    add_output,
    data_dir_arguments,
    machine,
    make_parser,
    paired,
    positive,
    print_machine,
    run_bench,
    run_python,
    save_arrays,
    show_bound,
    spread,
    write_json,
)

BOUND = Bound("bench", "bare TensorFlow", 1.05)
IMAGES = 50_000  # of CIFAR-10's training part
BARE_SCRIPT = Path(__file__).with_name("bare_tensorflow.py")


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    print_machine()
    run_bench("prepare", "cifar10", "--quiet", *data_dir_arguments(arguments.data_dir))
    with tempfile.TemporaryDirectory(prefix="bench-wall-") as folder:
        save_arrays("cifar10", arguments.data_dir, Path(folder) / "arrays.npz")
        seconds = measure(arguments, Path(folder))
    for side, measured in seconds.items():
        print(f"{side:<15} {spread(measured, 1)} s, n = {len(measured)}")
    show_bound(BOUND, seconds)
    if arguments.json:
        settings = {name: getattr(arguments, name) for name in ("rounds", "epochs", "batch_size", "precision")}
        ratios = {**asdict(BOUND), "ratios": paired(BOUND, seconds)}
        write_json(arguments.json, {"machine": machine(), "settings": settings, "seconds": seconds, **ratios})


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="runs of each side (default 3)")
    parser.add_argument("--epochs", type=positive, default=10, metavar="N", help="default 10")
    parser.add_argument("--batch-size", type=positive, default=128, metavar="N", help="default 128")
    parser.add_argument("--precision", choices=["float32", "mixed_bfloat16"], default="float32", help="default float32")
    add_output(parser)
    add_data_dir(parser)
    return parser.parse_args()


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each side's runs, printing them as they come."""
    sides: dict[str, Callable[[argparse.Namespace, Path], None]] = {BOUND.side: run_suite, BOUND.peer: run_bare}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(arguments.rounds):
        for side in list(sides)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            sides[side](arguments, folder / f"results-{number}" if side == BOUND.side else folder / "arrays.npz")
            seconds[side].append(time.perf_counter() - start)
            print(f"  {number + 1}/{arguments.rounds} {side}: {seconds[side][-1]:.1f} s", flush=True)
    return seconds


def run_suite(arguments: argparse.Namespace, results: Path) -> None:
    """Train and evaluate with bench."""
    run_bench(
        *("run", "--arch", "baseline_cnn", "--dataset", "cifar10", "--recipe", "document", "--measure", "basic"),
        *("--epochs", str(arguments.epochs), "--batch-size", str(arguments.batch_size), "--set", "drop_remainder=true"),
        *("--precision", arguments.precision, "--results", str(results), *data_dir_arguments(arguments.data_dir)),
    )


def run_bare(arguments: argparse.Namespace, arrays: Path) -> None:
    """Train and evaluate with the bare script."""
    steps = arguments.epochs * (IMAGES // arguments.batch_size)
    run_python(
        *(str(BARE_SCRIPT), "--arrays", str(arrays), "--steps", str(steps), "--batch-size", str(arguments.batch_size)),
        *("--precision", arguments.precision, "--test"),
    )


if __name__ == "__main__":
    main()
