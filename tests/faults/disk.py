"""Results on a disk that fills up, is too small, or cannot be written; and records that are damaged.

    python -m tests.faults.disk

The disk is a tmpfs of its own, which only this process and its children see (`unshare`): no rights are needed where the
kernel lets users make namespaces.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from bench.records import Status
from tests.faults.sandbox import CHECKOUT, Ended, Sandbox, check_ended_once, wait_until

INSIDE = "--inside"
TRIALS = 12
TALKATIVE_NET = '''"""A net whose trial prints two megabytes: what fills a disk."""
import random
import keras
from bench.api import Architecture

INFO = Architecture()


def build(input_shape, num_classes):
    for _ in range(20):
        print(random.randbytes(50_000).hex(), flush=True)
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(keras.layers.Flatten()(inputs)))
'''


def fills_up_by_trials(folder: Path) -> str:
    """The logs of the trials fill the disk: the sweep stops, and goes on when there is room."""
    sandbox = _on_small_disk(folder, "18m")
    finished = _check_stops(sandbox, sandbox.run("--seeds", TRIALS, arch="talkative_net"), TRIALS)
    _mount(sandbox.results, "remount,size=100m")
    _check_goes_on(sandbox, sandbox.run("--seeds", TRIALS, arch="talkative_net"), TRIALS, finished)
    return f"stopped after {_attempts(finished)} of {TRIALS} trials, and completed after the disk had grown"


def fills_up_by_others(folder: Path) -> str:
    """Somebody else fills the disk while the sweep runs: likewise."""
    sandbox = _on_small_disk(folder, "40m")
    running = sandbox.start_run("--seeds", TRIALS, "--checkpoint-every", "0.01s", arch="stateful_net")
    wait_until(lambda: len(list(sandbox.results.glob("trials/*/[!.]*"))) > 1, "two trials have ended", 300)
    _fill(sandbox.results / "somebody-elses")
    finished = _check_stops(sandbox, running.wait(), TRIALS)
    (sandbox.results / "somebody-elses").unlink()
    _check_goes_on(sandbox, sandbox.run("--seeds", TRIALS, arch="stateful_net"), TRIALS, finished)
    return f"stopped after {_attempts(finished)} of {TRIALS} trials, and completed after space was freed"


def is_full_from_the_start(folder: Path) -> str:
    """A disk with hardly any room is refused before anything runs."""
    sandbox = _on_small_disk(folder, "64k")
    ended = sandbox.run("--seeds", TRIALS)
    return _check_refused(sandbox, ended, "is full")


def is_too_small_for_the_sweep(folder: Path) -> str:
    """A disk that has room, but not for so many trials, is refused before anything runs."""
    sandbox = _on_small_disk(folder, "20m")
    ended = sandbox.run("--seeds", 400)
    return _check_refused(sandbox, ended, "the 400 trials will leave up to")


def is_read_only(folder: Path) -> str:
    """Results that cannot be written are refused, and what is in them stays as it is."""
    sandbox = Sandbox(folder)
    assert sandbox.run().code == 0
    finished = sandbox.finished()
    subprocess.run(["mount", "--bind", sandbox.results, sandbox.results], check=True)
    _mount(sandbox.results, "remount,bind,ro")
    ended = sandbox.run("--seeds", 2)
    _check_one_message(ended, "cannot be written")
    _check_one_message(sandbox.report(), "cannot be written")
    assert sandbox.finished() == finished
    return _message(ended)


def has_damaged_records(folder: Path) -> str:
    """Damaged records among good ones: `run` and `report` warn once of each, and go on with the rest."""
    sandbox = Sandbox(folder)
    assert sandbox.run("--seeds", 6).code == 0
    paths = [sandbox.attempt(record) / "record.json" for record in sandbox.records()]
    good = paths[0].read_text()
    damages = {
        "truncated": good[: len(good) // 2],
        "empty": "",
        "garbage": "\x00\x80 no record \u2028",
        "from the future": good.replace('"schema_version": 2', '"schema_version": 99'),
    }
    for path, text in zip(paths[1:5], damages.values(), strict=True):
        path.write_text(text)
    report, again = sandbox.report(), sandbox.run("--seeds", 7, "--quiet")
    for ended in (report, again):
        assert ended.code == 0, ended.err
        assert "Traceback" not in ended.out + ended.err
        for path in paths[1:5]:
            assert ended.err.replace("\n", "").count(str(path)) == 1, f"{path} in: {ended.err}"
        assert not any(str(path) in ended.err for path in (paths[0], paths[5]))
    assert all(path.read_text() == text for path, text in zip(paths[1:5], damages.values(), strict=True))
    records = sandbox.records()
    assert [record.status for record in records] == [Status.OK] * 7, "the damaged ones were not run anew"
    assert len(pd.read_parquet(sandbox.results / "trials.parquet")) == 7
    return report.err.strip()


EXPERIMENTS: dict[str, Callable[[Path], str]] = {
    each.__name__: each
    for each in (
        fills_up_by_trials,
        fills_up_by_others,
        is_full_from_the_start,
        is_too_small_for_the_sweep,
        is_read_only,
        has_damaged_records,
    )
}


def why_not() -> str:
    """Return why this machine lets nobody mount a disk; empty where it does."""
    try:
        tried = subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        return str(error)
    return tried.stderr.strip()


def run_inside(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an experiment where it can mount disks that nobody else sees."""
    command = [sys.executable, "-m", "tests.faults.disk", INSIDE, str(folder), "--only", name]
    return subprocess.run(
        ["unshare", "-rm", *command], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=900
    )


def _on_small_disk(folder: Path, size: str) -> Sandbox:
    """Return a sandbox whose results are on a disk of that size; its cache and all else are not."""
    sandbox = Sandbox(folder, {"talkative_net": TALKATIVE_NET})
    sandbox.results.mkdir()
    _mount(sandbox.results, f"size={size}", "-t", "tmpfs")
    return sandbox


def _attempts(finished: dict[str, str]) -> int:
    return sum(path.endswith("record.json") for path in finished)


def _mount(folder: Path, options: str, *more: str) -> None:
    subprocess.run(["mount", *more, "-o", options, *(["tmpfs"] if more else []), str(folder)], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def _message(ended: Ended) -> str:
    return " ".join(ended.err.split())


def _check_one_message(ended: Ended, part: str) -> None:
    message = _message(ended)
    assert ended.code == 2, f"exit code {ended.code}: {message}"
    assert part in message, message
    assert message.count("bench: error:") == 1, message
    assert "Traceback" not in ended.out + ended.err


def _check_refused(sandbox: Sandbox, ended: Ended, part: str) -> str:
    _check_one_message(ended, part)
    assert sandbox.records() == []
    assert not (left := sandbox.leftovers()), f"left behind: {left}"
    return _message(ended)


def _check_stops(sandbox: Sandbox, ended: Ended, trials: int) -> dict[str, str]:
    """Fail unless the sweep has ended with one message about the disk, and what is finished is whole; return that."""
    assert ended.code == 2, f"exit code {ended.code}: {ended.err}"
    message = _message(ended)
    assert "disk is full" in message or "No space left on device" in message, message
    assert message.count("bench: error:") == 1, message
    assert "Traceback" not in ended.out + ended.err
    wait_until(lambda: not sandbox.processes(), "all processes have ended")
    archive = sandbox.store.read()
    assert not archive.problems, archive.problems
    assert all(record.status in (Status.OK, Status.INTERRUPTED) for record in archive.records)
    well = [record for record in archive.records if record.status == Status.OK]
    assert 0 < len(well) < trials, f"{len(well)} of {trials} trials"
    half = [path for path in sandbox.results.glob("trials/*/.*") if path.name != ".checkpoint.npz"]
    assert not half, f"half-written: {half}"
    print(message)
    return sandbox.finished()


def _check_goes_on(sandbox: Sandbox, ended: Ended, trials: int, finished: dict[str, str]) -> None:
    assert ended.code == 0, ended.err
    check_ended_once(sandbox, trials)
    now = sandbox.finished()
    assert all(now[path] == digest for path, digest in finished.items()), "what was finished has changed"


def main() -> None:
    """Read the arguments; go into a namespace of its own, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(INSIDE, type=Path, metavar="DIR", help="this is the namespace; use this folder")
    parser.add_argument("--only", choices=EXPERIMENTS)
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(EXPERIMENTS)
    if arguments.inside:
        for name in names:
            print(f"{name}: {EXPERIMENTS[name](arguments.inside / name)}", flush=True)
        return
    if why := why_not():
        sys.exit(f"this machine does not let us mount a disk: {why}")
    folder = Path(tempfile.mkdtemp(prefix="bench-disk-"))  # stays where something is wrong
    print(f"in {folder}", flush=True)
    for name in names:
        done = run_inside(name, folder)
        print(done.stdout + done.stderr, flush=True)
        if done.returncode:
            sys.exit(done.returncode)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
