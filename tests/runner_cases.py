"""Runs trials that import no backend, two at a time, as a process of its own. Prints what came of each.

python -m tests.runner_cases PLUGINS RESULTS ARCHITECTURE ...
"""

import errno
import os
import signal
import sys
import time
from pathlib import Path

from bench.data.cache import DataSource, default_cache_dir, prepare
from bench.data.tfds import default_data_dir
from bench.errors import StoreError
from bench.events import Phase
from bench.execution.local import LocalEngine
from bench.execution.planning import Choice, plan
from bench.execution.profiles import PROFILED, Profiles
from bench.execution.runner import Observer, Options, Runner
from bench.plugins import discover
from bench.recipes import resolve_recipe
from bench.records import Outcome
from bench.store import Store


def simulate(job, send):
    """What a trial does: its architecture's name says what."""
    send(Phase("loading"))
    match job.trial.spec.architecture.name:
        case "kills_what_forks":
            time.sleep(0.3)
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        case "finds_no_room" | "finds_no_room_either":
            raise OSError(errno.ENOSPC, "No space left on device")
    time.sleep(1)
    return Outcome({"test_accuracy": 0.5, **({PROFILED: 1} if job.full else {})}, {}, {})


class Slow(Observer):
    """Looks so long at an event that much else arrives meanwhile."""

    def trial_event(self, number, event):
        time.sleep(0.5)


def main(plugins, results, *names):
    architectures = discover("architecture", [Path(plugins)])
    data = discover("dataset", [Path(plugins)]).choose("tiny_data")
    source = DataSource(data, default_data_dir(), default_cache_dir())
    recipe = resolve_recipe("standard", {"epochs": 1, "batch_size": 16})
    rest = {"source": source, "recipe": recipe, "precision": "float32", "backend": "tensorflow", "devices": 1}
    choices = [Choice(architecture=architectures.choose(name), seed=0, **rest) for name in names]
    trials = plan(choices, {data.label: prepare(source, lambda *_: None)})
    store, engine = Store(Path(results)), LocalEngine(["tensorflow"], 2, simulate)
    try:
        Runner(store, engine, Slow(), Profiles([], set(), wanted=True), Options()).run(trials, {})
    except StoreError as error:
        print(f"StoreError: {error}")
    for record in store.records():
        print(record.spec.architecture.name, record.status, record.reason, PROFILED in record.metrics)


if __name__ == "__main__":
    import tests.runner_cases  # noqa: PLW0406 - by the name that forks can import `simulate` by

    tests.runner_cases.main(*sys.argv[1:])
