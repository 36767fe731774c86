"""The process that has imported a backend, and forks a process for each piece of work: many at a time.

Messages are (what, number of the work, value). From the command: RUN, STOP, KILL. To it: READY once, then for each
work EVENTs and one of RESULT, FAILURE, DIED. What events and results hold stays pickled here.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.execution.children import SAVING_SECONDS, Child, become_subreaper, end_strays
from bench.execution.work import Cause, Message, Order

PRELOAD = os.environ.get("BENCH_PRELOAD") or "bench.execution.preload"  # another one serves work without a backend
TICK_SECONDS = 0.25


def main(descriptor: int) -> None:
    """Import the backend, then serve the command at the other end of a pipe until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = Connection(descriptor)
    with _ending_with(command):
        problem = _preload()
    become_subreaper()
    gc.freeze()  # else the first collection in each fork would copy what it shares with this process
    supervisor = _Supervisor(command)
    with suppress(BrokenPipeError, ConnectionResetError):
        command.send((Message.READY, 0, problem))
        supervisor.serve()
    supervisor.end()


def _preload() -> str:
    """Import what every trial needs; return why that failed, or an empty string."""
    try:
        importlib.import_module(PRELOAD)
    except ImportError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def _ending_with(command: Connection) -> Iterator[None]:
    """End this process if the command goes while it is importing; afterwards no thread is left, for forks' sake."""
    imported = threading.Event()
    poll = select.poll()
    poll.register(command.fileno(), select.POLLHUP)

    def watch() -> None:
        while not imported.wait(TICK_SECONDS):
            if any(what & select.POLLHUP for _, what in poll.poll(0)):
                os._exit(1)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        imported.set()
        thread.join()


class _Supervisor:
    def __init__(self, command: Connection) -> None:
        self.command = command
        self.children: dict[int, Child] = {}
        self.woken, alarm = os.pipe()
        for descriptor in (self.woken, alarm):
            os.set_blocking(descriptor, False)
        self.own = [command, self.woken, alarm]
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)  # a child that ends ends the wait below

    def serve(self) -> None:
        while True:
            pipes = {child.pipe: child for child in self.children.values() if not child.pipe.closed}
            sources: list[Any] = [self.woken, *pipes] if self._has_room() else []
            ready = wait([self.command, *sources], TICK_SECONDS if self.children else None)
            if self.command in ready and not self._obey():
                return
            for pipe in ready:
                if isinstance(pipe, Connection) and pipe in pipes:
                    self._pass_on(pipes[pipe])
            if self.woken in ready:
                os.read(self.woken, 4096)
                self._reap()
            for child in self.children.values():
                child.enforce()

    def end(self) -> None:
        """End all work, at once: nobody waits for it any more."""
        for child in self.children.values():
            child.kill()
        end_strays(())

    def _obey(self) -> bool:
        """Do what the command says; return whether it is still there."""
        try:
            what, number, value = self.command.recv()
        except (EOFError, OSError):
            return False
        if what == Message.RUN:
            assert isinstance(value, Order)
            others = [child.pipe for child in self.children.values() if not child.pipe.closed]
            self.children[number] = Child(number, value, [*self.own, *others])
        elif number in self.children:
            child = self.children[number]
            child.kill(Cause.STOPPED) if what == Message.KILL else child.stop(Cause.STOPPED, SAVING_SECONDS)
        return True

    def _has_room(self) -> bool:
        """Return whether the command takes in what it is sent: else both might wait for the other to read."""
        poll = select.poll()
        poll.register(self.command.fileno(), select.POLLOUT)
        return bool(poll.poll(0))

    def _pass_on(self, child: Child) -> None:
        value = child.receive()
        if value is not None:
            self.command.send((Message.EVENT, child.number, value))

    def _reap(self) -> None:
        ended = {}
        with suppress(ChildProcessError):
            while (pid_and_status := os.waitpid(-1, os.WNOHANG))[0]:
                ended[pid_and_status[0]] = os.waitstatus_to_exitcode(pid_and_status[1])
        for child in [each for each in self.children.values() if each.pid in ended]:
            del self.children[child.number]
            self._finish(child, ended[child.pid])

    def _finish(self, child: Child, exit_code: int) -> None:
        """End what the process has left behind, read what it has still sent, and answer."""
        left = child.end_session()
        left |= end_strays(each.pid for each in self.children.values())
        while not child.pipe.closed and child.answer is None and child.pipe.poll():
            self._pass_on(child)
        if left and child.place.log is not None:
            with suppress(OSError), open(child.place.log, "a") as log:  # noqa: PTH123 - as it was opened
                log.write("bench: processes that the trial had left behind were ended.\n")
        child.pipe.close()
        child.look_last()
        what, value = child.answer or (Message.DIED, exit_code)
        self.command.send((what, child.number, (value, child.cause)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
