"""The engine on a Ray cluster: how nodes are divided, what is said where there is none, and the cases on a real one."""

import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BackendError, UsageError
from bench.execution.cluster import RayEngine
from bench.execution.ray_nodes import Slot, divide
from bench.execution.work import Cause, Failure, Limits, WorkDiedError, WorkFailedError, WorkStoppedError

CASES = Path(__file__).with_name("cluster_cases.py")
OWN_NETWORK = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]


def node(name="a", host="one", **resources):
    return {"NodeID": name, "NodeManagerHostname": host, "Resources": resources}


def slot(number, first_core, cores, *, name="a", host="one", gpus=0):
    return Slot(node=name, host=host, number=number, first_core=first_core, cores=cores, gpus=gpus)


def test_a_node_is_divided_by_its_gpus_or_by_jobs():
    assert divide(node(CPU=8.0), None, []) == [slot(0, 0, 8)]
    assert divide(node(CPU=8.0), 3, []) == [slot(0, 0, 2), slot(1, 2, 2), slot(2, 4, 2)]
    assert divide(node(CPU=8.0, GPU=2.0), None, []) == [slot(0, 0, 4, gpus=1), slot(1, 4, 4, gpus=1)]
    assert divide(node(CPU=8.0, GPU=2.0), 1, []) == [slot(0, 0, 8, gpus=1)]
    assert divide(node(memory=1.0), None, []) == []


def test_nodes_of_one_machine_get_different_cores():
    others = [*divide(node(CPU=2.0), None, []), *divide(node("c", "two", CPU=4.0), None, [])]
    assert divide(node("b", CPU=2.0), 2, others) == [slot(0, 2, 1, name="b"), slot(1, 3, 1, name="b")]


@pytest.mark.parametrize(("resources", "message"), [({"CPU": 2}, "Ray 2 cores"), ({"CPU": 8, "GPU": 1}, "Ray 1 GPUs")])
def test_more_jobs_than_a_node_has(resources, message):
    with pytest.raises(UsageError, match=f"--jobs 4: node one offers {message}, and each trial needs one of its own"):
        divide(node(**resources), 4, [])


def test_without_ray_the_message_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        BackendError, match=r'--engine ray needs Ray, which is not installed: pip install -e "\.\[ray\]"'
    ):
        RayEngine(["tensorflow"])


@pytest.mark.parametrize("address", ["head", "ray://head:10001", ":6379", "head:port"])
def test_an_address_that_is_none(address):
    pytest.importorskip("ray", reason="needs Ray (the extra `ray`)")
    with pytest.raises(UsageError, match=r"--ray-address .*: expected HOST:PORT of the head node"):
        RayEngine(["tensorflow"], address=address)


def test_an_address_where_nothing_answers():
    pytest.importorskip("ray", reason="needs Ray (the extra `ray`)")
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(BackendError, match=f"no Ray cluster can be reached at {address}: .*`ray start --head`"):
            RayEngine(["tensorflow"], address=address)


@pytest.mark.parametrize(
    "error",
    [
        WorkStoppedError(Cause.TIME, Limits(seconds=3), "last words"),
        WorkDiedError(-9),
        WorkFailedError(Failure("KeyError", "missing", "Traceback", None)),
    ],
)
def test_how_a_trial_ended_travels(error):
    error.add_note("a traceback")
    arrived = pickle.loads(pickle.dumps(error))
    assert (type(arrived), str(arrived), vars(arrived)) == (type(error), str(error), vars(error))


def test_sweeps_on_two_nodes():
    """Where it may be, in a network that has `lo` alone, and with process numbers of its own: whatever is left ends.

    The shell is the first of these processes: it takes note of those that end without a parent.
    """
    pytest.importorskip("ray", reason="needs Ray (the extra `ray`)")
    command = [sys.executable, "-m", "pytest", str(CASES), "-q", "-p", "no:cacheprovider", "--timeout=300"]
    if shutil.which("ip") and subprocess.run([*OWN_NETWORK, "true"], check=False, capture_output=True).returncode == 0:
        command = [*OWN_NETWORK, "sh", "-c", 'ip link set lo up; "$@"; exit $?', "sh", *command]
    ended = subprocess.run(command, cwd=CASES.parent.parent, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr[-5_000:]
