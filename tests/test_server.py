import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.execution import server as server_module
from bench.execution.server import ForkServer
from bench.execution.signals import uninterrupted
from bench.execution.work import End, Place, ServerDiedError, WorkDiedError, WorkFailedError


@pytest.fixture
def server():
    return ForkServer()


class OwnError(UsageError):
    """A plugin's own kind of error, which the command may not be able to import."""


OwnError.__module__ = "no_such_module"


def work(what, send):
    """What the fork does; called there, not here."""
    actions = {
        "pid": os.getpid,
        "raise": lambda: 1 / 0,
        "refuse": lambda: (_ for _ in ()).throw(UsageError("no")),
        "raise its own": lambda: (_ for _ in ()).throw(OwnError("mine")),
        "exit": lambda: os._exit(3),
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "segfault": lambda: ctypes.string_at(0),
        "events": lambda: [send(number) for number in range(3)] and "done",
        "print": lambda: print("to the log"),
        "change": lambda: os.environ.update(CHANGED="yes") or setattr(server_module, "LOG_LINES", 1),
        "look": lambda: (os.environ.get("CHANGED"), server_module.LOG_LINES),
        "sleep": lambda: send(os.getpid()) or time.sleep(600),
        "modules": lambda: "tensorflow" in __import__("sys").modules,
        "flood": lambda: [send("x" * 50) for _ in range(3_000)] and "done",
        "write everywhere": lambda: [_write_garbage(number) for number in range(3, 60)] and time.sleep(0.5),
        "leave a child that floods": lambda: _leave_child(send),
    }
    return actions[what]()


def _write_garbage(descriptor):
    with suppress(OSError):
        os.write(descriptor, b"\x00\x00\x00\x05abcde")


def _leave_child(send):
    if not os.fork():
        while True:
            send("more")
    os._exit(3)


def measure(data, send):
    """Work with something large to take along."""
    return len(data)


def ignore(_):
    pass


def test_work_runs_in_a_process_of_its_own_that_has_tensorflow_already(server):
    first, second = (server.run(work, "pid", on_event=ignore) for _ in range(2))
    assert len({first, second, os.getpid()}) == 3
    assert server.run(work, "modules", on_event=ignore) is True


def test_events_arrive_in_order_before_the_result(server):
    seen = []
    assert server.run(work, "events", on_event=seen.append) == "done"
    assert seen == [0, 1, 2]


def test_an_exception_arrives_with_its_traceback(server):
    with pytest.raises(WorkFailedError, match="ZeroDivisionError: division by zero") as caught:
        server.run(work, "raise", on_event=ignore)
    assert "in work" in caught.value.__notes__[0]
    with pytest.raises(UsageError, match="no"):
        server.run(work, "refuse", on_event=ignore)


def test_an_error_of_a_kind_that_only_the_fork_knows_arrives_too(server):
    with pytest.raises(WorkFailedError, match="OwnError: mine"):
        server.run(work, "raise its own", on_event=ignore)


def test_an_interrupt_ends_the_work_and_the_server_serves_on(server):
    def interrupt(_):
        signal.raise_signal(signal.SIGINT)

    started = []
    with pytest.raises(KeyboardInterrupt):
        server.run(work, "sleep", on_event=lambda pid: started.append(pid) or interrupt(pid))
    assert not _alive(started[0])
    assert server.run(work, "events", on_event=ignore) == "done"


def test_a_supervisor_that_dies_is_said_and_replaced(server):
    def kill_supervisor(_):
        supervisor = server_module._supervisor("tensorflow")
        os.killpg(supervisor.process.pid, signal.SIGKILL)

    with pytest.raises(ServerDiedError, match="the process that forks trials has died"):
        server.run(work, "sleep", on_event=kill_supervisor)
    assert server.run(work, "events", on_event=ignore) == "done"


def uninterrupted_work(steps):
    with uninterrupted():
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
        time.sleep(0.3)
        steps.append("done")


def test_signals_wait_until_what_must_not_be_interrupted_is_done():
    """Also where another thread could take the signal, as those of NumPy's libraries would."""
    ended, steps = threading.Event(), []
    other = threading.Thread(target=ended.wait)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            uninterrupted_work(steps)
        assert steps == ["done"]
    finally:
        ended.set()
        other.join()


@pytest.mark.parametrize(("what", "code"), [("exit", 3), ("kill", -signal.SIGKILL), ("segfault", -signal.SIGSEGV)])
def test_a_death_is_told_by_its_exit_code(server, what, code):
    with pytest.raises(WorkDiedError) as caught:
        server.run(work, what, on_event=ignore)
    assert caught.value.exit_code == code
    assert server.run(work, "events", on_event=ignore) == "done"


def test_work_can_be_sent_while_nobody_reads_what_other_work_sends(server):
    """More than the pipes hold, in both directions."""
    numbers = [server.submit(work, "flood")]
    time.sleep(0.5)
    numbers.append(server.submit(measure, b"x" * 600_000))
    arrived = []
    while sum(isinstance(each, End) for each in arrived) < 2:
        arrived += server.receive()
    assert {each.number: each.result for each in arrived if isinstance(each, End)} == {
        numbers[0]: "done",
        numbers[1]: 600_000,
    }
    assert len(arrived) == 3_002


@pytest.mark.parametrize("what", ["write everywhere", "leave a child that floods"])
def test_work_that_disturbs_its_pipe_disturbs_no_other_work(server, what):
    with pytest.raises(WorkDiedError):
        server.run(work, what, on_event=ignore)
    assert server.run(work, "events", on_event=ignore) == "done"


def test_what_work_does_to_its_process_dies_with_it(server):
    server.run(work, "change", on_event=ignore)
    assert server.run(work, "look", on_event=ignore) == (None, server_module.LOG_LINES)


def test_output_goes_to_the_log(server, tmp_path, capfd):
    server.run(work, "print", on_event=ignore, place=Place(log=str(tmp_path / "log.txt")))
    assert (tmp_path / "log.txt").read_text() == "to the log\n"
    assert "to the log" not in capfd.readouterr().out


def test_a_preload_that_fails_is_not_swallowed(tmp_path):
    """In a process of its own, since a backend's supervisor is one a process."""
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no AVX here')")
    script = tmp_path / "main.py"
    script.write_text(
        "from bench.execution.server import ForkServer\n"
        "from bench.errors import BackendError\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        ForkServer().check()\n"
        "    except BackendError as error:\n"
        "        print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "TensorFlow cannot be imported: no AVX here" in ended.stdout, ended.stderr


def test_a_fork_ends_with_the_process_that_asked_for_it(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        "from bench.execution.server import ForkServer\n"
        "from tests.test_server import work\n"
        "ForkServer().run(work, 'sleep', on_event=lambda pid: print(pid, flush=True))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert _alive(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and _alive(child):
        time.sleep(0.1)
    assert not _alive(child)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("stub", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "PyTorch cannot be started: "),
        ("raise ImportError('built for another machine')", "PyTorch cannot be imported: built for another machine"),
    ],
)
def test_doctor_says_which_backend_is_broken(stub, message, tmp_path):
    (tmp_path / "torch.py").write_text(stub)
    (tmp_path / "jax.py").write_text("raise ImportError('no JAX either')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    ended = subprocess.run(
        [sys.executable, "-c", DOCTOR], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert message in ended.stdout, ended.stderr
    assert "JAX cannot be imported: no JAX either" in ended.stdout


DOCTOR = """
from bench.errors import BackendError
from bench.execution.server import ForkServer
for backend in ("torch", "jax"):
    try:
        ForkServer(backend).check()
    except BackendError as error:
        print(error)
"""


def test_the_working_directory_hides_no_module(tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError('not this one')")
    script = "from tests.test_server import work; from bench.execution.server import ForkServer\n"
    script += "print(ForkServer().run(work, 'modules', on_event=print))"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONSAFEPATH": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.stdout.strip() == "True", ended.stderr
