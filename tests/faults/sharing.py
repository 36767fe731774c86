"""Several `bench run` at once on one results folder.

    python -m tests.faults.sharing --times 5

Three with the same sweep run each trial once between them; of one that is killed in the middle of a trial, another
takes that trial over; two with --force each run every trial once.
"""

import argparse
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.records import Status
from tests.faults.sandbox import Running, Sandbox, check_ended_once, wait_until

TRIALS = 6
LONG_EPOCHS = 400  # some seconds of training


def three_at_once(folder: Path, trials: int = TRIALS) -> str:
    """Three commands, one sweep: each trial has one attempt."""
    sandbox = Sandbox(folder)
    commands = [_start(sandbox, trials) for _ in range(3)]
    for ended in [each.wait() for each in commands]:
        assert ended.code == 0, ended.err
    check_ended_once(sandbox, trials)
    assert len(sandbox.records()) == trials
    return f"{trials} trials by 3 commands, one attempt each"


def one_is_killed(folder: Path, trials: int = 3) -> str:
    """One of three is killed while it trains: another one takes its trial over, and goes on with what was saved."""
    sandbox = Sandbox(folder)
    commands = [_start(sandbox, trials, epochs=LONG_EPOCHS) for _ in range(3)]
    taken: list[str] = []

    def one_has_saved() -> bool:
        taken[:] = _trials_of(sandbox, commands[0], "*/.checkpoint.npz")
        return bool(taken)

    wait_until(one_has_saved, "the first command has saved a training", 300)
    commands[0].process.send_signal(signal.SIGKILL)
    commands[0].wait()
    for ended in [each.wait() for each in commands[1:]]:
        assert ended.code == 0, ended.err
    check_ended_once(sandbox, trials)
    records = {record.trial_id: record for record in sandbox.records()}
    assert len(sandbox.records()) == trials, "a killed command has left a record"
    steps = records[taken[0]].resolved["continued_at_steps"]
    assert steps, "the trial of the killed command was begun anew"
    return f"the trial of the killed command went on elsewhere after {steps} steps"


def two_forced(folder: Path, trials: int = TRIALS) -> str:
    """Two commands with --force: each runs every trial once."""
    sandbox = Sandbox(folder)
    assert _start(sandbox, trials).wait().code == 0
    commands = [_start(sandbox, trials, "--force") for _ in range(2)]
    for ended in [each.wait() for each in commands]:
        assert ended.code == 0, ended.err
    attempts = Counter(record.trial_id for record in sandbox.records() if record.status == Status.OK)
    assert len(attempts) == trials
    assert set(attempts.values()) == {3}, f"attempts of each trial: {sorted(attempts.values())}"
    wait_until(lambda: not sandbox.processes(), "all processes have ended")
    assert not (left := sandbox.leftovers()), f"left behind: {left}"
    return f"{trials} trials, 1 attempt of each before, and 1 by each of 2 commands with --force"


def _start(sandbox: Sandbox, trials: int, *arguments: object, epochs: int = 2) -> Running:
    options = ["--seeds", trials, "--checkpoint-every", "0.2s", *arguments]
    return sandbox.start_run(*options, arch="stateful_net", epochs=epochs)


def _trials_of(sandbox: Sandbox, command: Running, pattern: str) -> list[str]:
    """Return the trials that a command has claimed, and that have such a file."""
    found = []
    for path in sandbox.results.glob(f"trials/{pattern}"):
        claim = path.parent / ".claim"
        if claim.exists() and claim.read_text().startswith(f"{command.pid}@"):
            found.append(path.parent.name)
    return found


EXPERIMENTS: dict[str, Callable[[Path], str]] = {
    "three at once": three_at_once,
    "one is killed": one_is_killed,
    "two forced": two_forced,
}


def main() -> None:
    """Read the arguments, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="of each experiment")
    arguments = parser.parse_args()
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="bench-sharing-"))  # stays where something is wrong
    print(f"in {folder}", flush=True)
    for name, experiment in EXPERIMENTS.items():
        for time_ in range(arguments.times):
            print(f"{name}: {experiment(folder / f'{name}-{time_}'.replace(' ', '-'))}", flush=True)
    print(f"{time.monotonic() - start:.0f} s")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
