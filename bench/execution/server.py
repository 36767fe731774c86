"""A process that has imported a backend, and forks a fresh process for each piece of work.

A fork takes milliseconds where an import takes many seconds; whatever the work does to its process dies with it. The
fork server belongs to a supervisor (`bench.execution.supervisor`), one for each backend.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Pipe, wait
from pathlib import Path
from typing import Any

from bench.environment import BACKENDS
from bench.errors import BackendError
from bench.execution.signals import uninterrupted
from bench.execution.supervisor import POLITE_SECONDS, check_preload
from bench.execution.work import Failure, Message, ServerDiedError, WorkDiedError, WorkFailedError

LOG_LINES, LOG_BYTES = 15, 20_000
PATIENCE_SECONDS = 3 * POLITE_SECONDS
PROGRAM = "from bench.execution.supervisor import main; main({descriptor})"


class ForkServer:
    """A backend's fork server. The supervisor starts with the first work, serves every `ForkServer` of this process
    with the same backend, and ends with this process.
    """  # noqa: D205

    def __init__(self, backend: str = "tensorflow") -> None:
        self.backend = backend
        self.title = BACKENDS[backend].title

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
            ServerDiedError: what forks has died.
            BackendError: the backend is not installed, or the server could not import it.

        """
        self.check()
        return _supervisor(self.backend).run(function, arguments, on_event, log)

    def start(self) -> None:
        """Start importing the backend, without waiting for it.

        Raises:
            BackendError: it is not installed.

        """
        require_installed(self.backend)
        _supervisor(self.backend)

    def check(self) -> None:
        """Wait until the backend is imported.

        Raises:
            BackendError: it is not installed, or cannot be imported.

        """
        self.start()
        supervisor = _supervisor(self.backend)
        if supervisor.checked:
            return
        try:
            missing = supervisor.run(_check, (), lambda _: None, None)
        except (ServerDiedError, WorkDiedError, WorkFailedError) as error:
            raise BackendError(f"{self.title} cannot be started: {error}\n{supervisor.last_lines()}") from error
        if missing:
            raise BackendError(f"{self.title} cannot be imported: {missing}\n{supervisor.last_lines()}")
        supervisor.checked = True


def require_installed(backend: str) -> None:
    """Raise `BackendError`, with the line that installs it, where a backend's package is absent."""
    about = BACKENDS[backend]
    if importlib.util.find_spec(about.package) is None:
        raise BackendError(f"--backend {backend} needs {about.title}, which is not installed: {about.install}")


class _GoneError(Exception):
    """The supervisor has died."""


class _Supervisor:
    """A supervisor process, and the pipe to it. `pending` says whether it owes an answer."""

    def __init__(self, backend: str) -> None:
        self.checked = self.pending = False
        self.log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - as long as this object
        self.connection, theirs = Pipe()
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", PROGRAM.format(descriptor=theirs.fileno())],
            env=_environment(backend),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C is the command's to handle
        )
        theirs.close()
        atexit.register(self.end)

    def run(self, function: Callable[..., Any], arguments: Any, on_event: Callable[[Any], None], log: Any) -> Any:
        work = pickle.dumps((function, arguments, None if log is None else str(log.resolve())))
        try:
            self._send(Message.RUN + work)
            kind, value = self._answer(on_event)
        except _GoneError as error:  # the next work starts another
            raise self._died() from error
        except BaseException:  # Ctrl-C, or whoever reads our output has gone
            self._stop()
            raise
        if kind == Message.DIED:
            raise self._died() if value is None else WorkDiedError(value)
        if kind == Message.FAILURE:
            _raise(value)
        return value

    def _answer(self, on_event: Callable[[Any], None]) -> tuple[bytes, Any]:
        """Pass events on until something else comes."""
        while True:
            wait([self.connection])
            message = self._receive()
            kind, value = message[:1], pickle.loads(message[1:])  # noqa: S301 - from our own fork
            if kind != Message.EVENT:
                return kind, value
            on_event(value)

    def _send(self, message: bytes) -> None:
        try:
            with uninterrupted():  # half a message would be lost
                self.connection.send_bytes(message)
                self.pending = True
        except OSError as error:
            raise _GoneError from error

    def _receive(self) -> bytes:
        try:
            with uninterrupted():
                message = self.connection.recv_bytes()
                self.pending = message[:1] == Message.EVENT
        except (EOFError, OSError) as error:
            raise _GoneError from error
        return message

    def _stop(self) -> None:
        """End the running work; its last words are dropped. What is still importing, or does not answer, is killed."""
        with uninterrupted():
            if self.pending and self.checked:
                with suppress(_GoneError):
                    self._send(Message.CANCEL)
                    while self.pending and self.connection.poll(PATIENCE_SECONDS):
                        self._receive()
            if self.pending:
                self.end()

    def _died(self) -> ServerDiedError:
        self.end()
        return ServerDiedError(f"the process that forks trials has died. Its last lines:\n{self.last_lines()}")

    def end(self) -> None:
        """End the supervisor with all its processes, also one that is still importing."""
        atexit.unregister(self.end)
        if self.process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        self.pending = False

    def last_lines(self) -> str:
        size = self.log.seek(0, os.SEEK_END)
        written = os.pread(self.log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode(errors="replace")
        return "\n".join(written.splitlines()[-LOG_LINES:])


_SUPERVISORS: dict[str, _Supervisor] = {}


def _supervisor(backend: str) -> _Supervisor:
    """Return the backend's supervisor, a new one where there is none or it has died."""
    known = _SUPERVISORS.get(backend)
    if known is None or known.process.poll() is not None:
        _SUPERVISORS[backend] = known = _Supervisor(backend)
    return known


def _environment(backend: str) -> dict[str, str]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # NVML's order, by which we name devices
    careful = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # else asking for GPUs would touch them, and forbid forking
    path = os.pathsep.join(filter(None, sys.path))  # the same modules as here, and none from the working directory
    ours = {"KERAS_BACKEND": backend, "BENCH_BACKEND": backend, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return {**quiet, **careful, **os.environ, **ours}


def _check(_send: Callable[[Any], None]) -> str:
    return check_preload()


def _raise(failure: Failure) -> None:
    error = failure.error or WorkFailedError(failure)
    error.add_note(failure.traceback)
    raise error
