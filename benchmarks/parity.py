"""Whether bench trains as the introductory text does: `baseline_cnn` by the recipe `document` on CIFAR-10.

The text's code is PyTorch. Run as it stands, it reached on CIFAR-10 the accuracies and mean training losses below; this
script prints those of bench's records beside them, seed by seed. It only reads record.json and history.csv, unless
`--run` has `bench run` train first what is missing (10 epochs of batch 32, a few minutes a seed).

Target: a mean test accuracy within 1.0 point of 70.1 %, the mean of the reference's two seeds.

    python benchmarks/parity.py --results DIR
    python benchmarks/parity.py --results DIR --run --seeds 3 --data-dir DIR
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

from common import add_data_dir, data_dir_arguments, make_parser, positive, run_bench, spread, target

from bench.recipes import Recipe, resolve_recipe
from bench.records import Status, TrialRecord
from bench.report.statistics import mean_interval
from bench.store import Store

EPOCHS = 10
TOLERANCE = 0.010
REFERENCE_LOSS = {3: 1.259, 5: 1.052, 10: 0.729}  # by epoch; mean over the training images, seed 0
REFERENCE_ACCURACY = {3: [0.569], 5: [0.638], 10: [0.703, 0.699]}  # by epoch; one value a seed


def main() -> None:
    """Train where that was asked for; read and print."""
    arguments = parse_arguments()
    if arguments.run:
        run_sweep(arguments)
    records = read_records(arguments.results, resolve_recipe("document", {"epochs": arguments.epochs}))
    if not records:
        raise SystemExit(f"{arguments.results} holds no such trial that ended well; --run makes some.")
    for where in sorted({f"{record.environment.machine}; {record.environment.software}" for record in records}):
        print(where)
    show_losses(records, arguments)
    show_accuracies(records, arguments.epochs)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument("--run", action="store_true", help="train what is missing first")
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="seeds that --run trains (default 3)")
    parser.add_argument(
        "--epochs",
        type=positive,
        default=EPOCHS,
        metavar="N",
        help="epochs of the trials (default 10, as in the text; there are accuracies after 3 and 5 to compare with)",
    )
    add_data_dir(parser)
    return parser.parse_args()


def run_sweep(arguments: argparse.Namespace) -> None:
    """Train the trials that have no record yet."""
    run_bench(
        *("run", "--arch", "baseline_cnn", "--dataset", "cifar10", "--recipe", "document", "--precision", "float32"),
        *("--epochs", str(arguments.epochs), "--seeds", str(arguments.seeds), "--results", str(arguments.results)),
        *data_dir_arguments(arguments.data_dir),
    )


def read_records(results: Path, recipe: Recipe) -> list[TrialRecord]:
    """Return the last record of each seed that ended well, in the order of the seeds."""
    wanted = ("baseline_cnn", "cifar10", recipe, "float32")
    last: dict[int, TrialRecord] = {}
    for record in Store(results).records():
        spec = record.spec
        setting = (spec.architecture.label, spec.dataset.label, spec.recipe, spec.precision)
        if record.status == Status.OK and setting == wanted:
            last[spec.seed] = record
    return [last[seed] for seed in sorted(last)]


def read_losses(results: Path, record: TrialRecord) -> list[float]:
    """Return the mean training loss of each epoch."""
    path = results / "trials" / record.trial_id / record.attempt / "history.csv"
    with path.open(newline="") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def show_losses(records: Sequence[TrialRecord], arguments: argparse.Namespace) -> None:
    """Print the mean training loss of each epoch, the reference's first."""
    print("mean training loss (nats)")
    print("  epoch  PyTorch" + "".join(f"  seed {record.spec.seed}" for record in records))
    histories = [read_losses(arguments.results, record) for record in records]
    for epoch, losses in enumerate(zip(*histories, strict=True), start=1):
        reference = f"{REFERENCE_LOSS[epoch]:.3f}" if epoch in REFERENCE_LOSS else ""
        print(f"  {epoch:>5}  {reference:>7}" + "".join(f"  {loss:>6.3f}" for loss in losses))


def show_accuracies(records: Sequence[TrialRecord], epochs: int) -> None:
    """Print the test accuracies after the last epoch, and hold their mean against the reference's."""
    accuracies = [record.metrics["test_accuracy"] for record in records]
    mean = statistics.mean(accuracies)
    interval = mean_interval(accuracies)
    known = f"95 % interval {interval[0] * 100:.2f} to {interval[1] * 100:.2f}" if interval else "no interval"
    print(f"test accuracy after epoch {epochs} (%)")
    for record in records:
        print(f"  seed {record.spec.seed}  {record.metrics['test_accuracy'] * 100:.2f}")
    print(f"  median {spread([value * 100 for value in accuracies])}")
    print(f"  mean   {mean * 100:.2f}, {known}, n = {len(accuracies)}")
    if epochs not in REFERENCE_ACCURACY:
        print("  PyTorch: not measured after that epoch")
        return
    reference = REFERENCE_ACCURACY[epochs]
    expected = statistics.mean(reference)
    print(f"  PyTorch {', '.join(f'{value * 100:.1f}' for value in reference)}, mean {expected * 100:.1f}")
    wanted = f"within {TOLERANCE * 100:.1f} points of {expected * 100:.1f} %"
    print(f"  difference {(mean - expected) * 100:+.2f} points; {target(wanted, abs(mean - expected) <= TOLERANCE)}")


if __name__ == "__main__":
    main()
