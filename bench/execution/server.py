"""A process that has imported a backend, and forks a fresh process for each piece of work.

A fork takes milliseconds where an import takes many seconds; whatever the work does to its process dies with it. The
process that forks is `bench.execution.supervisor`, one for each backend; here is the command's side of it.
"""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from bench.environment import BACKENDS, find_gpus
from bench.errors import BackendError, StoppedError
from bench.execution.children import POLITE_SECONDS
from bench.execution.signals import uninterrupted
from bench.execution.work import (
    ANYWHERE,
    UNLIMITED,
    End,
    Event,
    Failure,
    Limits,
    Message,
    Order,
    Place,
    ServerDiedError,
    WorkDiedError,
    WorkFailedError,
    WorkStoppedError,
)

LOG_LINES, LOG_BYTES = 15, 20_000
PATIENCE_SECONDS = 2 * POLITE_SECONDS
PROGRAM = "from bench.execution.supervisor import main; main({descriptor})"
NUMBERS = itertools.count(1)  # of pieces of work, whichever server does them


class ForkServer:
    """A backend's fork server. Its process starts with the first work, serves every `ForkServer` of this process with
    the same backend, and ends with this process.
    """  # noqa: D205

    def __init__(self, backend: str = "tensorflow") -> None:
        self.backend = backend
        self.title = BACKENDS[backend].title

    def run(
        self, function: Callable[..., Any], *arguments: Any, on_event: Callable[[Any], None], place: Place = ANYWHERE
    ) -> Any:
        """Call `function(*arguments, send)` in a fresh fork, pass on what it sends, and return what it returns.

        Args:
            function: a module's function; its last parameter takes a function that sends an event.
            arguments: picklable.
            on_event: called in this process with each event.
            place: where it runs.

        Raises:
            BenchError: as raised by the function.
            WorkFailedError: the function raised anything else.
            WorkDiedError: the fork ended without an answer.
            ServerDiedError: what forks has died.
            BackendError: the backend is not installed, or the server could not import it.

        """
        number = self.submit(function, *arguments, place=place)
        supervisor = _supervisor(self.backend)
        try:
            while True:
                message = supervisor.next_of(number)
                if isinstance(message, End):
                    break
                on_event(message.value)
        except BaseException:  # Ctrl-C, or whoever reads our output has gone
            supervisor.abandon(number)
            raise
        if message.error is not None:
            raise message.error
        return message.result

    def submit(
        self, function: Callable[..., Any], *arguments: Any, place: Place = ANYWHERE, limits: Limits = UNLIMITED
    ) -> int:
        """Start a piece of work, and return its number: what it sends, and its end, come with `receive`."""
        self.check()
        number = next(NUMBERS)
        order = Order(pickle.dumps((function, arguments)), place, limits)
        supervisor = _supervisor(self.backend)
        try:
            supervisor.submit(number, order)
        except BaseException:  # Ctrl-C, after it was sent: nobody will know the number
            supervisor.abandon(number)
            raise
        return number

    def receive(self) -> list[Event | End]:
        """Return what has arrived of all submitted work, without waiting. Work whose server died has ended with it."""
        return _supervisor(self.backend).receive()

    @property
    def connection(self) -> Connection | None:
        """What to wait on for something to arrive; None where that has already happened."""
        supervisor = _supervisor(self.backend)
        return None if supervisor.inbox else supervisor.connection

    def stop(self, number: int) -> None:
        """Ask a piece of work to save what it has and to end; it is killed if it does not."""
        _supervisor(self.backend).tell(Message.STOP, number)

    def kill(self, number: int) -> None:
        """End a piece of work at once."""
        _supervisor(self.backend).tell(Message.KILL, number)

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
        try:
            problem = supervisor.wait_until_ready()
        except ServerDiedError as error:
            raise BackendError(f"{self.title} cannot be started: {error}") from error
        if problem:
            raise BackendError(f"{self.title} cannot be imported: {problem}\n{supervisor.last_lines()}")


def require_installed(backend: str) -> None:
    """Raise `BackendError`, with the line that installs it, where a backend's package is absent."""
    about = BACKENDS[backend]
    if importlib.util.find_spec(about.package) is None:
        raise BackendError(f"--backend {backend} needs {about.title}, which is not installed: {about.install}")


class _Supervisor:
    """A supervisor process, and the pipe to it. `running` holds the limits of each work that has not ended."""

    def __init__(self, backend: str) -> None:
        self.problem: str | None = None
        self.running: dict[int, Limits] = {}
        self.inbox: deque[Event | End] = deque()
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

    def wait_until_ready(self) -> str:
        """Return why the backend cannot be imported, or an empty string."""
        while self.problem is None:
            wait([self.connection])
            self._read_one()
            if not self.is_alive():
                raise self._death()
        return self.problem

    def submit(self, number: int, order: Order) -> None:
        self.running[number] = order.limits
        self.tell(Message.RUN, number, order)

    def tell(self, what: str, number: int, value: Any = None) -> None:
        if number not in self.running:
            return
        try:
            with uninterrupted():  # half a message would be lost
                self.connection.send((what, number, value))
        except OSError:
            self._bury()

    def receive(self) -> list[Event | End]:
        while self.is_alive() and self.connection.poll():
            self._read_one()
        arrived = list(self.inbox)
        self.inbox.clear()
        return arrived

    def next_of(self, number: int) -> Event | End:
        """Wait for what comes next of one piece of work; what comes of others waits in the inbox."""
        while True:
            for message in self.inbox:
                if message.number == number:
                    self.inbox.remove(message)
                    return message
            wait([self.connection])
            self._read_one()

    def abandon(self, number: int) -> None:
        """End a piece of work, and drop its last words. What is still importing, or does not answer, is killed."""
        with uninterrupted():
            self.tell(Message.STOP, number)
            while number in self.running and self.is_alive() and self.connection.poll(PATIENCE_SECONDS):
                self._read_one()
            if number in self.running:
                self.end()
            self.inbox = deque(message for message in self.inbox if message.number != number)

    def _read_one(self) -> None:
        with uninterrupted():  # until it is in the inbox: what was taken out of the pipe would be lost
            try:
                what, number, value = self.connection.recv()
            except (EOFError, OSError):
                self._bury()
                return
            if what == Message.READY:
                self.problem = value
            elif what == Message.EVENT:
                self.inbox.append(Event(number, pickle.loads(value)))  # noqa: S301 - from our own fork
            else:
                answer, cause = value
                self.inbox.append(_end(number, what, answer, cause, self.running.pop(number)))

    def _bury(self) -> None:
        """The supervisor has died: whatever it was doing has ended."""
        death = self._death()
        self.inbox.extend(End(number, error=death) for number in self.running)
        self.running.clear()

    def _death(self) -> ServerDiedError:
        self.end()
        return ServerDiedError(f"the process that forks trials has died. Its last lines:\n{self.last_lines()}")

    def is_alive(self) -> bool:
        return not self.connection.closed

    def end(self) -> None:
        """End the supervisor with all its processes, also one that is still importing."""
        atexit.unregister(self.end)
        if self.process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()

    def last_lines(self) -> str:
        size = self.log.seek(0, os.SEEK_END)
        written = os.pread(self.log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode(errors="replace")
        return "\n".join(written.splitlines()[-LOG_LINES:])


def _end(number: int, what: str, value: Any, cause: Any, limits: Limits) -> End:
    """Return how a piece of work ended. What it answered counts, though it was to be ended, where it is a result."""
    if what == Message.RESULT:
        return End(number, pickle.loads(value))  # noqa: S301 - from our own fork
    failure: Failure | None = pickle.loads(value) if what == Message.FAILURE else None  # noqa: S301 - likewise
    if cause:
        last_words = failure.message if failure and isinstance(failure.error, StoppedError) else ""
        return End(number, error=WorkStoppedError(cause, limits, last_words))
    if failure is None:
        return End(number, error=WorkDiedError(value))
    error = failure.error or WorkFailedError(failure)
    error.add_note(failure.traceback)
    return End(number, error=error)


_SUPERVISORS: dict[str, _Supervisor] = {}


def _supervisor(backend: str) -> _Supervisor:
    """Return the backend's supervisor; a new one where there is none, or it has died and that was told."""
    known = _SUPERVISORS.get(backend)
    if known is None or (known.process.poll() is not None and not known.inbox and not known.running):
        _SUPERVISORS[backend] = known = _Supervisor(backend)
    return known


def _environment(backend: str) -> dict[str, str]:
    level = "2" if find_gpus() else "3"  # without a GPU, TensorFlow complains that it cannot use one
    quiet = {"TF_CPP_MIN_LOG_LEVEL": level, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # NVML's order, by which we name devices
    careful = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # else asking for GPUs would touch them, and forbid forking
    path = os.pathsep.join(filter(None, sys.path))  # the same modules as here, and none from the working directory
    ours = {"KERAS_BACKEND": backend, "BENCH_BACKEND": backend, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return {**quiet, **careful, **os.environ, **ours}
