"""What a trial costs beyond itself: seconds from one trial's record being written to the next one's training.

A sweep runs through bench's Python API. An observer notes when each record has been written and when the process of
the next trial says that its training begins: between them lie a fork, opening the data, and building and compiling the
model, but no import of TensorFlow. Printed beside it is what the gap leaves out: the first training step, which traces
and compiles the network, and the time of each trial that belongs to none of its phases (starting and ending its
process, handing over the result).

Target: at most 1 s a gap.

    python benchmarks/trial_gap.py
    python benchmarks/trial_gap.py --dataset cifar10 --data-dir DIR --epochs 1 --seeds 2
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import add_data_dir, data_source, make_parser, positive, print_machine, spread, target

from bench.environment import resolve_precision
from bench.events import Phase
from bench.execution.local import LocalEngine
from bench.execution.planning import Choice, plan, prepare_sources
from bench.execution.profiles import Profiles
from bench.execution.runner import Observer, Options, Runner
from bench.execution.server import ForkServer
from bench.plugins import discover
from bench.recipes import resolve_recipe
from bench.records import Status, TrialRecord
from bench.store import Store

TARGET_SECONDS = 1.0
ARCHITECTURES = ["baseline_cnn", "baseline_cnn_bn", "resnet_cifar"]


@dataclass
class Clock(Observer):
    """An observer that notes when trainings begin and when records have been written."""

    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def trial_event(self, _number: int, event: Any) -> None:
        """Note when the training begins."""
        if event == Phase("training"):
            self.began.append(time.perf_counter())

    def trial_ended(self, _number: int, record: TrialRecord) -> None:
        """Note when the record has been written; a trial that failed spoils the measurement."""
        self.ended.append(time.perf_counter())
        if record.status != Status.OK:
            raise SystemExit(f"{record.spec.title}: {record.status}: {record.message}\n{record.traceback}")

    def gaps(self) -> list[float]:
        """Return the seconds between each record and the training that follows it."""
        return [began - ended for ended, began in zip(self.ended, self.began[1:], strict=False)]


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    print_machine()
    clock, start = Clock(), time.perf_counter()
    records = run_sweep(arguments, clock)
    print(f"{len(records)} trials; from the start to the first training {clock.began[0] - start:.1f} s")
    show(clock.gaps(), records)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments; at least two trials make a gap."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--arch",
        nargs="+",
        default=ARCHITECTURES,
        metavar="NAME[:KEY=VALUE,...]",
        help=f"default: {' '.join(ARCHITECTURES)}",
    )
    parser.add_argument("--dataset", default="digits", metavar="NAME[:KEY=VALUE,...]", help="default: digits")
    parser.add_argument("--seeds", type=positive, default=4, metavar="N", help="seeds of each (default 4)")
    parser.add_argument("--epochs", type=positive, default=2, metavar="N", help="epochs of each trial (default 2)")
    add_data_dir(parser)
    arguments = parser.parse_args()
    if len(arguments.arch) * arguments.seeds < 2:
        parser.error("a gap needs at least two trials: name more architectures, or set --seeds.")
    return arguments


def run_sweep(arguments: argparse.Namespace, clock: Clock) -> list[TrialRecord]:
    """Run the trials, with results in a folder that is deleted, and return their records."""
    engine = LocalEngine(["tensorflow"])
    with tempfile.TemporaryDirectory(prefix="bench-gap-") as folder:
        device = engine.setting(engine.units(), "tensorflow").device
        choices = make_choices(arguments, resolve_precision("auto", device))
        trials = plan(choices, prepare_sources([choices[0].source], ForkServer(), lambda *_: None))
        ForkServer().check()  # waits for TensorFlow's import, as the first trial of `bench run` does
        store = Store(Path(folder))
        Runner(store, engine, clock, Profiles([], set(), wanted=False), Options()).run(trials, {})
        return store.records()


def make_choices(arguments: argparse.Namespace, precision: str) -> list[Choice]:
    """Return the sweep that was asked for."""
    architectures, source = discover("architecture"), data_source(arguments.dataset, arguments.data_dir)
    return [
        Choice(
            architecture=architectures.choose(reference),
            source=source,
            recipe=resolve_recipe("standard", {"epochs": arguments.epochs}),
            precision=precision,
            backend="tensorflow",
            devices=1,
            seed=seed,
        )
        for seed in range(arguments.seeds)
        for reference in arguments.arch
    ]


def show(gaps: Sequence[float], records: Sequence[TrialRecord]) -> None:
    """Print each gap with the phases that make most of it, and what the gaps come to."""
    for (before, after), gap in zip(pairwise(records), gaps, strict=True):
        parts = ", ".join(f"{phase} {after.phases[phase]:.3f}" for phase in ("data", "build"))
        print(f"  {gap:.3f} s ({parts})  {before.spec.title} -> {after.spec.title}")
    first_steps = [record.phases["first_step"] for record in records]
    outside = [record.seconds - sum(record.phases.values()) for record in records]
    print(f"gap between trials   {spread(gaps, 3)} s, n = {len(gaps)}")
    print(f"first step           {spread(first_steps, 3)} s")
    print(f"outside of phases    {spread(outside, 3)} s")
    print(target(f"every gap at most {TARGET_SECONDS:g} s", max(gaps) <= TARGET_SECONDS))


if __name__ == "__main__":
    main()
