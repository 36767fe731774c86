"""A sweep that is killed and resumed loses nothing: a few kills."""

from tests.faults.kills import kill_again_and_again


def test_kills_at_random_moments_lose_damage_and_leave_nothing(tmp_path):
    summary = kill_again_and_again(tmp_path, kills=2, trials=3, jobs=(2,))
    assert summary.kills.total() == 2
    assert summary.trials == 3 * summary.sweeps > 0
