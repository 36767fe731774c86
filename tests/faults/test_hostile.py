"""Twelve hostile plugins beside two healthy ones, with limits that spare the machine."""

from tests.faults.hostile import HEALTHY, MEGABYTE, NETS, Limits, check_hostile, nets_in, run
from tests.faults.sandbox import Sandbox

LIMITS = Limits(timeout="20s", memory=1500 * MEGABYTE, disk=200 * MEGABYTE)


def test_hostile_plugins_become_rows_and_harm_nobody_else(tmp_path):
    healthy = Sandbox(tmp_path / "healthy")
    assert run(healthy, " ".join(HEALTHY), 2, LIMITS) == 0
    assert len(check_hostile(nets_in(tmp_path / "hostile"), healthy, 2, LIMITS)) == len(NETS) + len(HEALTHY) == 14
