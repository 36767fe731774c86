"""Kills a sweep of short trials with SIGKILL again and again, at random moments, and resumes it each time.

    python -m tests.faults.kills --kills 100

The command, the process that forks trials, or the process of a trial is killed: while it plans, imports, trains, writes
a record or the report. Whenever a sweep is complete, what it leaves is checked, and the next one begins.
"""

import argparse
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.records import Reason, Status
from tests.faults.sandbox import Running, Sandbox, check_ended_once, wait_until

TRIALS, KILLS = 20, 100
EPOCHS = 4
POLL_SECONDS = 0.0005
RECORDED = (Reason.KILLED_BY_SIGNAL, Reason.PROCESS_EXIT)  # the latter: what forks it was killed three times over


@dataclass
class Summary:
    """What was done: kills by moment and target; sweeps that were completed; trials of them that were continued."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    sweeps: int = 0
    trials: int = 0
    failed_attempts: int = 0
    continued: int = 0
    commands: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        by = {f"{moment}, {target}": count for (moment, target), count in sorted(self.kills.items())}
        return (
            f"{self.kills.total()} kills in {self.commands} commands and {self.seconds:.0f} s: {by}\n"
            f"{self.sweeps} sweeps completed, {self.trials} trials, each ended well once; "
            f"{self.failed_attempts} attempts recorded as killed, "
            f"{self.continued} trials continued from a saved state.\n"
            "no finished record lost or changed, no trial missing, no stray process, claim or temporary file"
        )


class Victim:
    """A sweep in a results folder of its own, its command, and the digests of what had been finished."""

    def __init__(self, folder: Path, trials: int, jobs: int) -> None:
        self.sandbox, self.trials, self.jobs = Sandbox(folder), trials, jobs
        self.running: Running | None = None
        self.kept: dict[str, str] = {}
        self.hurt = False  # whether a process of the running command was killed

    def command(self) -> Running:
        """Return the running command; the same is started anew where it has ended."""
        if self.running is None:
            options = ["--seeds", self.trials, "--jobs", self.jobs, "--checkpoint-every", "0.01s", "--retry-failed"]
            self.running = self.sandbox.start_run(*options, arch="stateful_net", epochs=EPOCHS)
            self.hurt = False
        return self.running

    def check_kept(self) -> None:
        """Fail where what was finished before is gone or different, or what is finished cannot be read."""
        now = self.sandbox.finished()
        for path, digest in self.kept.items():
            assert now.get(path) == digest, f"{path} is {'changed' if path in now else 'gone'}"
        assert not (problems := self.sandbox.store.read().problems), problems
        self.kept = now

    def kill(self, process: psutil.Process) -> None:
        """Kill a process, and where it is the command's, see all others go."""
        command = self.command()
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
        self.hurt = True
        if process.pid == command.pid:
            command.wait()
            wait_until(lambda: not self.sandbox.processes(), "nothing is left of a killed command")
            self.running = None
        self.check_kept()

    def has_ended(self) -> bool:
        """Return whether the command has ended by itself, and whether that was with all trials well."""
        ended = self.command().wait()
        allowed = (0, 1, 2) if self.hurt else (0,)  # else nothing may fail
        assert ended.code in allowed, f"exit code {ended.code}\n{ended.out[-2000:]}\n{ended.err[-2000:]}"
        self.running = None
        self.check_kept()
        return ended.code == 0

    def check_complete(self, expected: dict[int, bytes], summary: Summary) -> None:
        """Fail unless the sweep is what it would be had nobody harmed it, but for attempts that were killed."""
        check_ended_once(self.sandbox, self.trials)
        for record in self.sandbox.records():
            if record.status == Status.OK:
                assert self.sandbox.logits(record) == expected[record.spec.seed], f"{record.spec.title}: other logits"
                summary.trials += 1
                summary.continued += bool(record.resolved["continued_at_steps"])
            else:
                assert record.status == Status.FAILED, record.message
                assert record.reason in RECORDED, record.message
                summary.failed_attempts += 1
        killed = sum(count for (_, target), count in summary.kills.items() if target != "command")
        assert summary.failed_attempts <= killed, "more attempts are recorded as killed than were"
        assert self.sandbox.report().code == 0
        summary.sweeps += 1


Moment = Callable[[Victim, random.Random], None]


def _sleep(victim: Victim, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and victim.command().is_alive():
        time.sleep(min(0.01, seconds))


def _poll(victim: Victim, condition: Callable[[], object]) -> None:
    while victim.command().is_alive() and not condition():
        time.sleep(POLL_SECONDS)


def _planning(victim: Victim, chance: random.Random) -> None:
    _sleep(victim, chance.uniform(0, 3))


def _importing(victim: Victim, chance: random.Random) -> None:
    _poll(victim, victim.command().supervisors)
    _sleep(victim, chance.uniform(0, 8))


def _training(victim: Victim, chance: random.Random) -> None:
    _poll(victim, lambda: list(victim.sandbox.results.glob("trials/*/.*.tmp")))
    _sleep(victim, chance.uniform(0, 6))


def _saving(victim: Victim, chance: random.Random) -> None:
    _poll(victim, lambda: list(victim.sandbox.results.glob("trials/*/.checkpoint.npz")))
    _sleep(victim, chance.uniform(0, 0.2))


def _committing(victim: Victim, chance: random.Random) -> None:
    _sleep(victim, chance.uniform(0, 12))
    _poll(victim, lambda: list(victim.sandbox.results.glob("trials/*/.*.tmp/history.csv")))
    _sleep(victim, chance.choice([0, 0, 0.001, 0.003, 0.01]))


def _reporting(victim: Victim, chance: random.Random) -> None:
    """Wait for a table to be written: of a sweep that is not complete, too, where a trial was killed for good."""
    before = {path: path.stat().st_mtime_ns for path in victim.sandbox.results.glob("*.*")}

    def begun() -> bool:
        with suppress(FileNotFoundError):
            found = victim.sandbox.results.glob("*leaderboard*")
            return any(before.get(path) != path.stat().st_mtime_ns for path in found)
        return True

    _poll(victim, begun)
    _sleep(victim, chance.uniform(0, 0.05))


ALL = ("command", "supervisor", "trial")
MOMENTS: dict[str, tuple[Moment, tuple[str, ...], int]] = {  # how it is waited for, what is killed then, how often
    "planning": (_planning, ("command",), 2),
    "importing": (_importing, ALL, 3),
    "training": (_training, ALL, 6),
    "saving": (_saving, ALL, 4),
    "committing": (_committing, ("command", "command", "supervisor"), 4),
    "reporting": (_reporting, ("command",), 1),
}


def kill_again_and_again(
    folder: Path, kills: int, trials: int, seed: int = 0, jobs: tuple[int, ...] = (1, 2)
) -> Summary:
    """Kill so many times, and check after each; the last sweep is run to its end.

    Raises:
        AssertionError: something was lost, doubled or left.

    """
    chance, summary, start = random.Random(seed), Summary(), time.monotonic()
    weights = [weight for *_, weight in MOMENTS.values()]
    expected: dict[int, dict[int, bytes]] = {}
    victim: Victim | None = None
    done = False
    while not done:
        if victim is None:
            side_by_side = jobs[summary.sweeps % len(jobs)]
            if side_by_side not in expected:
                expected[side_by_side] = undisturbed(folder / f"undisturbed-{side_by_side}", trials, side_by_side)
            victim = Victim(folder / f"sweep-{summary.sweeps}", trials, side_by_side)
        victim.command()
        if summary.kills.total() < kills:
            moment = chance.choices([*MOMENTS], weights)[0]
            MOMENTS[moment][0](victim, chance)
            _kill_one(victim, moment, chance, summary)
        if (victim.running is None or victim.running.is_alive()) and summary.kills.total() < kills:
            continue
        if victim.running and victim.has_ended():
            victim.check_complete(expected[victim.jobs], summary)
            summary.commands += victim.sandbox.commands
            victim, done = None, summary.kills.total() >= kills
    summary.seconds = time.monotonic() - start
    return summary


def _kill_one(victim: Victim, moment: str, chance: random.Random, summary: Summary) -> None:
    """Kill one of the processes that are to be killed at such a moment, if there is one."""
    command = victim.command()
    there = {"command": [], "supervisor": command.supervisors(), "trial": command.workers()}
    with suppress(psutil.NoSuchProcess):
        there["command"] = [psutil.Process(command.pid)] if command.is_alive() else []
    targets = [name for name in MOMENTS[moment][1] if there[name]]
    if targets:
        target = chance.choice(targets)
        summary.kills[moment, target] += 1
        victim.kill(chance.choice(there[target]))


def undisturbed(folder: Path, trials: int, jobs: int) -> dict[int, bytes]:
    """Return the logits of each seed's trial in a sweep that nobody harms."""
    victim = Victim(folder, trials, jobs)
    victim.command()
    assert victim.has_ended()
    check_ended_once(victim.sandbox, trials)
    return {record.spec.seed: victim.sandbox.logits(record) for record in victim.sandbox.records()}


def main() -> None:
    """Read the arguments, and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="of one sweep after the other")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-kills-"))  # stays where something is wrong
    print(f"in {folder}", flush=True)
    print(kill_again_and_again(folder, arguments.kills, arguments.trials, arguments.seed, tuple(arguments.jobs)))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
