"""Sweeps as a user runs them: from a file, side by side, within limits, with parts of them changed meanwhile."""

import json
import os
import signal
import time

import pandas as pd
import pytest

from bench.records import Reason, Status
from bench.store import Store
from tests.conftest import TINY_NET, command

SLEEPY = TINY_NET.replace("    inputs =", "    __import__('time').sleep(60)\n    inputs =")


@pytest.fixture
def add_net(plugins):
    def add(name, text):
        (plugins / "architectures" / f"{name}.py").write_text(text)

    return add


def by_name(records):
    return {record.spec.architecture.label: record for record in records}


def test_a_sweep_file_says_what_is_run_and_options_override_it(bench, plugins, tmp_path):
    (tmp_path / "sweep.toml").write_text(
        f"""
architectures = [{{ name = "tiny_net", units = [4, 8] }}]
datasets = "tiny_data"
seeds = [3, 5]
recipes = [{{ name = "standard", epochs = 1, batch_size = 16 }}]
[[exclude]]
architectures = "tiny_net:units=4"
seeds = [5]
[run]
results = "here"
plugins = {json.dumps(str(plugins))}
measure = "basic"
"""
    )
    code, _, err = bench("run", tmp_path / "sweep.toml", "--quiet")
    assert code == 0, err
    specs = [record.spec for record in Store(tmp_path / "here").records()]
    assert {(each.architecture.label, each.seed) for each in specs} == {
        ("tiny_net:units=4", 3),
        ("tiny_net", 3),
        ("tiny_net", 5),
    }
    code, _, _ = bench("run", tmp_path / "sweep.toml", "--seeds", "1", "--results", tmp_path / "there")
    assert code == 0
    assert {record.spec.seed for record in Store(tmp_path / "there").records()} == {0}


def test_a_wrong_sweep_file_is_one_message_that_names_the_key(bench, tmp_path):
    (tmp_path / "sweep.toml").write_text('architectures = "tiny_net"\ndatasets = "digits"\nrecipes = [{epochs = "x"}]')
    code, _, err = bench("run", tmp_path / "sweep.toml")
    assert code == 2
    assert "sweep.toml: recipes[0]" in err
    assert "Traceback" not in err


def test_a_dry_run_tells_what_is_done_and_what_the_rest_takes(run, records, tmp_path):
    run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")}
    code, out, _ = run("--seeds", "2", "--dry-run", arch="tiny_net tiny_net:units=4")
    assert code == 0
    (done,) = (line for line in out.splitlines() if line.startswith("tiny_net on tiny_data, seed 0 "))
    (like_it,) = (line for line in out.splitlines() if line.startswith("tiny_net on tiny_data, seed 1 "))
    assert "done: ok" in done
    assert "1 record of the same setting" in like_it
    assert out.count(" to run ") == 3
    assert "to run: 3 trials: about" in out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")} == before


def test_a_dry_run_tells_what_will_be_skipped(run, plugins):
    text = (plugins / "architectures" / "tiny_net.py").read_text()
    (plugins / "architectures" / "large_net.py").write_text(text.replace("min_size=4", "min_size=9"))
    assert run()[0] == 0
    code, out, _ = run("--dry-run", arch="large_net")
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("large_net on tiny_data"))
    assert "skipped: images too small" in line
    assert "to run: 0 trials" in out


def test_a_dry_run_asks_to_prepare_the_data_first(bench, plugins, tmp_path):
    arguments = ["--arch", "tiny_net", "--dataset", "tiny_data:number=333", "--plugins", plugins, "--dry-run"]
    code, _, err = bench("run", *arguments, "--results", tmp_path / "results")
    assert code == 2
    assert "bench prepare tiny_data:number=333 --plugins" in err
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_trials_side_by_side_have_cores_of_their_own_and_say_so(run, records, tmp_path):
    code, out, _ = run("--jobs", "2", "--seeds", "4")
    assert code == 0
    assert "2 at a time" in out
    assert {record.environment.cores_used for record in records()} == {len(os.sched_getaffinity(0)) // 2}
    assert {record.resolved["threads"] for record in records()} == {len(os.sched_getaffinity(0)) // 2}
    shared = [record for record in records() if record.resolved["other_trials"]]
    assert len(shared) >= 2
    for record in shared:
        assert "up to 1 other trial ran on the machine at the same time." in record.metrics["timing_notes"]
    assert pd.read_csv(tmp_path / "results" / "leaderboard.csv")["disturbed"].item() >= 2
    assert run("--jobs", "2", "--seeds", "4")[0] == 0
    assert len(records()) == 4  # nothing twice


def test_more_jobs_than_cores_are_refused(run):
    code, _, err = run("--jobs", "4096")
    assert code == 2
    assert "--jobs 4096: there are" in err


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_with_exclusive_timing_what_is_measured_in_full_runs_alone(run, records):
    code, _, err = run("--jobs", "2", "--seeds", "3", "--timing", "exclusive", "--measure", "full", epochs=1)
    assert code == 0, err
    full = [record for record in records() if "latency_p50_ms" in record.metrics]
    assert [record.resolved["other_trials"] for record in full] == [0]
    assert len(records()) == 3


@pytest.mark.parametrize(
    ("net", "limits", "status", "reason", "message"),
    [
        ("__import__('time').sleep(60)", ["--timeout", "3s"], Status.TIMEOUT, Reason.TIME_LIMIT, "--timeout 3s"),
        (
            "hold = [bytearray(10**8) for _ in range(30)]; __import__('time').sleep(60)",
            ["--memory-limit", "1.5GB"],
            Status.FAILED,
            Reason.MEMORY_LIMIT,
            "--memory-limit 1.5GB at a batch size of 16",
        ),
        (
            "[print('x' * 10**6) for _ in range(30)]; __import__('time').sleep(60)",
            ["--disk-limit", "20MB"],
            Status.FAILED,
            Reason.DISK_LIMIT,
            "--disk-limit 20MB",
        ),
    ],
)
def test_a_trial_beyond_a_limit_is_ended_and_the_others_go_on(
    run, records, add_net, net, limits, status, reason, message
):
    add_net("greedy", TINY_NET.replace("    inputs =", f"    {net}\n    inputs ="))
    code, _, err = run(*limits, arch="greedy tiny_net")
    assert code == 1
    ended = by_name(records())
    assert (ended["greedy"].status, ended["greedy"].reason) == (status, reason)
    assert message in ended["greedy"].message
    assert message in err.replace("\n", " ")
    assert ended["tiny_net"].status == Status.OK


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timeout", "2"], "--timeout: expected a duration such as 90s, 45m, 2h or 1d; got '2'"),
        (["--timeout", "0s"], "--timeout: expected a duration"),
        (["--memory-limit", "8"], "--memory-limit: expected a size such as 500MB, 8GB or 6GiB; got '8'"),
        (["--disk-limit", "-1GB"], "--disk-limit"),
        (["--checkpoint-every", "often"], "--checkpoint-every: expected a duration"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--ray-address", "127.0.0.1:6379"], "--ray-address is for --engine ray"),
        (["no_such.toml"], "no_such.toml"),
    ],
)
def test_wrong_limits_are_one_message(run, records, arguments, message):
    code, _, err = run(*arguments)
    assert (code, records()) == (2, [])
    assert message in err
    assert "Traceback" not in err


def test_the_last_lines_of_a_log_are_in_the_row_of_a_failure(run, records, add_net, tmp_path):
    add_net(
        "talks",
        TINY_NET.replace("    inputs =", "    print('the last [bold]words'); __import__('os')._exit(3)\n    inputs ="),
    )
    _, _, err = run(arch="talks")
    (record,) = records()
    assert "the last [bold]words" in record.log_tail
    assert "the last [bold]words" in err
    assert "the last" in pd.read_parquet(tmp_path / "results" / "trials.parquet")["log_tail"].item()


def test_a_changed_module_beside_a_plugin_makes_its_trials_stale_and_says_so(run, records, add_net, tmp_path):
    add_net("_blocks", "UNITS = 4\n")
    uses = TINY_NET.replace("import keras", "import keras\nfrom ._blocks import UNITS").replace(
        "Dense(units", "Dense(UNITS"
    )
    add_net("uses", uses)
    run(arch="uses tiny_net")
    first = by_name(records())["uses"]
    assert set(first.spec.architecture.modules) == {"._blocks"}
    add_net("_blocks", "UNITS = 5\n")
    code, out, _ = run(arch="uses tiny_net")
    assert code == 0
    assert "1 that had ended is run anew: _blocks, which architecture uses imports, has changed" in out
    second = records()[-1]
    assert len(records()) == 3
    assert second.metrics["parameters"] > first.metrics["parameters"]
    rows = pd.read_csv(tmp_path / "results" / "leaderboard.csv")
    assert sorted(rows[rows["architecture"] == "uses"]["seeds"]) == [1, 1]  # two networks are never one row


def test_a_module_beside_a_plugin_is_imported_with_a_dot_which_the_message_says(run, records, add_net):
    add_net("_blocks", "UNITS = 4\n")
    add_net("forgets", TINY_NET.replace("import keras", "import keras\nfrom _blocks import UNITS"))
    run(arch="forgets")
    (record,) = records()
    assert "write `from ._blocks import ...`" in record.message


def test_a_plugin_that_imports_another_plugin_fails_with_what_to_do(run, records, add_net):
    add_net("copies", TINY_NET.replace("import keras", "import keras\nfrom .tiny_net import build as other"))
    assert run(arch="copies")[0] == 1
    (record,) = records()
    assert record.reason == Reason.BAD_PLUGIN
    assert "a plugin never imports another plugin" in record.message


def wait_for(folder, pattern, seconds=120):
    deadline = time.monotonic() + seconds
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} in {folder}"
        time.sleep(0.05)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_once_saves_and_twice_ends_at_once(plugins, tmp_path, add_net, times):
    """A net that takes a while for each step, so that once is waited for."""
    slow = TINY_NET.replace(
        "INFO =",
        "class Slow(keras.layers.Layer):\n    def call(self, x):\n        import tensorflow as tf, time\n"
        "        def wait(x):\n            time.sleep(3)\n            return x\n"
        "        y = tf.numpy_function(wait, [x], tf.float32)\n        y.set_shape(x.shape)\n"
        "        return y\n\n\nINFO =",
    ).replace("x = keras.layers.Flatten()(inputs)", "x = Slow()(keras.layers.Flatten()(inputs))")
    add_net("slow", slow)
    results = tmp_path / "results"
    arguments = ["--plugins", plugins, "--results", results, "--arch", "slow", "--dataset", "tiny_data"]
    with command("run", *arguments, "--epochs", 50, "--batch-size", 16, "--measure", "basic") as sweep:
        wait_for(results, "trials/*/.*.tmp/log.txt")
        time.sleep(8)
        for _ in range(times):
            sweep.send_signal(signal.SIGINT)
            time.sleep(0.5)
        started = time.monotonic()
        out, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 130, err
    (record,) = Store(results).records()
    assert (record.status, record.reason) == (Status.INTERRUPTED, Reason.USER)
    trial = results / "trials" / record.trial_id
    assert not list(trial.glob(".claim"))
    assert not list(results.glob("trials/*/.*.tmp"))
    if times == 2:
        assert time.monotonic() - started < 60  # it was not waited for as long as saving may take
    assert "ending: what runs saves its training first" in out + err


def test_what_another_process_has_ended_meanwhile_is_left_to_it(run, records, plugins, tmp_path, add_net):
    """Two commands with the same sweep at once."""
    results = tmp_path / "results"
    arguments = ["--plugins", plugins, "--results", results, "--arch", "tiny_net", "--dataset", "tiny_data"]
    arguments += ["--seeds", 6, "--epochs", 2, "--batch-size", 16, "--measure", "basic"]
    with command("run", *arguments) as first, command("run", *arguments) as second:
        ended = [each.communicate(timeout=300) for each in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), ended
    assert sorted(record.spec.seed for record in records()) == list(range(6))
    assert not list(results.rglob(".*"))


def test_a_bad_record_among_good_ones_is_a_warning(run, bench, tmp_path):
    run()
    bad = tmp_path / "results" / "trials" / "bad" / "20260101T000000.000000Z-aaaa"
    bad.mkdir(parents=True)
    (bad / "record.json").write_text('{"schema_version": 99}')
    code, _, err = run()
    assert code == 0
    assert err.count("bench: warning: ") == 1
    assert "Update bench to read it" in err
