"""Sweeps on a real Ray cluster of two nodes on this machine; `test_cluster` runs this file where only `lo` is up."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from bench.records import Reason, Status
from bench.store import Store
from tests.conftest import TINY_DATA, TINY_NET

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120


@pytest.fixture(scope="module")
def folder():
    """A folder with a short name (Ray puts sockets into it) that every process here takes for its temporary one."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp", ignore_cleanup_errors=True) as name:
        os.environ |= {"TMPDIR": name, "RAY_TMPDIR": name, "BENCH_CACHE_DIR": f"{name}/cache"}
        plugins = Path(name, "plugins")
        for kind in ("architectures", "datasets"):
            (plugins / kind).mkdir(parents=True)
        for net in ("tiny_net", "suicide", "failing", "endless", "saving"):
            (plugins / "architectures" / f"{net}.py").write_text(TINY_NET)
        (plugins / "datasets" / "tiny_data.py").write_text(TINY_DATA)
        yield Path(name)


@pytest.fixture(scope="module")
def cluster(folder):
    """Two nodes of a core each. Their fork servers import what simulated trials need, and no backend."""
    from ray.cluster_utils import Cluster

    os.environ |= {"BENCH_PRELOAD": "tests.cluster_driver", "RAY_USAGE_STATS_ENABLED": "0"}
    cluster = Cluster(initialize_head=True, connect=False, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    del os.environ["BENCH_PRELOAD"]
    yield cluster
    cluster.shutdown()


class Driver:
    """A sweep in a process of its own."""

    def __init__(self, folder, *arguments):
        paths = ["--plugins", folder / "plugins", *arguments]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster_driver", *map(str, paths)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.text = ""

    def wait_for(self, words, times=1):
        while self.text.count(words) < times:
            line = self.process.stdout.readline()
            assert line, f"{self.text}\n{self.process.stderr.read()}"
            self.text += line

    def finish(self):
        self.text += self.process.stdout.read()
        errors = self.process.stderr.read()
        return self.process.wait(SECONDS), errors


@pytest.fixture
def sweep(cluster, folder, tmp_path):
    """Start a sweep of simulated trials on the cluster."""
    drivers = []

    def start(*arguments):
        where = ["--address", cluster.address, "--results", tmp_path / "results", "--simulate"]
        drivers.append(Driver(folder, *where, *arguments))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.process.kill()
        driver.process.wait()


@pytest.fixture
def records(tmp_path):
    return lambda: Store(tmp_path / "results").read().records


def processes(words):
    found = []
    for process in psutil.process_iter():
        try:
            if words in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def assert_each_ended_once(records, count):
    assert Counter(record.trial_id for record in records) == Counter({record.trial_id: 1 for record in records})
    assert [record.status for record in records] == [Status.OK] * count


def assert_nothing_is_left(folder, results):
    """No process of a worker, no folder of a trial, no claim."""
    wait_until(lambda: not processes("bench.execution.supervisor") and not processes("ray::TrialWorker"))
    assert list(folder.glob("bench.*")) == []
    assert list(results.rglob(".*")) == []


def test_a_sweep_over_two_nodes_leaves_every_file(sweep, records, tmp_path, folder):
    driver = sweep("--arch", "tiny_net", "--seeds", 12)
    code, errors = driver.finish()
    assert (code, errors) == (0, ""), driver.text
    assert_each_ended_once(records(), 12)
    assert len(set(re.findall(r"started .* on (\w{6})", driver.text))) == 2
    assert set(re.findall(r"cores (.*)", driver.text)) == {"(0,)", "(1,)"}
    for record in records():
        place = tmp_path / "results" / "trials" / record.trial_id / record.attempt
        assert {path.name for path in place.iterdir()} == {"record.json", "history.csv", "predictions.npz", "log.txt"}
        assert "simulating tiny_net in" in (place / "log.txt").read_text()
        assert Path(record.resolved["folder"]).is_relative_to(folder)  # not in the results
        assert record.environment.cores_used == 1
    assert_nothing_is_left(folder, tmp_path / "results")


def test_bad_trials_become_rows_with_their_reasons(sweep, records):
    driver = sweep("--arch", "failing", "suicide", "endless", "tiny_net", "--timeout", 3)
    assert driver.finish() == (0, ""), driver.text
    reasons = {record.spec.architecture.name: (record.status, record.reason) for record in records()}
    assert reasons == {
        "failing": (Status.FAILED, Reason.EXCEPTION),
        "suicide": (Status.FAILED, Reason.KILLED_BY_SIGNAL),
        "endless": (Status.TIMEOUT, Reason.TIME_LIMIT),
        "tiny_net": (Status.OK, Reason.NONE),
    }
    (failed,) = [record for record in records() if record.spec.architecture.name == "failing"]
    assert failed.message == "RuntimeError: not today"
    assert "not today" in failed.traceback
    assert "simulating failing" in failed.log_tail


def test_a_node_is_removed_and_another_joins(cluster, sweep, records, tmp_path, folder):
    doomed = cluster.add_node(num_cpus=1)
    driver = sweep("--arch", "saving", "--seeds", 16)
    driver.wait_for("event Saved", 3)  # one on each node
    cluster.remove_node(doomed, allow_graceful=False)
    joined = cluster.add_node(num_cpus=1)
    assert driver.finish() == (0, ""), driver.text
    assert driver.text.count("lost the worker on node") == 1
    assert len(set(re.findall(r"started .* on (\w{6})", driver.text))) == 4
    assert_each_ended_once(records(), 16)
    assert [record.resolved["continued"] for record in records()].count(1) == 1
    again = sweep("--arch", "saving", "--seeds", 16)  # its workers remove what the lost one has left
    assert again.finish() == (0, "")
    assert "started" not in again.text
    assert len(records()) == 16
    assert_nothing_is_left(folder, tmp_path / "results")
    cluster.remove_node(joined)


def test_killed_workers_are_replaced_and_a_killed_driver_resumed(sweep, records, tmp_path, folder):
    arguments = ["--arch", "saving", "tiny_net", "--seeds", 3]
    driver = sweep(*arguments)
    driver.wait_for("event Saved")
    for worker in processes("ray::TrialWorker"):
        worker.kill()
    driver.wait_for("lost the worker on node")
    driver.wait_for("event Resumed")
    driver.wait_for("ended")
    driver.wait_for("event Saved", driver.text.count("event Saved") + 1)
    driver.process.kill()
    driver.process.wait()
    wait_until(lambda: not processes("bench.execution.supervisor") and not processes("ray::TrialWorker"))
    ended = {record.attempt for record in records()}
    assert 0 < len(ended) < 6
    again = sweep(*arguments)
    assert again.finish() == (0, "")
    assert "event Resumed" in again.text
    assert ended < {record.attempt for record in records()}
    assert_each_ended_once(records(), 6)
    assert_nothing_is_left(folder, tmp_path / "results")


def test_ctrl_c_lets_trials_save_and_end(sweep, records, tmp_path, folder):
    driver = sweep("--arch", "saving", "--seeds", 2)
    driver.wait_for("event Saved", 2)
    driver.process.send_signal(signal.SIGINT)
    assert driver.finish() == (0, "")
    assert "interrupted" in driver.text
    assert [(record.status, record.reason) for record in records()] == [(Status.INTERRUPTED, Reason.USER)] * 2
    assert len(list((tmp_path / "results").rglob(".checkpoint.npz"))) == 2
    again = sweep("--arch", "saving", "--seeds", 2)
    assert again.finish() == (0, "")
    assert again.text.count("event Resumed") == 2
    assert_nothing_is_left(folder, tmp_path / "results")


def test_a_node_that_does_not_fit_is_refused(sweep):
    driver = sweep("--other-version")
    assert driver.finish()[0] == 2
    pattern = r"BackendError: node \S+ has bench \S+, this machine has bench \S+: results would not be of one kind"
    assert re.search(pattern, driver.text)
    driver = sweep("--jobs", 3)
    assert driver.finish()[0] == 2
    assert re.search(r"UsageError: --jobs 3: node \S+ offers Ray 1 cores", driver.text)


def test_other_data_on_a_node_is_no_trial(sweep, records):
    assert sweep("--arch", "tiny_net", "--other-data").finish() == (0, "")
    (record,) = records()
    assert (record.status, record.reason) == (Status.FAILED, Reason.BAD_DATA)
    assert re.search(r"node \S+ has other images of tiny_data than the trial is of", record.message)


def test_without_an_address_a_cluster_of_this_machine_trains_real_nets(folder, records, tmp_path):
    driver = Driver(folder, "--results", tmp_path / "results", "--arch", "tiny_net", "--seeds", 2)
    assert driver.finish() == (0, ""), driver.text
    assert_each_ended_once(records(), 2)
    for record in records():
        assert record.metrics["test_accuracy"] > 0
        assert record.environment.cores_used == 0
        assert "OMP_NUM_THREADS" not in record.environment.settings
    wait_until(lambda: not processes("bench.execution.supervisor"))
