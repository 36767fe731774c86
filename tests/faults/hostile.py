"""Twelve plugins that mean harm, in one sweep with two healthy ones.

    python -m tests.faults.hostile --jobs 1 2

Each of the twelve must become a row with the right status and reason; the healthy ones must come out as they do alone;
nothing that the twelve have started, eaten, written or printed may stay.
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.records import Reason, Status, TrialRecord
from bench.store import LOG_BYTES
from tests.faults.sandbox import Sandbox, wait_until

HEALTHY = ("tiny_net", "stateful_net")
SEEDS = 1
MEGABYTE = 10**6
TRIAL_BYTES = 200_000  # far more than a tiny trial leaves


@dataclass(frozen=True)
class Hostile:
    """A plugin that means harm, and what must become of its trial. `message` is a part of the record's."""

    source: str
    status: Status
    reason: Reason
    message: str


@dataclass(frozen=True)
class Limits:
    """What a trial may take here, in the sweep's own words and in bytes."""

    timeout: str = "20s"
    memory: int = 3000 * MEGABYTE
    disk: int = 500 * MEGABYTE

    def options(self) -> list[str]:
        """Return them as arguments of `bench run`."""
        memory, disk = f"{self.memory // MEGABYTE}MB", f"{self.disk // MEGABYTE}MB"
        return ["--timeout", self.timeout, "--memory-limit", memory, "--disk-limit", disk]


def net(harm: str = "pass", before: str = "") -> str:
    """Return a net that does harm when it is built, or when its file is imported."""
    indented = "\n    ".join(harm.splitlines())
    return f"""\
import ctypes, os, random, signal, sys, time
import keras
import numpy as np
from bench.api import Architecture

INFO = Architecture()
{before}

def build(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten()(inputs)
    outputs = keras.layers.Dense(num_classes)(x)
    {indented}
    return keras.Model(inputs, outputs)
"""


IN_TRAINING = """
class Raising(keras.layers.Layer):
    def call(self, x, training=False):
        if training:
            raise RuntimeError("not while I am trained")
        return x
"""

DEAF_LOOP = """\
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    pass"""

EATING = """\
eaten = []
while True:
    eaten.append(np.ones(4_000_000))
    print(f"eaten {32 * len(eaten)} MB", flush=True)
    time.sleep(0.02)"""

WRITING = """\
folder = os.path.dirname(os.readlink("/proc/self/fd/1"))
with open(os.path.join(folder, "junk.bin"), "wb") as file:
    for _ in range(100):
        file.write(os.urandom(1_000_000) * 10)
        file.flush()
        time.sleep(0.05)
time.sleep(600)"""

PRINTING = """\
for _ in range(100):
    print("spam " * 2_000_000, flush=True)
    time.sleep(0.05)
time.sleep(600)"""

VANDALISM = """\
keras.config.set_dtype_policy("float16")
keras.config.set_floatx("float64")
keras.config.set_epsilon(0.5)
keras.config.set_image_data_format("channels_first")
keras.utils.set_random_seed(99)
np.random.seed(99)
random.seed(99)
np.seterr(all="ignore")
os.environ.update(KERAS_BACKEND="jax", TF_DETERMINISTIC_OPS="1", PATH="", HOME="/nowhere", BENCH_CACHE_DIR="/nowhere")
os.chdir("/")
os.umask(0o077)
sys.path.insert(0, "/nowhere")
keras.layers.Conv2D.call = keras.layers.BatchNormalization.call = None
keras.Model.count_params = lambda self: -1"""

LEAVING_CHILDREN = """\
for leave in (lambda: None, os.setsid):
    if not os.fork():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        leave()
        while True:
            time.sleep(3600)"""


def _raising(error: str) -> str:
    return f"raise RuntimeError({error!r})"


NETS = {
    "raises_at_import": Hostile(
        net(before=_raising("not here")), Status.FAILED, Reason.BAD_MODEL, "cannot be imported: RuntimeError: not here"
    ),
    "raises_at_build": Hostile(
        net(_raising("not now")), Status.FAILED, Reason.BAD_MODEL, "`build` raised RuntimeError: not now"
    ),
    "raises_in_training": Hostile(
        net("outputs = Raising()(outputs)", before=IN_TRAINING),
        Status.FAILED,
        Reason.EXCEPTION,
        "not while I am trained",
    ),
    "has_no_syntax": Hostile("def build(:\n", Status.FAILED, Reason.BAD_PLUGIN, "syntax error in line 1"),
    "loops_for_ever": Hostile(net(DEAF_LOOP), Status.TIMEOUT, Reason.TIME_LIMIT, "it took longer than --timeout"),
    "exits": Hostile(net("os._exit(0)"), Status.FAILED, Reason.PROCESS_EXIT, "ended by itself with exit code 0"),
    "segfaults": Hostile(net("ctypes.string_at(0)"), Status.FAILED, Reason.KILLED_BY_SIGNAL, "was killed by SIGSEGV"),
    "eats_memory": Hostile(net(EATING), Status.FAILED, Reason.MEMORY_LIMIT, "it used more memory than --memory-limit"),
    "writes_a_gigabyte": Hostile(net(WRITING), Status.FAILED, Reason.DISK_LIMIT, "or printed more, than --disk-limit"),
    "prints_a_gigabyte": Hostile(net(PRINTING), Status.FAILED, Reason.DISK_LIMIT, "or printed more, than --disk-limit"),
    "changes_all_that_is_global": Hostile(net(VANDALISM), Status.OK, Reason.NONE, ""),
    "leaves_children": Hostile(net(LEAVING_CHILDREN), Status.OK, Reason.NONE, ""),
}


def check_hostile(sandbox: Sandbox, healthy: Sandbox, jobs: int, limits: Limits) -> list[TrialRecord]:
    """Run the hostile nets between the healthy ones, and check all that they leave; return the records.

    Args:
        sandbox: for the sweep.
        healthy: where the healthy nets have run without the others, with as many jobs.
        jobs: how many trials run side by side.
        limits: of each trial.

    Raises:
        AssertionError: a row is missing or wrong, a healthy trial differs, or something has stayed.

    """
    first, last = HEALTHY
    ended = run(sandbox, " ".join((first, *NETS, last)), jobs, limits)
    assert ended == 1, f"exit code {ended}"
    wait_until(lambda: not sandbox.processes(), "nothing that the plugins have started runs any more")
    assert not (left := sandbox.leftovers()), f"left behind: {left}"
    records = {record.spec.architecture.name: record for record in sandbox.records()}
    assert set(records) == {*NETS, *HEALTHY}, set(records)
    for name, net_ in NETS.items():
        _check_row(records[name], net_)
    for name in HEALTHY:
        _check_same(sandbox, records[name], healthy)
    _check_small(sandbox, records)
    last_words = records["eats_memory"].log_tail.split("eaten ")[-1]
    assert int(last_words.split()[0]) * MEGABYTE < 1.5 * limits.memory, last_words
    _check_report(sandbox, records)
    return list(records.values())


def run(sandbox: Sandbox, arch: str, jobs: int, limits: Limits) -> int:
    """Run a sweep of these nets, and return its exit code."""
    ended = sandbox.run("--jobs", jobs, *limits.options(), arch=arch)
    assert "Traceback" not in ended.out + ended.err, ended.err
    return ended.code


def _check_row(record: TrialRecord, expected: Hostile) -> None:
    name = record.spec.architecture.name
    got = record.status, record.reason
    assert got == (expected.status, expected.reason), f"{name}: {got}, {record.message}"
    assert expected.message in record.message, f"{name}: {record.message}"


def _check_same(sandbox: Sandbox, record: TrialRecord, healthy: Sandbox) -> None:
    (alone,) = (each for each in healthy.records() if each.trial_id == record.trial_id)
    assert (record.status, alone.status) == (Status.OK, Status.OK)
    assert sandbox.logits(record) == healthy.logits(alone), f"{record.spec.title}: other logits"
    assert sandbox.history(record).equals(healthy.history(alone)), f"{record.spec.title}: another history"
    for name in ("test_accuracy", "test_nll", "validation_accuracy", "parameters", "macs"):
        assert record.metrics[name] == alone.metrics[name], f"{record.spec.title}: another {name}"


def _check_small(sandbox: Sandbox, records: dict[str, TrialRecord]) -> None:
    """Fail where the gigabytes are still there: of a log both ends are kept."""
    written = sandbox.bytes_of_results()
    assert written < 2 * LOG_BYTES + len(records) * TRIAL_BYTES, f"{written:,} bytes"
    log = (sandbox.attempt(records["prints_a_gigabyte"]) / "log.txt").read_text(errors="replace")
    assert "bytes are left out here]" in log
    assert not (sandbox.attempt(records["writes_a_gigabyte"]) / "junk.bin").exists()


def _check_report(sandbox: Sandbox, records: dict[str, TrialRecord]) -> None:
    report = sandbox.report()
    assert report.code == 0, report.err
    table = pd.read_parquet(sandbox.results / "trials.parquet").set_index("trial_id")
    for record in records.values():
        assert table.loc[record.trial_id, "status"] == record.status
        assert table.loc[record.trial_id, "reason"] == record.reason


def main() -> None:
    """Read the arguments, and print what became of each plugin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="of one sweep after the other")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-hostile-"))  # stays where something is wrong
    print(f"in {folder}", flush=True)
    for jobs in arguments.jobs:
        start, limits = time.monotonic(), Limits()
        healthy = Sandbox(folder / f"healthy-{jobs}")
        assert run(healthy, " ".join(HEALTHY), jobs, limits) == 0
        for record in check_hostile(nets_in(folder / f"hostile-{jobs}"), healthy, jobs, limits):
            print(f"{record.spec.architecture.name}: {record.status} {record.reason}: {record.message}")
        print(
            f"--jobs {jobs}: {len(NETS)} hostile trials as they should be, {time.monotonic() - start:.0f} s", flush=True
        )
    shutil.rmtree(folder)


def nets_in(folder: Path) -> Sandbox:
    """Return a sandbox with the hostile nets."""
    return Sandbox(folder, {name: each.source for name, each in NETS.items()})


if __name__ == "__main__":
    main()
