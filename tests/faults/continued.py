"""Trainings that are cut off in the middle and gone on with, held against one that was not: bit for bit.

    python -m tests.faults.continued --times 10

The net has dropout and batch normalisation, the recipe crops and mirrors at random. All on one machine's processor, in
float32, with the same cores.
"""

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.records import Reason, Status, TrialRecord
from tests.faults.sandbox import Ended, Running, Sandbox, check_ended_once, wait_until

EPOCHS = 800  # some seconds of training
OPTIONS = ("--checkpoint-every", "0.2s")
FIRST_TIMEOUT = 3  # seconds; doubled until something is saved within it


def cut_by_kill(sandbox: Sandbox, after: float) -> None:
    """Kill the whole command with SIGKILL, so long after it has saved the training for the first time."""
    os.killpg(_saved(sandbox, after).pid, signal.SIGKILL)
    wait_until(lambda: not sandbox.processes(), "nothing is left of a killed command")
    assert sandbox.records() == []


def cut_by_ctrl_c(sandbox: Sandbox, after: float) -> None:
    """Press Ctrl-C once: the training is saved at once, and recorded as interrupted."""
    running = _saved(sandbox, after)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait().code == 130
    (record,) = sandbox.records()
    assert (record.status, record.reason) == (Status.INTERRUPTED, Reason.USER)
    assert "the same command goes on from step" in record.message, record.message


def cut_by_timeout(sandbox: Sandbox, after: float) -> None:
    """Let it run into timeouts, each twice as long as the one before, until one of them has saved the training."""
    seconds = FIRST_TIMEOUT
    while not list(sandbox.results.glob("trials/*/.checkpoint.npz")):
        ended = run(sandbox, "--timeout", f"{seconds}s", "--retry-failed")
        assert ended.code == 1, ended.err
        assert {(each.status, each.reason) for each in sandbox.records()} == {(Status.TIMEOUT, Reason.TIME_LIMIT)}
        seconds *= 2


CUTS: dict[str, Callable[[Sandbox, float], None]] = {
    "kill": cut_by_kill,
    "ctrl-c": cut_by_ctrl_c,
    "timeout": cut_by_timeout,
}


def check_continued(sandbox: Sandbox, cut: str, expected: tuple[Sandbox, TrialRecord], after: float) -> tuple[int, ...]:
    """Cut a training off, go on with it, and return after how many steps that was.

    Raises:
        AssertionError: it was begun anew, or what came out is not what comes out of an uninterrupted one.

    """
    CUTS[cut](sandbox, after)
    ended = run(sandbox, "--retry-failed")
    assert ended.code == 0, ended.err
    check_ended_once(sandbox, 1)
    (record,) = (each for each in sandbox.records() if each.status == Status.OK)
    undisturbed, reference = expected
    steps = tuple(record.resolved["continued_at_steps"])
    assert steps, "it was not gone on with, but begun anew"
    assert all(0 < step <= record.resolved["steps"] for step in steps)
    assert reference.resolved["continued_at_steps"] in ([], ())
    assert record.trial_id == reference.trial_id
    assert sandbox.logits(record) == undisturbed.logits(reference), "the logits differ"
    history = sandbox.history(record)
    assert len(history) == EPOCHS
    assert history.equals(undisturbed.history(reference)), "the histories differ"
    for name in ("test_accuracy", "test_nll", "validation_accuracy"):
        assert record.metrics[name] == reference.metrics[name]
    return steps


def uninterrupted(sandbox: Sandbox) -> tuple[Sandbox, TrialRecord]:
    """Return the record of a training that nobody cuts off, which is never saved."""
    ended = run(sandbox, every=("--checkpoint-every", "1d"))
    assert ended.code == 0, ended.err
    (record,) = sandbox.records()
    return sandbox, record


def run(sandbox: Sandbox, *arguments: object, every: tuple[str, ...] = OPTIONS) -> Ended:
    return _start(sandbox, *every, *arguments).wait()


def _start(sandbox: Sandbox, *arguments: object) -> Running:
    return sandbox.start_run(*arguments, arch="stateful_net", epochs=EPOCHS)


def _saved(sandbox: Sandbox, after: float) -> Running:
    running = _start(sandbox, *OPTIONS)
    wait_until(lambda: list(sandbox.results.glob("trials/*/.checkpoint.npz")), "a training is saved", 300)
    time.sleep(after)
    assert running.is_alive(), "the training had ended before it was cut off"
    return running


def main() -> None:
    """Read the arguments, and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="of each kind of interruption")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance, start = random.Random(arguments.seed), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="bench-continued-"))  # stays where something is wrong
    print(f"in {folder}", flush=True)
    expected = uninterrupted(Sandbox(folder / "uninterrupted"))
    for cut in CUTS:
        for time_ in range(arguments.times):
            steps = check_continued(Sandbox(folder / f"{cut}-{time_}"), cut, expected, chance.uniform(0, 1.5))
            print(f"{cut}: continued after {steps} of {expected[1].resolved['steps']} steps: identical", flush=True)
    print(f"{len(CUTS) * arguments.times} trainings cut off and continued, in {time.monotonic() - start:.0f} s")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
