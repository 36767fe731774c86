"""Steady training images/s of `bench run --backend jax` on a GPU against PyTorch scripts of the same networks.

Never run on a GPU yet; on a CPU, `--tiny` shows that it works. `baseline_cnn` and `resnet_cifar:depth=20` train on
generated 32x32 images, ResNet-50 (plugins/architectures/resnet50.py) on 224x224 ones, all at batch 128 in bfloat16 with
SGD. The peer is gpu_torch.py: channels last, compiled, its images on the GPU. Speeds include the input, and leave out
compiling and evaluation. Each side is a process of its own; they take turns.

Target: none; JAX and PyTorch choose other kernels, so the ratio says as much of them as of bench.

    python benchmarks/peers_gpu.py --rounds 3 --json peers_gpu.json
    python benchmarks/peers_gpu.py --tiny
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bare import Answer
from common import (
    add_output,
    machine,
    make_parser,
    positive,
    print_machine,
    run_bench,
    run_python,
    spread,
    write_json,
)

from bench.environment import find_gpus
from bench.store import Store

SCRIPTS = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A network, and the images that it is trained on."""

    architecture: str
    size: int
    classes: int
    images: int
    batch_size: int = 128
    epochs: int = 10

    def tiny(self) -> Case:
        """Return the same network with so little to do that a CPU suffices."""
        return replace(self, size=min(self.size, 64), classes=10, images=32, batch_size=8, epochs=2)


CASES = (
    Case("baseline_cnn", 32, 10, 50_048),
    Case("resnet_cifar:depth=20", 32, 10, 50_048),
    Case("resnet50", 224, 1_000, 2_560),
)


@dataclass(frozen=True)
class Pair:
    """One round of one case."""

    bench: Answer
    torch: Answer

    @property
    def ratio(self) -> float:
        """How many times as fast bench is."""
        return self.bench.images_per_second / self.torch.images_per_second


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    print_machine()
    gpus = find_gpus()
    if not gpus and not arguments.tiny:
        raise SystemExit("There is no GPU that NVML sees. On a CPU, --tiny shows whether the sides run.")
    print(", ".join(gpu.name for gpu in gpus) or "no GPU: the figures mean nothing")
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        measured = measure(arguments, Path(folder))
    for name, pairs in measured.items():
        show(name, pairs)
    if arguments.json:
        write_json(arguments.json, {"machine": machine(), "gpus": [gpu.name for gpu in gpus], "cases": plain(measured)})


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    names = [case.architecture for case in CASES]
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="runs of each side (default 3)")
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="NAME", help=f"of: {names}")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, with tiny sizes, to see that it runs")
    add_output(parser)
    return parser.parse_args()


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, list[Pair]]:
    """Return each case's pairs, printing them as they come."""
    cases = [case for case in CASES if case.architecture in arguments.cases]
    measured: dict[str, list[Pair]] = {case.architecture: [] for case in cases}
    for number in range(arguments.rounds):
        for position, case in enumerate(cases):
            sized = case.tiny() if arguments.tiny else case
            own = folder / f"{position}-{number}"
            own.mkdir()
            pair = Pair(run_suite(sized, own), run_torch(sized, own / "torch.json", arguments.tiny))
            measured[case.architecture].append(pair)
            print(f"  {number + 1}/{arguments.rounds} {case.architecture}: ratio {pair.ratio:.3f}", flush=True)
    return measured


def run_suite(case: Case, folder: Path) -> Answer:
    """Train with bench on JAX, and return what its record says."""
    dataset = f"synthetic:size={case.size},classes={case.classes},number={case.images}"
    run_bench(
        *("run", "--arch", case.architecture, "--dataset", dataset, "--recipe", "document", "--backend", "jax"),
        *("--precision", "mixed_bfloat16", "--epochs", str(case.epochs), "--batch-size", str(case.batch_size)),
        *("--set", "drop_remainder=true", "--measure", "basic", "--plugins", str(SCRIPTS / "plugins")),
        *("--results", str(folder)),
    )
    (record,) = Store(folder).records()
    return Answer(record.metrics["train_images_per_second"], record.metrics["peak_memory_bytes"])


def run_torch(case: Case, answer: Path, on_cpu: bool) -> Answer:
    """Train with the PyTorch script, and return what it says. On a CPU it compiles nothing: that would take minutes."""
    steps = case.epochs * (case.images // case.batch_size)
    run_python(
        *(str(SCRIPTS / "gpu_torch.py"), "--network", case.architecture, "--size", str(case.size)),
        *("--classes", str(case.classes), "--images", str(case.images), "--batch-size", str(case.batch_size)),
        *("--steps", str(steps), "--json", str(answer), *(["--device", "cpu", "--eager"] if on_cpu else [])),
    )
    return Answer(**json.loads(answer.read_text()))


def show(name: str, pairs: Sequence[Pair]) -> None:
    """Print one case's figures."""
    print(f"{name}, n = {len(pairs)}")
    for side in ("bench", "torch"):
        answers: list[Answer] = [getattr(pair, side) for pair in pairs]
        memory = max(answer.peak_memory_bytes for answer in answers) / 1e9
        print(f"  {side}  {spread([answer.images_per_second for answer in answers], 0)} images/s, {memory:.2f} GB")
    print(f"  ratio  {spread([pair.ratio for pair in pairs], 3)}")


def plain(measured: Mapping[str, Sequence[Pair]]) -> dict[str, object]:
    """Return every pair, and the median of their ratios, as plain values."""
    return {
        name: {
            "pairs": [{**asdict(pair), "ratio": pair.ratio} for pair in pairs],
            "median_ratio": statistics.median(pair.ratio for pair in pairs),
        }
        for name, pairs in measured.items()
    }


if __name__ == "__main__":
    main()
