"""The engine of many machines: a Ray actor for each unit of each node.

Ray carries the messages and the files, keeps the list of nodes, and says what has died. A worker that is gone is
replaced on its node; a node that is gone is done without, one that joins gets workers.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import bench
from bench.atomic import replacing
from bench.environment import bench_source_hash
from bench.errors import BackendError, BenchError, UsageError
from bench.execution.engine import LostError, Setting, Unit
from bench.execution.job import TrialJob, run_in_fork
from bench.execution.ray_nodes import Slot, connect, divide
from bench.execution.ray_worker import Greeting, Report, TrialWorker
from bench.execution.work import End, Event, Failure, Limits, WorkFailedError
from bench.store import KEPT

LOOK_SECONDS = 2.0  # between two looks at which nodes there are
PATIENCE_SECONDS = 300.0  # without any unit
GATHER_SECONDS = 60.0  # for the other workers, once the first one is ready
ANSWER_SECONDS = 120.0  # to measure a peak, or to fetch what is ready
MOST_FAILURES = 3  # of a slot's workers to start, one after another
FOREIGN = "failed to import"  # in Ray's message where a node cannot import the worker's class
APART = {"life": 1, "orders": 1}  # threads of a worker besides that for trials


@dataclass(eq=False)
class _Member:
    """A worker. `life` ends with it; `greeting` is there once it can be used."""

    slot: Slot
    actor: Any
    hello: Any
    life: Any
    greeting: Greeting | None = None

    @property
    def unit(self) -> Unit:
        assert self.greeting is not None
        return Unit(self.slot.node, self.slot.number, self.greeting.cores, self.greeting.gpu)


@dataclass(eq=False)
class _Work:
    """A trial on a worker, and the stream of its reports."""

    member: _Member
    stream: Any
    job: TrialJob


class RayEngine:
    """A Ray cluster: on each node a unit for each GPU, or `jobs` units that share its cores out among them."""

    def __init__(
        self,
        backends: Sequence[str],
        jobs: int | None = None,
        address: str | None = None,
        work: Callable[..., Any] = run_in_fork,
    ) -> None:
        """Connect, and wait until workers have imported the backends.

        Args:
            backends: those that trials need.
            jobs: how many units each node has; None: one for each GPU, or one.
            address: HOST:PORT of the head node; None: `RAY_ADDRESS`, or else a new cluster of this machine alone.
            work: called in a fork for each trial, with its job and a function that sends an event.

        Raises:
            UsageError: a node has fewer GPUs, or fewer cores, than jobs; or the address is not one.
            BackendError: the cluster cannot be used, or a node has not what this process has.

        """
        self._backends, self._jobs, self._work = list(dict.fromkeys(backends)), jobs, work
        self._members: list[_Member] = []
        self._settings: dict[Unit, Mapping[str, Setting]] = {}
        self._peaks: dict[tuple[Unit, str, str], float | None] = {}
        self._working: dict[int, _Work] = {}
        self._ends: deque[End] = deque()
        self._failures: Counter[Slot] = Counter()
        self._slots: list[Slot] = []
        self._refused: dict[str, BenchError] = {}  # why nodes are done without
        self._numbers = itertools.count(1)
        self._looked, self._served = 0.0, time.monotonic()
        self._ray = connect(address or os.environ.get("RAY_ADDRESS"))
        try:
            self._gather()
        except BaseException:
            self.close()
            raise

    def units(self) -> Sequence[Unit]:
        """Return the units whose workers are ready now."""
        return sorted(member.unit for member in self._members if member.greeting)

    def setting(self, units: Sequence[Unit], backend: str) -> Setting:
        """Return what the first unit's worker has said of its device and environment."""
        return self._settings[units[0]][backend]

    def peak(self, unit: Unit, backend: str, precision: str, *, measure: bool) -> float | None:
        """Return the matrix-product peak of a unit's device: asked for once, or measured."""
        key = unit, backend, precision
        if measure or key not in self._peaks:
            member = self._member(unit)
            if member is None:
                return None
            asked = member.actor.peak.remote(backend, precision, measure=measure)
            try:
                self._peaks[key] = self._ray.get(asked, timeout=ANSWER_SECONDS)
            except self._ray.exceptions.RayTaskError as error:
                raise BackendError(str(error.cause)) from error
            except self._ray.exceptions.RayError:  # it has gone: `poll` will see that
                return None
        return self._peaks[key]

    def start(self, job: TrialJob, units: Sequence[Unit], limits: Limits) -> int:
        """Send a trial to its unit's worker, with the saved state of its training where there is one.

        Raises:
            UsageError: it is to run on several units.

        """
        if len(units) > 1:
            raise UsageError(
                f"--devices {len(units)} with --engine ray: a trial runs on one GPU there. Leave --engine out to run "
                f"trials on several GPUs of this machine."
            )
        number = next(self._numbers)
        member = self._member(units[0])
        if member is None:  # it has gone since
            self._ends.append(End(number, error=LostError(f"the worker of {units[0].machine} is gone")))
            return number
        checkpoint = job.checkpoint.read_bytes() if job.checkpoint and job.checkpoint.exists() else None
        run = member.actor.run.options(num_returns="streaming")
        self._working[number] = _Work(member, run.remote(number, self._work, job, limits, checkpoint), job)
        return number

    def poll(self, seconds: float) -> Sequence[Event | End]:
        """Return what has arrived from the workers, and take up what has happened to them.

        Raises:
            BackendError: there has been no worker for minutes.

        """
        self._look()
        arrived: list[Event | End] = []
        for what in self._ready(0 if self._ends else seconds):
            match what:
                case int():
                    arrived += self._read(what)
                case _Member(greeting=None):
                    self._welcome(what)
                case _Member():
                    self._lose(what)
        arrived += self._ends
        self._ends.clear()
        return arrived

    def stop(self, number: int) -> None:
        """Ask a trial to save what it has and to end."""
        self._order(number, kill=False)

    def kill(self, number: int) -> None:
        """End a trial at once."""
        self._order(number, kill=True)

    def close(self) -> None:
        """End the workers, and leave the cluster; one that was started here ends with it."""
        for member in self._members:
            self._end(member)
        self._members.clear()
        self._ray.shutdown()

    def _order(self, number: int, *, kill: bool) -> None:
        if number in self._working:
            self._working[number].member.actor.stop.options(concurrency_group="orders").remote(number, kill=kill)

    def _member(self, unit: Unit) -> _Member | None:
        return next((member for member in self._members if member.greeting and member.unit == unit), None)

    def _gather(self) -> None:
        """Wait for the first worker, then a little for the others.

        Raises:
            UsageError, BackendError: a node is refused, or there is no worker for minutes.

        """
        deadline = float("inf")
        while True:
            self.poll(LOOK_SECONDS)
            for error in self._refused.values():
                raise error
            ready = [member for member in self._members if member.greeting]
            if ready and deadline == float("inf"):
                deadline = time.monotonic() + GATHER_SECONDS
            if ready and (len(ready) == len(self._members) or time.monotonic() > deadline):
                return

    def _look(self) -> None:
        """Look at the nodes from time to time, and make a worker for each slot that has none."""
        now = time.monotonic()
        if any(member.greeting for member in self._members):
            self._served = now
        elif now - self._served > PATIENCE_SECONDS:
            raise BackendError(self._nothing())
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        self._divide()
        have = {member.slot for member in self._members}
        self._members += [self._make(slot) for slot in self._slots if slot not in have]

    def _divide(self) -> None:
        """Bring the slots up to date: those of a node stay what they are for as long as it is there."""
        nodes = {str(node["NodeID"]): node for node in self._ray.nodes() if node["Alive"]}
        self._slots = [slot for slot in self._slots if slot.node in nodes and slot.node not in self._refused]
        known = {slot.node for slot in self._slots} | set(self._refused)
        for name in sorted(nodes.keys() - known):
            try:
                self._slots += divide(nodes[name], self._jobs, self._slots)
            except UsageError as error:
                self._refused[name] = error

    def _make(self, slot: Slot) -> _Member:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(slot.node, soft=False)
        resources = {"num_cpus": slot.cores, "num_gpus": slot.gpus}
        kind = self._ray.remote(**resources, scheduling_strategy=strategy, concurrency_groups=APART)(TrialWorker)
        actor = kind.remote(self._backends, slot.first_core, slot.cores)
        life = actor.live.options(concurrency_group="life").remote()
        return _Member(slot, actor, actor.greet.remote(), life)

    def _ready(self, seconds: float) -> list[int | _Member]:
        """Return which trials have reported, and which workers have greeted or ended; wait where none has."""
        waited: dict[Any, int | _Member] = {work.stream: number for number, work in self._working.items()}
        waited |= {member.life if member.greeting else member.hello: member for member in self._members}
        if not waited:
            time.sleep(min(seconds, LOOK_SECONDS))
            return []
        first, _ = self._ray.wait([*waited], timeout=seconds)
        if not first:
            return []
        ready, _ = self._ray.wait([*waited], num_returns=len(waited), timeout=0)
        return [waited[each] for each in ready]

    def _read(self, number: int) -> list[Event | End]:
        """Return what the next report of a trial says, and take over the files that it brings."""
        work = self._working[number]
        try:
            report: Report = self._ray.get(next(work.stream), timeout=ANSWER_SECONDS)
        except (StopIteration, self._ray.exceptions.RayError) as error:
            self._lose(work.member, error)
            return []
        if report.checkpoint is not None and work.job.checkpoint is not None:
            with suppress(OSError), replacing(work.job.checkpoint, durable=True) as temporary:
                temporary.write_bytes(report.checkpoint)  # else the training goes on, as it does where it cannot save
        messages: list[Event | End] = [Event(number, event) for event in report.events]
        if report.end is not None:
            del self._working[number]
            messages.append(_delivered(End(number, report.end.result, report.end.error), work.job, report.files))
        return messages

    def _welcome(self, member: _Member) -> None:
        """Make use of a worker that has greeted, unless it is none for this sweep."""
        slot = member.slot
        try:
            greeting: Greeting = self._ray.get(member.hello)
            _check_version(greeting)
        except self._ray.exceptions.RayActorError as error:
            self._failures[slot] += 1
            if self._failures[slot] >= MOST_FAILURES or FOREIGN in str(error):
                self._refuse(slot, BackendError(_no_start(slot, error)))
            self._lose(member, error)
        except self._ray.exceptions.RayTaskError as error:
            self._refuse(slot, BackendError(f"node {slot.host}: {error.cause}"))
        except BackendError as error:
            self._refuse(slot, error)
        else:
            self._failures.pop(slot, None)
            member.greeting = greeting
            self._settings[member.unit] = greeting.settings

    def _refuse(self, slot: Slot, error: BenchError) -> None:
        """Do without a node."""
        self._refused[slot.node] = error
        for member in [each for each in self._members if each.slot.node == slot.node]:
            self._lose(member, error)

    def _lose(self, member: _Member, error: Exception | None = None) -> None:
        """Give up a worker; its trial is to run elsewhere, or again."""
        if member not in self._members:
            return
        self._members.remove(member)
        self._end(member)
        why = "it has died" if error is None else _first_line(error)
        for number in [number for number, work in self._working.items() if work.member is member]:
            del self._working[number]
            self._ends.append(End(number, error=LostError(f"the worker on node {member.slot.host} is gone: {why}")))

    def _end(self, member: _Member) -> None:
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(member.actor)

    def _nothing(self) -> str:
        nodes = [str(node["NodeManagerHostname"]) for node in self._ray.nodes() if node["Alive"]]
        reasons = " ".join(str(error) for error in self._refused.values())
        minutes = PATIENCE_SECONDS / 60
        return (
            f"no worker has been ready on the Ray cluster for {minutes:.0f} minutes. Nodes: "
            f"{', '.join(nodes) or 'none'}. `ray status` says what else uses them; the same command goes "
            f"on with what has not ended. {reasons}"
        ).strip()


def _delivered(end: End, job: TrialJob, files: Mapping[str, bytes]) -> End:
    """Write the files that a trial has left into the attempt's folder; without them its result is none."""
    try:
        for name in KEPT & files.keys():
            (job.folder / name).write_bytes(files[name])
    except OSError as error:
        return End(end.number, error=WorkFailedError(Failure("OSError", str(error), "", None)))
    return end


def _check_version(greeting: Greeting) -> None:
    ours, theirs = (bench.__version__, bench_source_hash()), (greeting.version, greeting.source_hash)
    if ours != theirs:
        here, there = (f"{version}+{digest[:7]}" for version, digest in (ours, theirs))
        raise BackendError(
            f"node {greeting.host} has bench {there}, this machine has bench {here}: results would not be of one kind. "
            f"Install the same version there."
        )


def _no_start(slot: Slot, error: Exception) -> str:
    if FOREIGN in str(error):
        return (
            f"node {slot.host} cannot import bench: install this version of it there, for the Python that runs Ray: "
            f"{_first_line(error)}"
        )
    return f"no worker stays alive on node {slot.host}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    """Return the most telling line of one of Ray's messages, which are long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("The actor is dead")), lines[0] if lines else "")[:200]
