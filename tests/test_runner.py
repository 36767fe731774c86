"""The runner with the engine of this machine, on trials that import no backend."""

import os
import subprocess
import sys

import pytest

from tests.conftest import TINY_NET

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


@pytest.fixture
def run_cases(plugins, tmp_path):
    def run(*names):
        for name in names:
            (plugins / "architectures" / f"{name}.py").write_text(TINY_NET)
        return subprocess.run(
            [sys.executable, "-m", "tests.runner_cases", plugins, tmp_path / "results", *names],
            env={**os.environ, "BENCH_PRELOAD": "json"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def test_a_trial_that_kills_what_forks_takes_no_other_trial_with_it(run_cases):
    """The one beside it is lost with it twice; the third time each is alone. It is measured in full all the same."""
    ended = run_cases("kills_what_forks", "healthy")
    assert sorted(ended.stdout.splitlines()) == [
        "healthy ok  True",
        "kills_what_forks failed process_exit False",
    ], ended.stderr


def test_a_disk_that_is_full_for_two_trials_at_once_leaves_a_record_of_each(run_cases):
    ended = run_cases("finds_no_room", "finds_no_room_either")
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("StoreError: the disk is full"), ended.stderr
    assert len(lines) == 3
    assert all("interrupted disk_full" in line for line in lines[1:])
