"""Full, small and read-only disks, each a tmpfs of its own; and damaged records."""

import pytest

from tests.faults import LONG
from tests.faults.disk import EXPERIMENTS, has_damaged_records, run_inside, why_not

SHORT = ("fills_up_by_trials", "is_read_only")
ON_A_DISK = [name for name in EXPERIMENTS if name != has_damaged_records.__name__]


@pytest.fixture(scope="module")
def namespaces():
    if why := why_not():
        pytest.skip(f"this machine does not let us mount a disk: {why}")


@pytest.mark.parametrize("name", [name if name in SHORT else pytest.param(name, marks=LONG) for name in ON_A_DISK])
def test_a_disk_that_gives_no_more_room_ends_a_sweep_cleanly(name, tmp_path, namespaces):
    done = run_inside(name, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert name in done.stdout


@LONG
def test_damaged_records_are_told_of_once_and_the_rest_is_reported(tmp_path):
    message = has_damaged_records(tmp_path)
    assert len(message.splitlines()) >= 4
