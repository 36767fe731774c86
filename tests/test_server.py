import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.execution import server as server_module
from bench.execution.server import ForkServer
from bench.execution.work import WorkDiedError, WorkFailedError


@pytest.fixture
def server():
    with ForkServer() as made:
        yield made


def work(what, send):
    """What the fork does; called there, not here."""
    actions = {
        "pid": os.getpid,
        "raise": lambda: 1 / 0,
        "refuse": lambda: (_ for _ in ()).throw(UsageError("no")),
        "exit": lambda: os._exit(3),
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "segfault": lambda: ctypes.string_at(0),
        "events": lambda: [send(number) for number in range(3)] and "done",
        "print": lambda: print("to the log"),
        "change": lambda: os.environ.update(CHANGED="yes") or setattr(server_module, "LOG_LINES", 1),
        "look": lambda: (os.environ.get("CHANGED"), server_module.LOG_LINES),
        "sleep": lambda: send(os.getpid()) or time.sleep(600),
        "modules": lambda: "tensorflow" in __import__("sys").modules,
    }
    return actions[what]()


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


@pytest.mark.parametrize(("what", "code"), [("exit", 3), ("kill", -signal.SIGKILL), ("segfault", -signal.SIGSEGV)])
def test_a_death_is_told_by_its_exit_code(server, what, code):
    with pytest.raises(WorkDiedError) as caught:
        server.run(work, what, on_event=ignore)
    assert caught.value.exit_code == code
    assert server.run(work, "events", on_event=ignore) == "done"


def test_what_work_does_to_its_process_dies_with_it(server):
    server.run(work, "change", on_event=ignore)
    assert server.run(work, "look", on_event=ignore) == (None, server_module.LOG_LINES)


def test_output_goes_to_the_log(server, tmp_path, capfd):
    server.run(work, "print", on_event=ignore, log=tmp_path / "log.txt")
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
