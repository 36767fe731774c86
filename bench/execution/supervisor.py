"""The process that owns a backend's fork server: it forks a process for each piece of work and passes its answer on.

Python's fork server is one object a process, so each backend needs such a process. What goes through here stays
pickled: this process imports neither the backend nor the rest of bench.

Messages are bytes, the first of which says what they are. From the command: RUN and CANCEL. To it: EVENT, and at the
end of each piece of work one of RESULT, FAILURE, DIED, CANCELLED.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import pickle
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

from bench.errors import BenchError
from bench.execution.work import Failure, Message

PRELOAD = "bench.execution.preload"
POLITE_SECONDS = 5.0


def main(descriptor: int) -> None:
    """Serve the command at the other end of a pipe until it is gone."""
    command = Connection(descriptor)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    multiprocessing.forkserver.ensure_running()
    while True:
        try:
            message = command.recv_bytes()
        except (EOFError, OSError):
            return
        if message[:1] == Message.RUN:
            _run(context, command, message[1:])


def check_preload() -> str:
    """Return why the preload failed (Python itself swallows that), or an empty string; called in a fork."""
    if PRELOAD in sys.modules:
        return ""
    try:
        __import__(PRELOAD)
    except ImportError as error:
        return str(error)
    return "the fork server has not preloaded it"


def _run(context: Any, command: Connection, work: bytes) -> None:
    ours, theirs = context.Pipe()
    with ours:
        process = context.Process(target=_child, args=(theirs, work), daemon=True)
        try:
            process.start()
        except (EOFError, OSError):  # the server itself has died; the next work starts another
            command.send_bytes(Message.DIED + pickle.dumps(None))
            return
        finally:
            theirs.close()
        answer = _relay(command, ours, process)
        if answer[:1] != Message.DIED and answer[:1] != Message.CANCELLED:
            process.join(POLITE_SECONDS)
        _end(process)
        command.send_bytes(answer)


def _relay(command: Connection, child: Connection, process: Any) -> bytes:
    """Pass on what the child sends; return its last message, or how it ended without one."""
    while True:
        ready = multiprocessing.connection.wait([command, child, process.sentinel])
        if command in ready:  # it wants no answer any more, or is gone
            _end(process)
            if not _still_there(command):
                sys.exit(0)
            return Message.CANCELLED + pickle.dumps(None)
        try:
            message = child.recv_bytes() if child.poll() else b""
        except (EOFError, OSError):  # killed in the middle of a message, say
            message = b""
        if not message:
            process.join()
            return Message.DIED + pickle.dumps(process.exitcode)
        if message[:1] != Message.EVENT:
            return message
        command.send_bytes(message)


def _still_there(command: Connection) -> bool:
    try:
        command.recv_bytes()
    except (EOFError, OSError):
        return False
    return True


def _end(process: Any) -> None:
    """End the process if it still runs: SIGTERM, and after a moment SIGKILL."""
    if process.exitcode is None:
        process.terminate()
        process.join(POLITE_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()


def _child(connection: Connection, work: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's to handle
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()

    def send(event: Any) -> None:
        connection.send_bytes(Message.EVENT + pickle.dumps(event))

    try:
        function, arguments, log = pickle.loads(work)  # noqa: S301 - from our own command
        _redirect(log)
        answer = Message.RESULT + pickle.dumps(function(*arguments, send))
    except Exception as error:
        traceback.print_exc()
        known = error if isinstance(error, BenchError) and type(error).__module__ == BenchError.__module__ else None
        failure = Failure(type(error).__name__, str(error), traceback.format_exc(), known)  # a plugin's own stays there
        answer = Message.FAILURE + pickle.dumps(failure)
    connection.send_bytes(answer)


def _redirect(log: str | None) -> None:
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
        connection.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)
