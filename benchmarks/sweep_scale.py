"""What `bench` itself costs a sweep of very many trials: N trials that do nothing, on this machine or through Ray.

N trials of one architecture, with N seeds, go through planning, an engine, the runner, the results folder and the
report. A trial sends one epoch and leaves a small predictions file; it imports no backend, and neither does what it is
forked from (BENCH_PRELOAD names what that imports instead). The clock of the trials runs from the first being handed
out until the last record has been written; the start of the engine is not in it.

Milliseconds a trial: the wall clock of the loop; the same without waiting for trials; the command's processor time.
Seconds: planning and the check for what has ended, in a results folder that has all of them; reading and tabulating
them. Each step after the trials runs in a process of its own, whose peak memory is told.

Targets: 10 ms a trial of the command's own; 5 s for planning with the check, and 10 s and 1 GB for the report, of
10,000 trials.

    python benchmarks/sweep_scale.py --trials 10000 --json local.json
    python benchmarks/sweep_scale.py --trials 10000 --engine ray --json ray.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common import add_output, data_source, machine, make_parser, positive, print_machine, target, write_json

from bench.data.cache import prepare
from bench.events import Epoch
from bench.execution.cluster import RayEngine
from bench.execution.job import TrialJob
from bench.execution.local import LocalEngine
from bench.execution.planning import Choice, Policy, Trial, plan, remaining
from bench.execution.profiles import Profiles
from bench.execution.runner import Observer, Options, Runner
from bench.execution.server import ForkServer
from bench.execution.work import End
from bench.execution.work import Event as WorkEvent
from bench.plugins import discover
from bench.recipes import resolve_recipe
from bench.records import Outcome, Status
from bench.report.files import write_report
from bench.store import Store, write_predictions

TARGET_MS = 10.0


@dataclass(frozen=True)
class Figures:
    """Milliseconds a trial."""

    wall: float
    driver: float
    processor: float


class TimedLocal(LocalEngine):
    """Notes how long it waits for trials."""

    waited = 0.0

    def poll(self, seconds: float) -> Sequence[WorkEvent | End]:
        """Wait, apart from the rest."""
        start = time.perf_counter()
        arrived = super().poll(seconds)
        self.waited += time.perf_counter() - start
        return arrived


class TimedRay(RayEngine):
    """Notes how long it waits for workers."""

    waited = 0.0

    def _ready(self, seconds: float) -> list[Any]:
        start = time.perf_counter()
        ready = super()._ready(seconds)
        self.waited += time.perf_counter() - start
        return ready


def do_nothing(job: TrialJob, send: Callable[[Any], None]) -> Outcome:
    """Be a trial: called in a fork."""
    send(Epoch(1, 1, 0.0, 1.0, None, None, 0.1, 0.0, 1.0))
    write_predictions(job.folder, [[0.0, 1.0]], [1], [[0, 0], [0, 1]])
    return Outcome({"test_accuracy": 1.0}, {"training": 0.0}, {"device": job.device.kind})


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    if arguments.step:
        print(json.dumps(STEPS[arguments.step](arguments)))
        return
    print_machine()
    os.environ["BENCH_PRELOAD"] = "sweep_scale"  # what trials are forked from inherits it; a cluster is our own
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        results = Path(folder) / "results"
        figures = run_trials(arguments, Store(results))
        steps = {name: in_own_process(name, arguments.trials, results) for name in STEPS}
    print(
        f"{arguments.trials:,} trials, {arguments.jobs} at a time, milliseconds a trial: wall clock {figures.wall:.2f}"
    )
    met = target(f"at most {TARGET_MS:g}", figures.driver <= TARGET_MS)
    print(f"the command without waiting {figures.driver:.2f}; {met}; its processor time {figures.processor:.2f}")
    for name, (seconds, megabytes) in steps.items():
        print(f"{name}: {seconds:.1f} s, peak memory {megabytes:,.0f} MB")
    if arguments.json:
        settings = {"trials": arguments.trials, "jobs": arguments.jobs, "engine": arguments.engine}
        figures_ = {"milliseconds": asdict(figures), "seconds_and_megabytes": steps}
        write_json(arguments.json, {"machine": machine(), "settings": settings, **figures_})


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = make_parser(__doc__)
    parser.add_argument("--trials", type=positive, default=1_000, metavar="N", help="default 1,000")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="default local")
    parser.add_argument(
        "--jobs", type=positive, default=os.cpu_count(), metavar="N", help="trials at a time; default: a core each"
    )
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    add_output(parser)
    return parser.parse_args()


def run_trials(arguments: argparse.Namespace, store: Store) -> Figures:
    """Run the sweep."""
    from sweep_scale import do_nothing as work  # by a name that others can import it by, which `__main__` is not

    store.check_writable()
    trials = make_trials(arguments.trials)
    local = arguments.engine == "local"
    engine: Any = (
        TimedLocal(["tensorflow"], arguments.jobs, work)
        if local
        else TimedRay(["tensorflow"], arguments.jobs, None, work)
    )
    if local:
        ForkServer().check()
    try:
        runner = Runner(store, engine, Observer(), Profiles([], set(), wanted=False), Options())
        start, used, waited = time.perf_counter(), time.process_time(), engine.waited
        runner.run(trials, {})
        wall, processor, waiting = time.perf_counter() - start, time.process_time() - used, engine.waited - waited
    finally:
        engine.close()
    ended = sum(record.status == Status.OK for record in store.read().records)
    if ended != len(trials):
        raise SystemExit(f"{ended} of {len(trials)} trials ended well")
    scale = 1000 / len(trials)
    return Figures(scale * wall, scale * (wall - waiting), scale * processor)


def plan_and_check(arguments: argparse.Namespace) -> tuple[float, float]:
    """Plan the trials, and find that nothing is left to run."""
    start = time.perf_counter()
    trials = make_trials(arguments.trials)
    records = Store(arguments.folder).read().records
    left = remaining(trials, records, {record.environment.machine for record in records}, Policy())
    if left:
        raise SystemExit(f"{len(left)} trials are left")
    return time.perf_counter() - start, peak_megabytes()


def report(arguments: argparse.Namespace) -> tuple[float, float]:
    """List and tabulate all records, and write every file of the report."""
    start = time.perf_counter()
    write_report(arguments.folder, Store(arguments.folder).read().records)
    return time.perf_counter() - start, peak_megabytes()


STEPS: dict[str, Callable[[argparse.Namespace], tuple[float, float]]] = {"plan": plan_and_check, "report": report}


def peak_megabytes() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def in_own_process(step: str, trials: int, folder: Path) -> tuple[float, float]:
    """Run a step in a fresh process, and return its seconds and peak memory in MB."""
    command = [sys.executable, __file__, "--step", step, "--trials", str(trials), "--folder", str(folder)]
    seconds, megabytes = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return seconds, megabytes


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
