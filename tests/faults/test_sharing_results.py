"""Several `bench run` at once on one results folder."""

from tests.faults import LONG
from tests.faults.sharing import one_is_killed, three_at_once, two_forced


@LONG
def test_three_commands_run_each_trial_once(tmp_path):
    assert three_at_once(tmp_path, trials=4)


@LONG
def test_the_trial_of_a_killed_command_is_taken_over_and_gone_on_with(tmp_path):
    assert one_is_killed(tmp_path)


@LONG
def test_two_forced_commands_each_run_every_trial(tmp_path):
    assert two_forced(tmp_path, trials=3)
