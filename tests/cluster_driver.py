"""Runs a sweep on a Ray cluster, as a process of its own, which a test can kill. Prints a line a trial that ends.

python -m tests.cluster_driver --address HOST:PORT --plugins DIR --results DIR --arch NAME ... [options]
"""

import argparse
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.checkpoints import Progress, write
from bench.data.cache import DataSource, default_cache_dir, prepare
from bench.data.tfds import default_data_dir
from bench.errors import BenchError
from bench.events import Epoch, Resumed, Saved, Step
from bench.execution.job import run_in_fork
from bench.execution.planning import Choice, Policy, plan, remaining
from bench.execution.profiles import Profiles
from bench.execution.runner import Options, Runner
from bench.execution.work import Limits
from bench.plugins import discover
from bench.recipes import resolve_recipe
from bench.records import Outcome
from bench.stopping import StopRequest
from bench.store import Store, write_predictions


def simulate(job, send):
    """What a trial does, without a backend: its architecture's name says what else happens to it."""
    name, stop = job.trial.spec.architecture.name, StopRequest()
    print(f"simulating {name} in {job.folder}", flush=True)
    before = 0
    if job.checkpoint and job.checkpoint.exists():
        before = 1
        send(Resumed(1, 7.0, ()))
    if name == "suicide":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "failing":
        raise RuntimeError("not today")
    send(Step(1, 1, 1, 1, 0.5, 10.0))
    seconds = 600 if name == "endless" else 0.05
    if name == "saving" and not before:
        write(job.checkpoint, job.checkpoint_key, Progress(done=1), [("a", np.zeros(100_000, np.float32))])
        send(Saved(1))
        seconds = 3
    with stop.listening():
        time.sleep(seconds)
    send(Epoch(1, 1, 0.5, 0.5, None, None, 0.1, 0.1, 10.0))
    write_predictions(job.folder, np.zeros((4, 2), np.float32), [0, 1, 0, 1], np.eye(2, dtype=int))
    return Outcome({"test_accuracy": 0.5}, {}, {"folder": str(job.folder), "continued": before})


class Printer:
    """Prints what a test waits for."""

    def trial_started(self, number, trial, units):
        print(f"started {trial.spec.title} on {units[0].machine[:6]} cores {units[0].cores}", flush=True)

    def trial_event(self, number, event):
        if isinstance(event, Saved | Resumed):
            print(f"event {event}", flush=True)

    def trial_ended(self, number, record):
        print(f"ended {record.spec.title} {record.status} {record.reason} {record.message}", flush=True)

    def trial_lost(self, number, why):
        print(f"lost {why}", flush=True)

    def trial_left(self, trial):
        print("left", flush=True)

    def looked(self, waiting, elsewhere):
        pass

    def ending(self):
        print("ending", flush=True)


def trials_of(arguments):
    architectures = discover("architecture", [arguments.plugins])
    data = discover("dataset", [arguments.plugins]).choose("tiny_data")
    source = DataSource(data, default_data_dir(), default_cache_dir())
    recipe = resolve_recipe("standard", {"epochs": 1, "batch_size": 16, "min_steps": 0})
    prepared = {data.label: prepare(source, lambda *_: None)}
    if arguments.other_data:
        one = prepared[data.label]
        prepared[data.label] = replace(one, info=replace(one.info, fingerprint="0" * 64))
    choices = [
        Choice(
            architecture=architectures.choose(name),
            source=source,
            recipe=recipe,
            precision="float32",
            backend="tensorflow",
            devices=1,
            seed=seed,
        )
        for seed in range(arguments.seeds)
        for name in arguments.arch
    ]
    return plan(choices, prepared)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address")
    parser.add_argument("--plugins", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--arch", nargs="+")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--other-data", action="store_true")
    parser.add_argument("--other-version", action="store_true")
    arguments = parser.parse_args()
    from bench.execution import cluster

    if arguments.other_version:
        cluster.bench_source_hash = lambda: "0" * 64
    try:
        run(arguments, cluster)
    except BenchError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(2)


def run(arguments, cluster):
    trials = trials_of(arguments) if arguments.arch else []
    work = simulate if arguments.simulate else run_in_fork
    engine = cluster.RayEngine(["tensorflow"], arguments.jobs, arguments.address, work)
    assert not {"tensorflow", "keras", "jax", "torch"} & set(sys.modules)
    machines = {engine.setting([unit], "tensorflow").environment.machine for unit in engine.units()}
    print(f"units {[(unit.machine[:6], unit.number, unit.cores) for unit in engine.units()]}", flush=True)
    store = Store(arguments.results)
    store.check_writable()
    records = store.read().records
    todo = remaining(trials, records, machines, Policy())
    options = Options(limits=Limits(seconds=arguments.timeout))
    try:
        runner = Runner(store, engine, Printer(), Profiles(records, set(), wanted=False), options)
        runner.run(todo, {trial.spec.trial_id: store.attempts(trial.spec.trial_id) for trial in todo})
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:
        engine.close()


if __name__ == "__main__":
    import tests.cluster_driver  # noqa: PLW0406 - by the name that workers can import `simulate` by

    tests.cluster_driver.main()
