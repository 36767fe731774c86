"""A server process that has imported TensorFlow, and forks a fresh process for each piece of work.

A fork takes milliseconds where an import takes many seconds; whatever the work does to its process dies with it.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.errors import BackendError, BenchError
from bench.execution.signals import uninterrupted

PRELOAD = "bench.execution.preload"
POLITE_SECONDS = 5.0
SERVER_DIED = 255  # what Python's fork server gives for a process whose end it could not see
LOG_LINES = 15


@dataclass(frozen=True)
class Failure:
    """An exception of the child, as it travels to the parent."""

    kind: str
    message: str
    traceback: str
    error: BenchError | None


class WorkFailedError(Exception):
    """The work raised an exception that is not a `BenchError`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.message}")
        self.failure = failure


class WorkDiedError(Exception):
    """The process ended without an answer. `exit_code` is negative for a signal, as in `subprocess`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the process ended with exit code {exit_code}")
        self.exit_code = exit_code


class ForkServer:
    """Python's fork server with the backend preloaded. There is one a process; it starts with the first work."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        with tempfile.NamedTemporaryFile(prefix="bench-server-", suffix=".log", delete=False) as log:
            self._log = Path(log.name)
        self._checked = False

    def _start(self) -> None:
        """Start importing the backend, without waiting for it."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's own choice is: a trial names its backend
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # NVML's order, by which devices are named
        os.environ["BENCH_SERVER_LOG"] = str(self._log)
        self._context.set_forkserver_preload([PRELOAD])
        _server().ensure_running()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the server's log; the server itself ends with this process."""
        self._log.unlink(missing_ok=True)

    def run(
        self, function: Callable[..., Any], *arguments: Any, on_event: Callable[[Any], None], log: Path | None = None
    ) -> Any:
        """Call `function(*arguments, send)` in a fresh fork, pass on what it sends, and return what it returns.

        Args:
            function: a module's function; its last parameter takes a function that sends an event.
            arguments: picklable.
            on_event: called in this process with each event.
            log: where the fork's output goes; without one, into the server's own log.

        Raises:
            BenchError: as raised by the function.
            WorkFailedError: the function raised anything else.
            WorkDiedError: the fork ended without an answer.
            BackendError: the server could not import the backend.

        """
        self.check()
        return self._run(function, arguments, on_event, log)

    def check(self) -> None:
        """Wait until the backend is imported.

        Raises:
            BackendError: it cannot be.

        """
        if self._checked:
            return
        try:
            missing = self._run(check_preload, (), lambda _: None, self._log)
        except (WorkDiedError, WorkFailedError, EOFError, ConnectionError) as error:
            raise BackendError(f"TensorFlow cannot be started: {error}\n{self._last_lines()}") from error
        if missing:
            raise BackendError(f"TensorFlow cannot be imported: {missing}\n{self._last_lines()}")
        self._checked = True

    def _run(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        on_event: Callable[[Any], None],
        log: Path | None,
    ) -> Any:
        self._start()
        ours, theirs = self._context.Pipe()
        with ours:
            process = self._context.Process(target=_child, args=(theirs, function, arguments, log), daemon=True)
            try:
                process.start()
            except (EOFError, OSError) as error:  # the server itself has died; the next work starts another
                raise WorkDiedError(SERVER_DIED) from error
            finally:
                theirs.close()
            try:
                answer = _listen(ours, process, on_event)
            except BaseException:
                _end(process)
                raise
            with uninterrupted():
                process.join(POLITE_SECONDS)
                _end(process)
            return answer

    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def check_preload(_send: Callable[[Any], None]) -> str:
    """Return why the preload failed (Python itself swallows that), or an empty string."""
    if PRELOAD in sys.modules:
        return ""
    try:
        __import__(PRELOAD)
    except ImportError as error:
        return str(error)
    return "the fork server has not preloaded it"


def _server() -> Any:
    from multiprocessing import forkserver

    return forkserver._forkserver


def _listen(connection: Connection, process: Any, on_event: Callable[[Any], None]) -> Any:
    while True:
        multiprocessing.connection.wait([connection, process.sentinel])
        if not connection.poll():
            process.join()
            raise WorkDiedError(process.exitcode)
        try:
            kind, value = connection.recv()
        except (EOFError, ConnectionError):
            process.join()
            raise WorkDiedError(process.exitcode) from None
        if kind == "event":
            on_event(value)
        elif kind == "result":
            return value
        else:
            error = value.error or WorkFailedError(value)
            error.add_note(value.traceback)
            raise error


def _end(process: Any) -> None:
    """End the process if it still runs: SIGTERM, and after a moment SIGKILL."""
    if process.exitcode is None:
        process.terminate()
        process.join(POLITE_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()


def _child(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...], log: Path | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    _redirect(log)
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    try:
        result = ("result", function(*arguments, lambda event: connection.send(("event", event))))
    except Exception as error:
        traceback.print_exc()
        known = error if isinstance(error, BenchError) else None
        result = ("failure", Failure(type(error).__name__, str(error), traceback.format_exc(), known))
    connection.send(result)


def _redirect(log: Path | None) -> None:
    if log is None:
        return
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _end_with_parent(connection: Connection) -> None:
    """End this process when the parent is gone: it never sends anything, so there is only an end to read."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)
