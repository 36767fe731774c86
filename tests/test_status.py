"""The screen of a sweep, and `bench status`, which shows it from another terminal."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.atomic import process_tag
from bench.cli.progress import make_observer
from bench.cli.screen import duration
from bench.data.cache import DataSource, prepare
from bench.environment import Device, describe
from bench.events import Epoch, Phase, Resumed, Saved, Step
from bench.execution.board import name_place
from bench.execution.engine import Unit
from bench.execution.planning import Choice, plan
from bench.plugins import discover
from bench.recipes import resolve_recipe
from bench.records import Reason, Status, TrialRecord
from tests.conftest import command

UNITS = [Unit("here", 0, (0, 1)), Unit("here", 1, (2, 3)), Unit("here", 2, (4, 5)), Unit("here", 3, (6, 7))]
METRICS = {f"train_images_per_second{end}": 100.0 for end in ("", "_low", "_high")}
METRICS |= {"test_accuracy": 0.5, "timing_notes": ["a note"]}
HERE = describe(Device("CPU", "a CPU"), "tensorflow")


@pytest.fixture
def plan_trials(plugins, tmp_path):
    """Plan trials of the tiny plugins: every seed of the first architecture, then of the next."""
    architectures, datasets = discover("architecture", [plugins]), discover("dataset", [plugins])

    def make(*archs, seeds=2):
        source = DataSource(datasets.choose("tiny_data"), tmp_path, tmp_path / "cache")
        data = {source.choice.label: prepare(source, lambda *_: None)}
        choices = [
            Choice(
                architecture=architectures.choose(arch),
                source=source,
                recipe=resolve_recipe("standard", {"batch_size": 16}),
                precision="float32",
                backend="tensorflow",
                devices=1,
                seed=seed,
            )
            for arch in archs or ["tiny_net"]
            for seed in range(seeds)
        ]
        return plan(choices, data)

    return make


@pytest.fixture
def clock(monkeypatch):
    """Set the board's clock by hand; it writes at every event."""
    now = SimpleNamespace(seconds=1_000.0)
    monkeypatch.setattr("bench.execution.board.SECONDS", 0.0)
    monkeypatch.setattr("bench.execution.board.time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def observe(tmp_path, clock):
    """Observe a sweep whose state goes to the test's results folder."""

    def make(todo, *, units=1, done_before=0, quiet=True, **options):
        return make_observer(tmp_path / "results", len(todo), done_before, units, quiet, **options)

    return make


@pytest.fixture
def status(bench, tmp_path):
    """Call `bench status` on the test's results folder; returns what it prints."""

    def call(*arguments):
        code, out, err = bench("status", "--results", tmp_path / "results", *arguments)
        assert code == 0, err
        return out

    return call


@pytest.fixture
def seen(status):
    """Return the state of the only run, as `bench status --json` has it."""

    def read():
        (run,) = json.loads(status("--json"))["runs"]
        return run

    return read


def record(trial, how=Status.OK, reason=Reason.NONE, *, seconds=60.0, message=""):
    return TrialRecord(
        trial_id=trial.spec.trial_id,
        attempt="20260101T000000.000000Z-abcd",
        status=how,
        spec=trial.spec,
        environment=HERE,
        started_at="2026-01-01T00:00:00+00:00",
        seconds=seconds,
        reason=reason,
        message=message,
        metrics=METRICS if how == Status.OK else {},
    )


def step(epoch, at, *, epochs=10, steps=100, loss=0.5, speed=1_234.0):
    return Step(epoch, epochs, at, steps, loss, speed)


def epoch(number, accuracy=0.75):
    return Epoch(number, 100, 0.5, 0.8, 0.6, accuracy, 0.001, 1.0, 1_234.0)


# What is kept


def test_the_state_says_what_runs_what_has_ended_and_what_waits(plan_trials, observe, clock, seen):
    first, second, third, fourth, fifth, _ = trials = plan_trials(seeds=6)
    with observe(trials, units=2, done_before=3) as observer:
        observer.trial_started(7, first, UNITS[:1])
        observer.trial_started(8, second, UNITS[1:2])
        observer.trial_event(8, Phase("training"))
        observer.trial_event(8, Resumed(50, 9.0, (epoch(1, 0.5),)))
        observer.trial_event(8, epoch(2))
        observer.trial_event(8, step(3, 20))
        observer.trial_event(8, Saved(220))
        observer.trial_ended(7, record(first))
        observer.trial_started(9, third, UNITS[:1])
        observer.trial_ended(9, record(third, Status.FAILED, Reason.BAD_MODEL, message="`build` raised"))
        observer.trial_left(fourth)
        observer.looked(1, 1)
        clock.seconds += 30
        observer.looked(1, 1)
        state = seen()
    assert state["life"] == "at work"
    assert (state["total"], state["done_before"], state["left"]) == (6, 3, 1)
    assert state["ended"] == {"ok": 1, "failed": 1}
    assert (state["waiting"], state["elsewhere"]) == (1, 1)
    (failed,) = state["failed"]
    assert (failed["title"], failed["status"], failed["reason"]) == (third.spec.title, "failed", "bad_model")
    assert failed["message"] == "`build` raised"
    assert Path(failed["folder"]).parts[-2:] == (third.spec.trial_id, "20260101T000000.000000Z-abcd")
    (running,) = state["running"]
    assert running == {
        "number": 2,
        "title": second.spec.title,
        "place": "cores 2-3",
        "phase": "training",
        **{"epoch": 3, "epochs": 10, "step": 20, "steps": 100},
        **{"loss": 0.5, "images_per_second": 1234.0, "validation_accuracy": 0.75},
        **{"seconds": 30.0, "saved_step": 220, "resumed_step": 50},
    }
    assert fifth.spec.title not in json.dumps(state)


def test_the_screen_says_the_same(plan_trials, observe, status):
    first, second, *_ = trials = plan_trials(seeds=6)
    with observe(trials, units=2, done_before=3) as observer:
        observer.trial_started(1, first, UNITS[:1])
        observer.trial_ended(1, record(first, Status.DIVERGED, Reason.NON_FINITE_LOSS, message="loss became nan"))
        observer.trial_started(2, second, UNITS[:1])
        observer.trial_event(2, Phase("training"))
        observer.trial_event(2, step(3, 20))
        observer.looked(3, 1)
        out = status()
    assert f"process {os.getpid()} on " in out
    assert "1/6  about " in out
    assert "1 diverged; 1 running, 3 waiting, 1 elsewhere; 3 ended before" in out
    assert re.search(r"tiny_net on tiny_data, seed 1 +cores 0-1 +3/10 +0\.500 +1,234 +0:00", out)
    assert "tiny_net on tiny_data, seed 0: diverged (non_finite_loss): loss became nan" in out


def test_a_loss_that_is_no_number_is_left_out(plan_trials, observe, seen):
    trials = plan_trials(seeds=1)
    with observe(trials) as observer:
        observer.trial_started(1, trials[0], UNITS[:1])
        observer.trial_event(1, step(1, 1, loss=float("nan")))
        assert seen()["running"][0]["loss"] is None


def test_a_lost_trial_waits_again_and_keeps_its_number(plan_trials, observe, seen):
    first, second = trials = plan_trials()
    with observe(trials) as observer:
        observer.trial_started(1, first, UNITS[:1])
        observer.trial_lost(1, "node gone")
        assert (seen()["waiting"], seen()["running"]) == (2, [])
        observer.trial_started(2, second, UNITS[:1])
        observer.trial_started(3, first, UNITS[1:2])
        assert [each["number"] for each in seen()["running"]] == [2, 1]


def test_an_ending_sweep_says_so(plan_trials, observe, status, seen):
    trials = plan_trials()
    with observe(trials) as observer:
        observer.trial_started(1, trials[0], UNITS[:1])
        observer.ending()
        assert seen()["ending"] is True
        assert "0/2  ending" in status()


def test_nothing_is_left_when_a_sweep_has_ended_whichever_way(plan_trials, observe, tmp_path):
    with contextlib.suppress(KeyboardInterrupt), observe(plan_trials()):
        assert (tmp_path / "results" / ".runs" / f"{process_tag()}.json").is_file()
        raise KeyboardInterrupt
    assert list((tmp_path / "results").iterdir()) == []


def test_a_folder_that_cannot_be_written_ends_no_sweep(plan_trials, observe, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / ".runs").write_text("in the way")
    trials = plan_trials()
    with observe(trials) as observer:
        observer.trial_started(1, trials[0], UNITS[:1])
    assert (tmp_path / "results" / ".runs").read_text() == "in the way"


def test_no_state_is_written_through_a_link(plan_trials, observe, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / ".runs").symlink_to(tmp_path / "elsewhere")
    with observe(plan_trials()):
        assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("units", "place"),
    [
        ([Unit("here", 0)], ""),
        ([Unit("here", 0, (0, 1, 2, 3))], "cores 0-3"),
        ([Unit("here", 0, (5,))], "core 5"),
        ([Unit("here", 0, (0, 1, 4))], "cores 0-1,4"),
        ([Unit("here", 1, (), "GPU-a")], "GPU 1"),
        ([Unit("here", 2, (2,), "GPU-b"), Unit("here", 3, (3,), "GPU-c")], "GPUs 2-3"),
        ([Unit("node-a", 0, (), "GPU-a")], "node-a GPU 0"),
        ([Unit("node-a", 0)], "node-a"),
    ],
)
def test_a_place_is_named_in_few_words(units, place):
    assert name_place(units) == place


# Time left


def test_no_time_left_is_told_before_anything_is_known(plan_trials, observe, seen, status):
    trials = plan_trials()
    with observe(trials, trials=trials) as observer:
        observer.trial_started(1, trials[0], UNITS[:1])
        assert seen()["seconds_left"] is None
        assert "time left: not known yet" in status()


def test_time_left_comes_from_ended_trials_of_the_same_architecture_and_data(plan_trials, observe, clock, seen):
    trials = plan_trials("tiny_net", "tiny_net:units=4", seeds=4)
    slow, quick = trials[:4], trials[4:]
    with observe(trials, trials=trials) as observer:
        for number, (trial, seconds) in enumerate([(slow[0], 90), (slow[1], 100), (slow[2], 400), (quick[0], 10)]):
            observer.trial_started(number, trial, UNITS[:1])
            observer.trial_ended(number, record(trial, seconds=seconds))
        assert seen()["seconds_left"] == 100 + 3 * 10
        observer.trial_started(9, slow[3], UNITS[:1])
        clock.seconds += 40
        observer.looked(3, 0)
        assert seen()["seconds_left"] == (100 - 40) + 3 * 10


def test_time_left_comes_from_all_ended_trials_where_there_are_none_of_a_kind(plan_trials, observe, seen):
    trials = plan_trials("tiny_net", "tiny_net:units=4", seeds=2)
    for listed in (trials, ()):
        with observe(trials, trials=listed) as observer:
            observer.trial_started(1, trials[0], UNITS[:1])
            observer.trial_ended(1, record(trials[0], seconds=50))
            assert seen()["seconds_left"] == 3 * 50


def test_what_was_expected_serves_until_more_is_known_and_is_corrected(plan_trials, observe, seen):
    trials = plan_trials("tiny_net", "tiny_net:units=4", seeds=2)
    expected = {trial.spec.trial_id: 100.0 for trial in trials[:2]} | {each.spec.trial_id: 30.0 for each in trials[2:]}
    with observe(trials, trials=trials, expected=expected) as observer:
        assert seen()["seconds_left"] == 2 * 100 + 2 * 30
        observer.trial_started(1, trials[0], UNITS[:1])
        observer.trial_ended(1, record(trials[0], seconds=200))
        assert seen()["seconds_left"] == 200 + 2 * 2 * 30


def test_skipped_and_interrupted_trials_do_not_count_as_quick_ones(plan_trials, observe, seen):
    trials = plan_trials("tiny_net", "tiny_net:units=4", seeds=3)
    with observe(trials, trials=trials) as observer:
        observer.trial_started(1, trials[0], UNITS[:1])
        observer.trial_ended(1, record(trials[0], Status.SKIPPED, Reason.IMAGES_TOO_SMALL, seconds=0))
        observer.trial_started(2, trials[3], UNITS[:1])
        observer.trial_ended(2, record(trials[3], Status.INTERRUPTED, Reason.USER, seconds=3))
        assert seen()["seconds_left"] is None
        observer.trial_started(3, trials[4], UNITS[:1])
        observer.trial_ended(3, record(trials[4], seconds=80))
        assert seen()["seconds_left"] == 2 * 0 + 80  # the other seeds of the skipped one will be skipped too


def test_a_running_trial_says_by_its_own_pace_how_long_it_takes(plan_trials, observe, clock, seen):
    trials = plan_trials(seeds=3)
    with observe(trials, trials=trials) as observer:
        observer.trial_started(1, trials[0], UNITS[:1])
        clock.seconds += 20  # loading, building and compiling are no part of the pace
        observer.trial_event(1, step(1, 1))
        assert seen()["seconds_left"] is None
        clock.seconds += 199
        observer.trial_event(1, step(2, 100))
        rest = 800.0
        assert seen()["seconds_left"] == pytest.approx(rest + 2 * (219 + rest))


def test_a_last_epoch_that_ends_early_is_no_slower(plan_trials, observe, clock, seen):
    trials = plan_trials(seeds=1)
    with observe(trials, trials=trials) as observer:
        observer.trial_started(1, trials[0], UNITS[:1])
        observer.trial_event(1, step(1, 1, epochs=3))
        clock.seconds += 199
        observer.trial_event(1, step(2, 100, epochs=3))
        clock.seconds += 5
        observer.trial_event(1, step(3, 5, epochs=3, steps=10))
        assert seen()["seconds_left"] == pytest.approx(5)


def test_time_left_is_shared_by_the_units_and_no_shorter_than_the_longest_trial(plan_trials, observe, clock, seen):
    trials = plan_trials(seeds=6)
    with observe(trials, units=2, trials=trials) as observer:
        observer.trial_started(1, trials[0], UNITS[:1])
        observer.trial_ended(1, record(trials[0], seconds=100))
        assert seen()["seconds_left"] == 5 * 100 / 2
        observer.trial_started(2, trials[1], UNITS[:2])  # takes both units
        assert seen()["seconds_left"] == 5 * 100
        observer.trial_ended(2, record(trials[1], seconds=100))
        for trial in trials[2:4]:
            observer.trial_left(trial)
        observer.trial_started(3, trials[4], UNITS[:1])
        clock.seconds += 90
        observer.trial_started(4, trials[5], UNITS[1:2])
        assert seen()["seconds_left"] == 100


def test_work_that_others_do_is_not_counted(plan_trials, observe, seen, status):
    trials = plan_trials(seeds=5)
    with observe(trials, trials=trials) as observer:
        observer.trial_started(1, trials[0], UNITS[:1])
        observer.trial_ended(1, record(trials[0], seconds=100))
        observer.looked(2, 2)
        assert seen()["seconds_left"] == 200
        observer.trial_left(trials[1])
        observer.trial_left(trials[2])
        observer.looked(0, 2)
        assert seen()["seconds_left"] is None
        assert "1 ok, 2 ended by others; 0 running, 0 waiting, 2 elsewhere" in status()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (45.2, "45 s"), (59.9, "60 s"), (61, "1 min"), (4_790, "1 h 20 min"), (270_000, "3 d 3 h")],
)
def test_durations_are_no_more_exact_than_they_are_worth(seconds, words):
    assert duration(seconds) == words


# Lines


def test_lines_of_several_running_trials_each_say_which_it_is_of(plan_trials, observe, capfd):
    first, second, third = trials = plan_trials(seeds=3)
    with observe(trials, units=2, quiet=False) as observer:
        observer.trial_started(1, first, UNITS[:1])
        observer.trial_started(2, second, UNITS[1:2])
        observer.trial_event(2, step(1, 1, epochs=60))
        for number in (1, 2, 3):
            observer.trial_event(2, epoch(number))
        observer.trial_event(2, Resumed(1_220, 9.0, ()))
        observer.trial_ended(1, record(first))
        observer.trial_lost(2, "its node is gone")
        observer.trial_started(3, third, UNITS[:1])
        observer.trial_ended(3, record(third, Status.FAILED, Reason.BAD_MODEL))
    title = "tiny_net on tiny_data, seed"
    assert capfd.readouterr().out.splitlines() == [
        f"[1/3] {title} 0",
        f"[2/3] {title} 1",
        f"[2/3] {title} 1: {epoch(1).line()}",
        f"[2/3] {title} 1: {epoch(2).line()}",
        f"[2/3] {title} 1: goes on after step 1,220, which an earlier attempt saved",
        f"[1/3] {title} 0: test accuracy 50.00%, training 100 images/s (100 to 100), 60.0 s",
        f"[1/3] {title} 0: note: a note",
        f"[2/3] {title} 1: was lost and will run again: its node is gone",
        f"[3/3] {title} 2",
        f"[3/3] {title} 2: failed (bad_model)",
    ]


def test_lines_of_one_trial_at_a_time_say_it_once(plan_trials, observe, capfd):
    first, second = trials = plan_trials()
    with observe(trials, quiet=False) as observer:
        observer.trial_started(1, first, UNITS[:1])
        observer.trial_event(1, epoch(1))
        observer.trial_ended(1, record(first))
        observer.trial_left(second)
    assert capfd.readouterr().out.splitlines() == [
        "[1/2] tiny_net on tiny_data, seed 0",
        f"  {epoch(1).line()}",
        "[1/2] test accuracy 50.00%, training 100 images/s (100 to 100), 60.0 s",
        "  note: a note",
        "tiny_net on tiny_data, seed 1: another bench run has ended it",
    ]


def test_waiting_for_another_run_and_ending_are_told_once(plan_trials, observe, capfd):
    trials = plan_trials()
    with observe(trials, quiet=False) as observer:
        observer.looked(1, 1)
        for _ in range(3):
            observer.looked(0, 2)
        observer.ending()
    assert capfd.readouterr().out.splitlines() == [
        "2 trials are being run by another bench run; waiting for that to end",
        "ending: what runs saves its training first; Ctrl-C again ends it at once",
    ]


def test_a_quiet_sweep_prints_nothing_but_has_a_status(plan_trials, observe, capfd, status):
    trials = plan_trials()
    with observe(trials, quiet=True) as observer:
        observer.trial_started(1, trials[0], UNITS[:1])
        observer.trial_ended(1, record(trials[0], Status.FAILED, Reason.BAD_MODEL))
        observer.looked(0, 1)
        observer.ending()
        assert capfd.readouterr() == ("", "")
        assert "1 failed" in status()


# bench status


def test_status_without_a_folder_says_what_to_do(bench, tmp_path):
    code, out, err = bench("status", "--results", tmp_path / "none")
    assert (code, out) == (2, "")
    assert f"no results folder {tmp_path / 'none'}: `bench run` makes it, --results names another one." in err


def test_status_has_help_with_examples(bench):
    code, out, _ = bench("status", "--help")
    assert code == 0
    assert "  bench status --results /shared/results --watch" in out.partition("examples:")[2]
    assert "after Ctrl-C" in out


def test_status_of_a_folder_at_rest_counts_what_has_ended(status, tmp_path):
    (tmp_path / "results").mkdir()
    assert status() == f"nothing is at work on {tmp_path / 'results'}; no trial has ended there\n"
    assert json.loads(status("--json")) == {"runs": [], "problems": [], "ended": {}}
    assert "no trial has ended" in status("--watch")


def test_status_imports_no_backend(tmp_path):
    script = (
        f"import sys; from bench.cli.main import main; main(['status', '--results', {str(tmp_path)!r}]); "
        "sys.exit(str({'tensorflow', 'keras', 'jax', 'torch', 'ray'} & set(sys.modules) or ''))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == ""


def state_of(process, **changes):
    now = datetime.now(UTC).isoformat()
    state = {
        **{"command": "bench run sweep.toml", "process": process, "host": "a host", "started_at": now},
        **{"updated_at": now, "total": 4, "done_before": 0, "ended": {"ok": 1}, "left": 0, "waiting": 2},
        **{"elsewhere": 0, "running": [], "failed": [], "seconds_left": 90.0, "ending": False},
    }
    return state | changes


@pytest.fixture
def put(tmp_path):
    """Put a file among the states, as anybody could."""
    folder = tmp_path / "results" / ".runs"
    folder.mkdir(parents=True)

    def write(content, process="5@far"):
        path = folder / f"{process}.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


def dead_process():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return f"{ended.pid}@{os.uname().nodename}"


def test_a_run_that_was_killed_says_how_to_go_on(put, status):
    tag = dead_process()
    put(state_of(tag, updated_at="2026-01-02T03:04:05+00:00"), tag)
    out = status()
    assert "ended without a word at 2026-01-02 03:04:05 UTC; the same command resumes it" in out
    assert "bench run sweep.toml" in out
    assert "nothing is at work" in out


def test_a_run_that_has_been_silent_for_a_minute_says_so(put, status):
    put(state_of("5@far", updated_at=(datetime.now(UTC) - timedelta(seconds=61)).isoformat()), "5@far")
    out = status()
    assert "process 5 on far has not been heard of since" in out
    assert "the same command resumes it" in out
    put(state_of("5@far", updated_at=(datetime.now(UTC) - timedelta(seconds=30)).isoformat()), "5@far")
    assert "process 5 on far, at work for 0 s" in status()


def test_several_runs_have_a_screen_each(put, status):
    for tag in ("5@far", "6@far"):
        put(state_of(tag, command=f"bench run {tag}.toml"), tag)
    out = status()
    assert "bench run 5@far.toml" in out
    assert "bench run 6@far.toml" in out


def test_the_next_sweep_removes_what_a_dead_one_left(put, plan_trials, observe, tmp_path):
    dead = put({}, dead_process())
    far = put({}, "5@far")
    with observe(plan_trials()):
        assert not dead.exists()
        assert far.exists()


def running(title="tiny_net on tiny_data, seed 0", **changes):
    values = {"number": 1, "title": title, "place": "", "phase": "training", "seconds": 1.0}
    return values | changes


TAG = "5@far"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (json.dumps(state_of(TAG)).encode()[:-30], "is no JSON"),
        (bytes(range(128, 128 + 64)), "is no JSON"),
        (b"[]", "holds a list and not an object"),
        (b"{}", "lacks command"),
        (state_of(TAG, more=1), "has the unknown field 'more'"),
        (state_of(TAG, total="4"), "has a wrong total: expected a whole number, not a text"),
        (state_of(TAG, running=[{"title": "x"}]), "has a wrong running: lacks"),
        (state_of(TAG, updated_at="now"), "Invalid isoformat string"),
        (state_of(TAG, updated_at="2026-01-01T00:00:00"), "has a time that is not in UTC"),
        (state_of(TAG, started_at="0001-01-01T00:00:00+14:00"), "has a time that is not in UTC"),
        (state_of("6@far"), "says that it is of process 6@far"),
        (json.dumps(state_of(TAG, seconds_left=float("nan"))).encode(), "NaN is no number"),
        (state_of(TAG, total=10**30), "holds a whole number beyond"),
        (b"[" * 100_000, "is nested too deeply"),
        (b" " * (2**20 + 1), "more than the 1,048,576 that are read"),
    ],
)
def test_a_file_that_is_no_state_is_a_message_and_the_others_are_shown(put, status, content, problem):
    put(content, TAG)
    put(state_of("7@far"), "7@far")
    out = " ".join(status().split())
    assert f"{TAG}.json" in out.replace(" ", "")
    assert problem in out
    assert "Remove it to be rid of this message" in out
    assert "process 7 on far, at work" in out


@pytest.mark.parametrize("process", ["99999999999999999999@far", "5@far\x1b[31m", "+5@far", "x"])
def test_a_file_of_another_name_is_no_state(put, status, process):
    put(state_of(process), process)
    assert status().startswith("nothing is at work on ")


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_file_is_neither_followed_nor_waited_for(put, status, tmp_path, kind):
    path = put(state_of(TAG), TAG)
    (tmp_path / "outside.json").write_bytes(path.read_bytes())
    path.unlink()
    match kind:
        case "link":
            path.symlink_to(tmp_path / "outside.json")
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    out = status()
    assert "Remove it to be rid of this message" in " ".join(out.split())
    assert "at work for" not in out


def test_texts_of_others_do_nothing_to_the_terminal(put, status):
    nasty = "[bold red]x[/] \x1b[2J\x1b]0;title\x07 \u202e two\nlines [/nonsense]"
    failed = dict.fromkeys(("title", "status", "reason", "message", "folder"), nasty)
    trial = running(nasty, place=nasty, phase=nasty, epoch=10**17, epochs=-1, loss=1e308, images_per_second=-1e308)
    changes = {"command": nasty, "host": nasty, "ended": {nasty: 5}, "running": [trial], "failed": [failed]}
    put(state_of(TAG, **changes, seconds_left=1e308, total=-3, waiting=-1), TAG)
    out = status()
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "[bold red]x[/]" in out
    assert not any(line.startswith("lines") for line in out.splitlines())
    assert json.loads(status("--json"))["runs"][0]["failed"][0]["title"].count("\x1b") == 0


class Terminal:
    """A pseudo-terminal of 80 columns and 24 lines, and a command on it."""

    def __init__(self, *arguments):
        master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        words = [sys.executable, "-m", "bench", *map(str, arguments)]
        self.process = subprocess.Popen(
            words, stdout=slave, stderr=subprocess.PIPE, env=environment, start_new_session=True
        )
        os.close(slave)
        self.shown = b""
        self.reader = threading.Thread(target=self._read, args=[master])
        self.reader.start()

    def _read(self, master):
        with contextlib.suppress(OSError):  # the process has closed its side
            while more := os.read(master, 65_536):
                self.shown += more
        os.close(master)

    def wait_for(self, text):
        _wait(lambda: text in self.text() or self.process.poll() is not None)
        assert text in self.text(), self.process.stderr.read()

    def text(self):
        return self.shown.decode(errors="replace")

    def lines(self):
        """Return the lines of all that was ever drawn, as wide as they were."""
        return re.split(r"[\r\n]+|\x1b\[2K|\x1b\[\d*A", re.sub(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]", "", self.text()))

    def end(self, number=None):
        """Send a signal, where one is named, and return the exit code."""
        if number is not None:
            self.process.send_signal(number)
        self.process.communicate(timeout=120)
        self.reader.join()
        return self.process.returncode


@pytest.fixture
def on_terminal():
    """Start a command on a terminal of its own; none outlives the test."""
    terminals = []

    def start(*arguments):
        terminals.append(Terminal(*arguments))
        return terminals[-1]

    yield start
    for terminal in terminals:
        if terminal.process.poll() is None:
            terminal.end(signal.SIGKILL)


def _wait(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_screen_of_32_running_trials_fits_into_80_columns_and_24_lines(put, on_terminal, tmp_path):
    long = "resnet_cifar:depth=110,width=64,stochastic_depth=0.2 on fashion_mnist:size=64, seed "
    values = {"epoch": 199, "epochs": 200, "loss": 0.1234, "images_per_second": 12345.6, "validation_accuracy": 0.9}
    trials = [running(f"{long}{n}", number=n, place=f"GPU {n}", **values) for n in range(32)]
    path = put(state_of(TAG, running=trials), TAG)
    terminal = on_terminal("status", "--results", tmp_path / "results", "--watch")
    terminal.wait_for("and 16 more")
    lines = terminal.lines()
    assert max(map(len, lines)) <= 80
    for seed in (0, 15):
        assert any(
            re.search(rf"resnet_.*….*seed {seed} +GPU {seed} +199/200 +0.123 +90.0 +12,346", each) for each in lines
        )
    path.unlink()
    assert terminal.end() == 0
    assert "nothing is at work" in terminal.text()


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_watching_ends_with_the_run_or_with_ctrl_c(put, tmp_path, arguments):
    watched = command("status", "--results", tmp_path / "results", "--watch", *arguments)
    assert watched.wait(timeout=60) == 0  # nothing is at work
    put(state_of(TAG), TAG)
    watched = command("status", "--results", tmp_path / "results", "--watch", *arguments)
    assert "sweep.toml" in watched.stdout.readline()
    watched.send_signal(signal.SIGINT)
    _, err = watched.communicate(timeout=60)
    assert (watched.returncode, err) == (0, "")


def test_a_real_sweep_side_by_side_shows_on_its_terminal_and_on_another(plugins, on_terminal, tmp_path, bench):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two trials at a time need two cores")
    results = tmp_path / "results"
    recipe = ["--epochs", 1_000_000, "--batch-size", 16, "--measure", "basic"]
    nets = ["--arch", "broken", "tiny_net", "tiny_net:units=4", "--dataset", "tiny_data"]
    (plugins / "architectures" / "broken.py").write_text(
        "from bench.api import Architecture\nINFO = Architecture()\n\n\n"
        "def build(input_shape, num_classes):\n    raise RuntimeError('not today')\n"
    )
    terminal = on_terminal("run", *nets, *recipe, "--plugins", plugins, "--results", results, "--jobs", 2)

    def trains():
        assert terminal.process.poll() is None, terminal.process.stderr.read()
        if not results.is_dir():
            return False
        runs = json.loads(bench("status", "--results", results, "--json")[1])["runs"]
        rows = runs[0]["running"] if runs else []
        return runs if sum(row["validation_accuracy"] is not None for row in rows) == 2 else False

    def drawn():
        return [line for line in terminal.lines() if re.search(r"/1000000 +\d\.\d{3}", line)]

    _wait(trains)
    _wait(lambda: {line.strip()[:11] for line in drawn()} == {"tiny_net on", "tiny_net:un"})
    (state,) = trains()
    code, out, _ = bench("status", "--results", results)
    assert code == 0
    assert terminal.end(signal.SIGINT) == 130
    assert state["ended"] == {"failed": 1}
    assert [row["title"] for row in state["running"]] == [
        f"{name} on tiny_data, seed 0" for name in ("tiny_net", "tiny_net:units=4")
    ]
    assert {row["epochs"] for row in state["running"]} == {1_000_000}
    assert {row["place"].split()[0] for row in state["running"]} <= {"core", "cores"}
    assert all(row["loss"] > 0 and row["images_per_second"] > 0 for row in state["running"])
    assert state["seconds_left"] > 60
    assert "1 failed; 2 running, 0 waiting" in out
    assert re.search(r"broken on tiny_data, seed 0: failed \(bad_model\): .*not\s+today", out, re.DOTALL)
    shown = terminal.text()
    assert "[1/3] broken on tiny_data, seed 0: failed (bad_model)" in shown
    assert "ending: what runs saves its training first" in shown
    assert "epoch 1: loss" not in shown  # where several run, the table says it
    assert max(map(len, drawn())) <= 80
    assert not (results / ".runs").exists()
    assert "2 interrupted" in bench("status", "--results", results)[1]
