"""A place for sweeps that are meant to suffer: folders of their own, commands as processes, and what those leave."""

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from bench.records import Status, TrialRecord
from bench.store import Store
from tests.conftest import TINY_DATA, TINY_NET

CHECKOUT = Path(__file__).parents[2]
MARK = "FAULTS_SANDBOX"  # in the environment of all that runs here: a process that leaves its session is found, too
PATIENCE_SECONDS = 60.0
COMMAND_SECONDS = 900.0
TIMINGS = ("seconds", "images_per_second")  # columns of a history that no two runs share

STATEFUL_NET = '''"""A net whose training depends on its past: dropout, batch normalisation, an optimizer."""
import keras
from bench.api import Architecture

INFO = Architecture(min_size=4)


def build(input_shape, num_classes, *, filters: int = 8):
    inputs = x = keras.Input(input_shape)
    for _ in range(2):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        x = keras.layers.Dropout(0.3)(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(x))
'''


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


class Running:
    """A `bench` command as a process. What it prints goes to files: a full pipe would hold it up."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process, self.out, self.err = process, out, err

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> Ended:
        code = self.process.wait(COMMAND_SECONDS)
        return Ended(code, self.out.read_text(errors="replace"), self.err.read_text(errors="replace"))

    def supervisors(self) -> list[psutil.Process]:
        return [each for each in children(self.pid) if "bench.execution.supervisor" in " ".join(command_line(each))]

    def workers(self) -> list[psutil.Process]:
        """Return what the supervisors have forked: the processes of trials."""
        return [worker for supervisor in self.supervisors() for worker in children(supervisor.pid)]


class Sandbox:
    """Plugins, cache, temporary files and results of one experiment.

    Args:
        folder: where all of it goes; made where it is absent.
        nets: architectures, by name; `tiny_net` and `stateful_net` are always there.
        results: of another sandbox's place, where that is shared.

    """

    def __init__(self, folder: Path, nets: Mapping[str, str] | None = None, results: Path | None = None) -> None:
        self.folder, self.results = folder, results or folder / "results"
        self.plugins, self.cache, self.temporary = folder / "plugins", folder / "cache", folder / "tmp"
        for path in (self.plugins / "architectures", self.plugins / "datasets", self.temporary):
            path.mkdir(parents=True, exist_ok=True)
        for name, text in {"tiny_net": TINY_NET, "stateful_net": STATEFUL_NET, **(nets or {})}.items():
            (self.plugins / "architectures" / f"{name}.py").write_text(text)
        (self.plugins / "datasets" / "tiny_data.py").write_text(TINY_DATA)
        self.commands = 0

    @property
    def store(self) -> Store:
        return Store(self.results)

    def start(self, *arguments: object) -> Running:
        """Start `bench` with these arguments, in a session of its own."""
        self.commands += 1
        out, err = (self.folder / f"command-{self.commands}.{stream}" for stream in ("out", "err"))
        environment = {
            **os.environ,
            MARK: str(self.folder),
            "BENCH_CACHE_DIR": str(self.cache),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(CHECKOUT),
        }
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
                env=environment,
                start_new_session=True,
            )
        return Running(process, out, err)

    def start_run(self, *arguments: object, arch: str = "tiny_net", epochs: int = 2) -> Running:
        """Start a `bench run` of these architectures on the tiny data."""
        what = ["--arch", *arch.split(), "--dataset", "tiny_data", "--epochs", epochs, "--batch-size", 16]
        where = ["--plugins", self.plugins, "--results", self.results]
        return self.start("run", *what, "--measure", "basic", *where, *arguments)

    def run(self, *arguments: object, arch: str = "tiny_net", epochs: int = 2) -> Ended:
        """Run a sweep to its end."""
        return self.start_run(*arguments, arch=arch, epochs=epochs).wait()

    def report(self) -> Ended:
        """Make the tables."""
        return self.start("report", "--results", self.results).wait()

    def processes(self) -> list[psutil.Process]:
        """Return all that runs because of this sandbox, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # it has ended, or is another user's
                continue
        return found

    def records(self) -> list[TrialRecord]:
        return self.store.records()

    def attempt(self, record: TrialRecord) -> Path:
        return self.results / "trials" / record.trial_id / record.attempt

    def logits(self, record: TrialRecord) -> bytes:
        with np.load(self.attempt(record) / "predictions.npz", allow_pickle=False) as stored:
            return bytes(stored["logits"].tobytes())

    def history(self, record: TrialRecord) -> pd.DataFrame:
        """Return all of a history that does not depend on the clock."""
        return pd.read_csv(self.attempt(record) / "history.csv", dtype=str).drop(columns=list(TIMINGS))

    def finished(self) -> dict[str, str]:
        """Return the SHA-256 of each file of each finished attempt, by its path."""
        files = (path for path in self.results.glob("trials/*/[!.]*/*") if path.is_file())
        return {str(path.relative_to(self.results)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def leftovers(self) -> list[str]:
        """Return what must be gone when nothing runs any more: processes, claims, checkpoints, temporary files."""
        left = [f"process {each.pid}: {' '.join(command_line(each))}" for each in self.processes()]
        hidden = (path for path in self.results.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp")
        cached = (path for path in self.cache.rglob("*") if path.suffix == ".tmp")
        return left + [str(path) for path in (*hidden, *cached, *self.temporary.iterdir())]

    def bytes_of_results(self) -> int:
        return sum(path.stat().st_size for path in self.results.rglob("*") if path.is_file())


def check_ended_once(sandbox: Sandbox, trials: int) -> None:
    """Fail unless each of so many trials has one record that ended well, and nothing else is left of the sweep."""
    wait_until(lambda: not sandbox.processes(), "all processes of the sweep have ended")
    archive = sandbox.store.read()
    assert not archive.problems, archive.problems
    well = Counter(record.trial_id for record in archive.records if record.status == Status.OK)
    assert len(well) == trials, f"{trials - len(well)} of {trials} trials are missing"
    assert set(well.values()) == {1}, f"trials that ended well more than once: {well}"
    left = sandbox.leftovers()
    assert not left, f"left behind: {left}"


def wait_until(condition, what: str, seconds: float = PATIENCE_SECONDS, pause: float = 0.02) -> None:
    """Wait for a condition; fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain until {what}"
        time.sleep(pause)


def children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.Error:
        return []


def command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
