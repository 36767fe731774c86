"""A forked process with everything that it starts: how it is made, held to its limits, and ended whole."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.execution.work import Cause, Failure, Message, Order, Place

POLITE_SECONDS = 10.0  # between SIGTERM and SIGKILL of what is beyond its time
SAVING_SECONDS = 60.0  # the same of what is told to stop: it may have much to save
LAST_SECONDS = 5.0  # for a process to end after its answer
LOOK_SECONDS = 1.0  # between two looks at a folder, or at the processes that a child has started
MORE_LIKELY_VICTIM = "500"  # where memory runs out, the kernel takes a trial before the command

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Child:
    """A process that was forked for a piece of work. `answer` is its last message, once there is one."""

    def __init__(self, number: int, order: Order, inherited: Iterable[Any]) -> None:
        """Fork.

        Args:
            number: of the work.
            order: what to do, where, and within which limits.
            inherited: connections and descriptors of this process, which the child must not hold open.

        """
        self.number, self.place, self.limits = number, order.place, order.limits
        self.pipe, theirs = Pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            _become_child(theirs, [*inherited, self.pipe], order, parent)
        theirs.close()
        self.started = self.looked = time.monotonic()
        self.answer: tuple[str, bytes] | None = None
        self.cause = Cause.NONE
        self.kill_at: float | None = None

    def receive(self) -> bytes | None:
        """Return the value of an event that has arrived; keep an answer, and return None for it."""
        try:
            kind, value = self.pipe.recv()
        except Exception:  # it has ended, perhaps in the middle of a message, or something else has written here
            self.pipe.close()
            return None
        if kind == Message.EVENT:
            return bytes(value)
        self.answer = kind, value
        self.kill_at = self.kill_at or time.monotonic() + LAST_SECONDS
        return None

    def stop(self, cause: Cause, patience: float = POLITE_SECONDS) -> None:
        """Ask it to end, and set the time at which it will be killed."""
        if self.answer is None:
            self.cause = self.cause or cause
            self.kill_at = time.monotonic() + patience
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self, cause: Cause = Cause.NONE) -> None:
        """End it at once, with the processes of its session."""
        if self.answer is None:
            self.cause = self.cause or cause
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # where it has not yet got as far as having a session

    def enforce(self) -> None:
        """End it where it is beyond a limit, or has not ended when it was asked to."""
        now, limits = time.monotonic(), self.limits
        if self.kill_at is not None and now > self.kill_at:
            self.kill()
        elif limits.seconds is not None and now - self.started > limits.seconds and not self.cause:
            self.stop(Cause.TIME)
        thorough = now - self.looked > LOOK_SECONDS
        if limits.memory_bytes is not None and _resident_bytes(self.pid, thorough) > limits.memory_bytes:
            self.kill(Cause.MEMORY)
        if thorough and limits.disk_bytes is not None and _folder_bytes(self.place.folder) > limits.disk_bytes:
            self.kill(Cause.DISK)
        if thorough:
            self.looked = now

    def look_last(self) -> None:
        """Drop the answer of a process that has written too much, which may have ended before that was seen."""
        limit = self.limits.disk_bytes
        if limit is not None and _folder_bytes(self.place.folder) > limit:
            self.cause, self.answer = self.cause or Cause.DISK, None

    def end_session(self) -> bool:
        """End what the process, which has ended, has left of its session; return whether there was anything."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def become_subreaper() -> None:
    """Adopt the processes that children leave behind, so that they can be found (Linux; elsewhere nothing)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_strays(running: Iterable[int]) -> bool:
    """End adopted processes that belong to none of the running children's sessions; return whether there were any."""
    import psutil

    sessions, found = {*running}, False
    for process in psutil.Process().children():
        with suppress(ProcessLookupError, psutil.Error):
            if process.pid not in sessions and os.getsid(process.pid) not in sessions:
                process.kill()
                found = True
    return found


def _become_child(connection: Connection, inherited: Iterable[Any], order: Order, parent: int) -> None:
    """Do the work and end; never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()  # so that it can be ended with all it starts; Ctrl-C is the command's to handle
        _end_with(parent, connection)
        for each in inherited:
            os.close(each if isinstance(each, int) else each.fileno())
        _settle(order.place)
        connection.send(_work(connection, order))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _work(connection: Connection, order: Order) -> tuple[str, bytes]:
    def send(event: Any) -> None:
        connection.send((Message.EVENT, pickle.dumps(event)))

    try:
        function, arguments = pickle.loads(order.call)  # noqa: S301 - from our own command
        return Message.RESULT, pickle.dumps(function(*arguments, send))
    except Exception as error:
        traceback.print_exc()
        known = error if isinstance(error, BenchError) and type(error).__module__ == BenchError.__module__ else None
        failure = Failure(type(error).__name__, str(error), traceback.format_exc(), known)  # a plugin's own stays there
        return Message.FAILURE, pickle.dumps(failure)


def _settle(place: Place) -> None:
    """Take up the cores, the variables, the folder and the log."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(MORE_LIKELY_VICTIM)
    if place.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, place.cores)
    os.environ.update(place.variables)
    if place.folder is not None:  # where temporary files go, too: TensorFlow leaves some of each training
        os.environ["TMPDIR"] = tempfile.tempdir = place.folder
    if place.log is None:
        return
    file = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _end_with(parent: int, connection: Connection) -> None:
    """End this process when the parent is gone: by the kernel on Linux, elsewhere by a thread that reads from it."""
    if _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
        if os.getppid() != parent:  # it was gone before
            os._exit(1)
        return

    def read() -> None:
        with suppress(EOFError, OSError):
            connection.recv_bytes()  # it never sends anything: there is only an end to read
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()


def _prctl(option: int, value: int) -> bool:
    """Call Linux's prctl; return whether it is there and did it."""
    try:
        call: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return False
    return sys.platform == "linux" and call(option, value, 0, 0, 0) == 0


def _resident_bytes(pid: int, thorough: bool) -> int:
    """Return the resident memory of a process; where thorough, of those that it has started too."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)] if thorough else [process]
    except psutil.Error:
        return 0
    total = 0
    for each in family:
        with suppress(psutil.Error):
            total += each.memory_info().rss
    return total


def _folder_bytes(folder: str | None) -> int:
    total = 0
    for path, _, names in os.walk(folder or ""):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118 - called every second
    return total
