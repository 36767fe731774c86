"""What `bench` itself costs a trial on a Ray cluster: a sweep of trials that do nothing.

N trials of one architecture, with N seeds, go through the engine for Ray, the runner and the results folder, on a
cluster of this machine alone. A trial sends one epoch and leaves a small predictions file; it imports no backend, and
neither does what it is forked from (BENCH_PRELOAD names what that imports instead). The clock runs from the first trial
being handed out until the last record has been written; the start of Ray and of its workers is not in it.

Two figures come out, both divided by the number of trials: the wall clock of the loop, which is also the fork and the
worker's part where that takes longer than the driver's, and the processor's time of the driver alone.

Target: at most 10 ms a trial of wall clock.

    python benchmarks/ray_overhead.py --trials 10000 --json ray.json
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import add_output, data_source, machine, make_parser, positive, print_machine, target, write_json

from bench.data.cache import prepare
from bench.events import Epoch
from bench.execution.cluster import RayEngine
from bench.execution.engine import Unit
from bench.execution.job import TrialJob
from bench.execution.planning import Choice, Trial, plan
from bench.execution.profiles import Profiles
from bench.execution.runner import Options, Runner
from bench.plugins import discover
from bench.recipes import resolve_recipe
from bench.records import Outcome, Status, TrialRecord
from bench.store import Store, write_predictions

TARGET_MS = 10.0


def do_nothing(job: TrialJob, send: Callable[[Any], None]) -> Outcome:
    """Be a trial: called in a fork."""
    send(Epoch(1, 1, 0.0, 1.0, None, None, 0.1, 0.0, 1.0))
    write_predictions(job.folder, [[0.0, 1.0]], [1], [[0, 0], [0, 1]])
    return Outcome({"test_accuracy": 1.0}, {"training": 0.0}, {"device": job.device.kind})


class Silent:
    """Watches a sweep, and says nothing."""

    def trial_started(self, number: int, trial: Trial, units: Sequence[Unit]) -> None:
        """See a trial start."""

    def trial_event(self, number: int, event: Any) -> None:
        """See what a trial sent."""

    def trial_ended(self, number: int, record: TrialRecord) -> None:
        """See a record."""

    def trial_lost(self, number: int, why: str) -> None:
        """See a trial go back to those that wait."""
        print(f"  trial {number} lost: {why}", flush=True)

    def trial_left(self, trial: Trial) -> None:
        """See a trial that another process has ended."""

    def looked(self, waiting: int, elsewhere: int) -> None:
        """See the loop go round."""

    def ending(self) -> None:
        """See the sweep end early."""


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    print_machine()
    os.environ["BENCH_PRELOAD"] = "ray_overhead"  # the workers and what they start inherit it: the cluster is ours
    with tempfile.TemporaryDirectory(prefix="bench-ray-") as folder:
        wall, driver = measure(arguments, Store(Path(folder) / "results"))
    print(f"{arguments.trials:,} trials, {arguments.jobs} at a time: {wall:.2f} ms a trial", end="; ")
    print(f"{driver:.2f} ms of the driver's processor time; {target(f'at most {TARGET_MS:g} ms', wall <= TARGET_MS)}")
    if arguments.json:
        settings = {"trials": arguments.trials, "jobs": arguments.jobs}
        figures = {"wall_ms": wall, "driver_processor_ms": driver, "target_ms": TARGET_MS}
        write_json(arguments.json, {"machine": machine(), "settings": settings, **figures})


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--trials", type=positive, default=1_000, metavar="N", help="default 1,000")
    parser.add_argument(
        "--jobs", type=positive, default=os.cpu_count(), metavar="N", help="workers; default: a core each"
    )
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="a cluster whose nodes have BENCH_PRELOAD=ray_overhead set"
    )
    add_output(parser)
    return parser.parse_args()


def measure(arguments: argparse.Namespace, store: Store) -> tuple[float, float]:
    """Run the sweep, and return milliseconds a trial: of the wall clock, and of the driver's processor time."""
    from ray_overhead import do_nothing as work  # by a name that workers can import it by, which `__main__` is not

    store.check_writable()
    trials = make_trials(arguments.trials)
    engine = RayEngine(["tensorflow"], arguments.jobs, arguments.address, work)
    try:
        runner = Runner(store, engine, Silent(), Profiles([], set(), wanted=False), Options())
        start, used = time.perf_counter(), time.process_time()
        runner.run(trials, {})
        wall, driver = time.perf_counter() - start, time.process_time() - used
    finally:
        engine.close()
    ended = sum(record.status == Status.OK for record in store.read().records)
    if ended != len(trials):
        raise SystemExit(f"{ended} of {len(trials)} trials ended well")
    return 1000 * wall / len(trials), 1000 * driver / len(trials)


def make_trials(count: int) -> list[Trial]:
    """Return trials of `baseline_cnn` on the digits, one for each seed."""
    source = data_source("digits", None)
    choice = Choice(
        architecture=discover("architecture").choose("baseline_cnn"),
        source=source,
        recipe=resolve_recipe("standard", {}),
        precision="float32",
        backend="tensorflow",
        devices=1,
        seed=0,
    )
    prepared = {source.choice.label: prepare(source, lambda *_: None)}
    return plan([replace(choice, seed=seed) for seed in range(count)], prepared)


if __name__ == "__main__":
    main()
