"""`bench run` as a user calls it: what it prints, what it leaves behind, and what happens to bad trials."""

import csv
import os
import pty
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from bench.records import Reason, Status
from bench.store import Store
from tests.conftest import TINY_NET, command


def net(body, arguments="input_shape, num_classes"):
    return (
        "import os, signal, time\nimport keras\nimport numpy as np\nfrom bench.api import Architecture\n"
        f"INFO = Architecture()\n\n\ndef build({arguments}):\n"
        "    inputs = keras.Input(input_shape)\n    x = keras.layers.Flatten()(inputs)\n"
        f"    {body}\n"
    )


@pytest.fixture
def add_net(plugins):
    def add(name, text):
        (plugins / "architectures" / f"{name}.py").write_text(text)

    return add


def test_digits_are_really_learned(bench, tmp_path):
    code, out, err = bench("run", "--arch", "baseline_cnn", "--dataset", "digits", "--results", tmp_path)
    assert code == 0, err
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert table["test_accuracy_mean"].item() >= 0.97
    assert f"{table['test_accuracy_mean'].item() * 100:.2f}" in out
    assert "baseline_cnn" in out


def test_cifar10_is_learned_from_the_real_images(bench, real_data, tmp_path):
    arguments = ["run", "--arch", "baseline_cnn", "--dataset", "cifar10", "--epochs", 1, "--results", tmp_path]
    code, _, err = bench(*arguments, "--data-dir", real_data)
    assert code == 0, err
    (record,) = Store(tmp_path).records()
    assert 0.45 < record.metrics["test_accuracy"] < 0.75
    assert record.metrics["test_accuracy"] < record.metrics["test_top5_accuracy"] < 1
    assert record.resolved["training_images"] == 45_000
    assert record.resolved["steps"] == 351
    assert record.metrics["parameters"] == 545_098
    assert record.metrics["peak_memory_bytes"] < 2.5e9


def test_a_sweep_leaves_a_record_of_each_trial_and_its_tables(run, records, tmp_path):
    code, out, err = run("--seeds", 2, arch="tiny_net tiny_net:units=4")
    assert code == 0, err
    assert "4 trials in float32" in out
    assert "[4/4] test accuracy" in out
    assert "epoch 2: loss" in out
    results = tmp_path / "results"
    found = records()
    assert [record.status for record in found] == [Status.OK] * 4
    assert [record.spec.title for record in found] == [
        "tiny_net on tiny_data, seed 0",
        "tiny_net:units=4 on tiny_data, seed 0",
        "tiny_net on tiny_data, seed 1",
        "tiny_net:units=4 on tiny_data, seed 1",
    ]
    table = pd.read_csv(results / "leaderboard.csv")
    assert sorted(table["architecture"]) == ["tiny_net", "tiny_net:units=4"]
    assert table["seeds"].tolist() == [2, 2]
    assert table["recipe"].unique().tolist() == ["standard:epochs=2,min_steps=0,batch_size=16"]
    for record in found:
        folder = results / "trials" / record.trial_id / record.attempt
        assert {path.name for path in folder.iterdir()} == {"record.json", "history.csv", "predictions.npz", "log.txt"}
        history = list(csv.DictReader((folder / "history.csv").open()))
        assert [row["epoch"] for row in history] == ["1", "2"]
        assert "epoch 2: loss" in (folder / "log.txt").read_text()
        with np.load(folder / "predictions.npz", allow_pickle=False) as stored:
            assert stored["logits"].shape == (20, 4)
            assert stored["logits"].dtype == np.float32
            accuracy = accuracy_score(stored["labels"], stored["logits"].argmax(axis=1))
            assert record.metrics["test_accuracy"] == accuracy
            assert stored["confusion_matrix"].trace() == accuracy * 20
        phases = ("data", "build", "first_step", "warmup", "training", "validation", "evaluation")
        assert tuple(record.phases) == phases
        assert sum(record.phases.values()) <= record.seconds
        assert record.metrics["peak_memory_bytes"] > 10**8
        assert record.metrics["test_top5_accuracy"] is None
        resolved = record.resolved
        assert (resolved["device"], resolved["precision"], resolved["jit_compile"]) == ("CPU", "float32", False)
        assert (resolved["training_images"], resolved["validation_images"], resolved["test_images"]) == (57, 7, 20)
        assert (resolved["epochs"], resolved["steps"], resolved["steps_per_execution"]) == (2, 6, 3)


def test_a_seed_gives_the_same_trial_again(run, records, tmp_path):
    for _ in range(2):
        assert run("--force")[0] == 0
    assert run("--seeds", 2)[0] == 0
    first, again, other = records()
    assert first.trial_id == again.trial_id != other.trial_id
    logits = [
        np.load(tmp_path / "results" / "trials" / each.trial_id / each.attempt / "predictions.npz")["logits"]
        for each in (first, again, other)
    ]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert not np.array_equal(logits[0], logits[2])


def test_results_may_be_a_relative_path_whatever_a_plugin_does(run, add_net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add_net("mover", net("os.chdir('/'); return keras.Model(inputs, keras.layers.Dense(num_classes)(x))"))
    assert run("--results", "here", arch="mover")[0] == 0
    assert len(list((tmp_path / "here").glob("trials/*/*/predictions.npz"))) == 1


def test_what_has_ended_is_not_run_again_unless_forced(run, records):
    assert run()[0] == 0
    code, out, _ = run("--seeds", 2)
    assert code == 0
    assert "2 trials in float32" in out
    assert "1 of them ended before (--force runs them again, --retry-failed those that failed)" in out
    assert len(records()) == 2
    code, out, _ = run("--seeds", 2)
    assert code == 0
    assert "nothing is left to run" in out
    assert len(records()) == 2
    assert run("--force")[0] == 0
    assert len(records()) == 3


def test_a_failed_trial_runs_again_on_request_alone(run, records, add_net):
    add_net("broken", net("raise RuntimeError('not today')"))
    assert run(arch="broken")[0] == 1
    code, _, err = run(arch="broken")
    assert code == 1  # it has failed, and is said to have
    assert "not today" in err
    assert len(records()) == 1
    assert run("--retry-failed", arch="broken")[0] == 1
    assert len(records()) == 2


def test_a_changed_plugin_is_another_trial(run, records, add_net):
    run()
    add_net("tiny_net", TINY_NET.replace("units: int = 8", "units: int = 9"))
    run()
    assert len({record.trial_id for record in records()}) == 2


def test_names_may_be_listed_and_repeated(run, records):
    code, *_ = run("--arch", "tiny_net:units=2", "--dataset", "tiny_data:number=96", epochs=1)
    assert code == 0
    assert len(records()) == 4


def test_precision_and_stored_logits_are_chosen(run, records, tmp_path):
    code, *_ = run("--precision", "mixed_bfloat16", "--logits", "float16")
    assert code == 0
    (record,) = records()
    assert record.spec.precision == record.resolved["precision"] == "mixed_bfloat16"
    stored = np.load(tmp_path / "results" / "trials" / record.trial_id / record.attempt / "predictions.npz")
    assert stored["logits"].dtype == np.float16


def test_the_document_recipe_trains_on_everything_and_has_no_validation(run, records):
    code, out, _ = run("--recipe", "document", "--set", "batch_size=20", batch=None, epochs=None)
    assert code == 0
    assert out.count("  epoch ") == 10
    (record,) = records()
    assert record.resolved["training_images"] == 64
    assert record.resolved["steps"] == 40
    assert record.metrics["validation_accuracy"] is None


def test_quiet_prints_nothing_but_failures(run, add_net):
    assert run("--quiet") == (0, "", "")
    add_net("broken", net("raise RuntimeError('not today')"))
    code, out, err = run("--quiet", arch="broken")
    assert (code, out) == (1, "")
    assert "not today" in err


def test_encoded_images_train_as_well(run, plugins, records):
    (plugins / "datasets" / "encoded.py").write_text(
        '''"""PNG files of several sizes."""
import io
import numpy as np
from PIL import Image
from bench.api import Dataset, Split, Splits

INFO = Dataset()


class Pngs:
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        size = (12 + index % 5, 16)
        buffer = io.BytesIO()
        Image.new("RGB", size, (int(self.labels[index]) * 100, 0, 0)).save(buffer, "PNG")
        return buffer.getvalue()


def load():
    def split(count):
        labels = np.arange(count) % 3
        return Split(Pngs(labels), labels)

    return Splits(train=split(60), test=split(12), class_names=("a", "b", "c"), image_shape=(8, 8, 3), fingerprint="1")
'''
    )
    code, out, err = run(dataset="encoded", epochs=20)
    assert code == 0, out + err
    assert records()[0].metrics["test_accuracy"] == 1.0


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        (net("raise RuntimeError('not today')"), Reason.BAD_MODEL, "`build` raised RuntimeError: not today"),
        (net("return x"), Reason.BAD_MODEL, "`build` must return a keras.Model, got KerasTensor"),
        (
            net("return keras.Model(inputs, keras.layers.Dense(num_classes + 1)(x))"),
            Reason.BAD_MODEL,
            "must have shape (None, 4), one logit a class, got (None, 5). End it with keras.layers.Dense(num_classes)",
        ),
        (
            net("return keras.Model(inputs, keras.layers.Dense(num_classes, activation='softmax')(x))"),
            Reason.BAD_MODEL,
            "outputs are probabilities (they are positive and sum to 1), logits are due. Remove the softmax",
        ),
        ("import no_such_package\n" + net("return None"), Reason.BAD_MODEL, "cannot be imported: ModuleNotFoundError"),
        (net("os._exit(7)"), Reason.PROCESS_EXIT, "ended by itself with exit code 7"),
        (net("os.kill(os.getpid(), signal.SIGKILL)"), Reason.KILLED_BY_SIGNAL, "killed by SIGKILL. On Linux"),
        (net("os.kill(os.getpid(), signal.SIGSEGV)"), Reason.KILLED_BY_SIGNAL, "killed by SIGSEGV"),
    ],
    ids=["raises", "no model", "outputs", "softmax", "import", "exit", "kill", "segfault"],
)
def test_a_bad_plugin_leaves_a_failed_record_and_the_others_go_on(run, records, add_net, text, reason, message):
    add_net("bad", text)
    code, out, err = run(arch="bad tiny_net")
    assert code == 1
    bad, good = records()
    assert (bad.status, bad.reason) == (Status.FAILED, reason)
    assert message in bad.message
    assert good.status == Status.OK
    assert message.split(". ")[0] in err.replace("\n", " ")
    assert "Traceback" not in out + err


def test_an_exception_in_training_keeps_its_traceback(run, records, add_net):
    add_net(
        "raises",
        net("return Raising(inputs, keras.layers.Dense(num_classes)(x))").replace(
            "INFO =",
            "class Raising(keras.Model):\n    def call(self, *a, training=False, **k):\n"
            "        if training:\n            raise RuntimeError('in training')\n"
            "        return super().call(*a, **k)\n\n\nINFO =",
        ),
    )
    assert run(arch="raises")[0] == 1
    (record,) = records()
    assert record.reason == Reason.EXCEPTION
    assert "in training" in record.message
    assert "Traceback" in record.traceback


def test_memory_that_runs_out_is_told_apart(run, records, add_net):
    add_net("greedy", net("return keras.Model(inputs, keras.layers.Dense(num_classes)(keras.layers.Dense(10**13)(x)))"))
    assert run(arch="greedy")[0] == 1
    (record,) = records()
    assert record.reason == Reason.OUT_OF_MEMORY_HOST
    assert record.message.startswith("out of memory on the host at a batch size of 16: ")


def test_what_a_plugin_changes_harms_only_its_own_trial(run, records, add_net):
    add_net(
        "vandal",
        net(
            "keras.config.set_dtype_policy('float16'); keras.config.set_epsilon(0.5); os.chdir('/'); "
            "keras.utils.set_random_seed(99); "
            "return keras.Model(inputs, keras.layers.Dense(num_classes)(x))"
        ),
    )
    run(arch="tiny_net")
    run("--force", arch="vandal tiny_net")
    before, _, after = records()
    assert before.metrics["test_nll"] == after.metrics["test_nll"]


def test_a_loss_that_is_no_number_ends_as_diverged(run, records):
    code, *_ = run(
        "--learning-rate", "1e30", "--set", "optimizer='sgd'", "weight_decay=0.0", "clip_norm=0.0", "warmup=0.0"
    )
    assert code == 1
    (record,) = records()
    assert (record.status, record.reason) == (Status.DIVERGED, Reason.NON_FINITE_LOSS)
    assert "the training loss became" in record.message
    assert "in epoch 1, step" in record.message


def test_images_too_small_for_an_architecture_are_skipped(run, records):
    code, _, err = run(arch="tiny_net", dataset="tiny_data tiny_data:size=3")
    assert code == 0
    record = next(each for each in records() if each.status == Status.SKIPPED)
    assert record.reason == Reason.IMAGES_TOO_SMALL
    assert record.message == "tiny_net needs images of at least 4x4 pixels; tiny_data:size=3 has 3x3."
    assert record.message in err.replace("\n", " ")


def test_a_sweep_of_nothing_but_skipped_trials_is_not_well(run):
    assert run(dataset="tiny_data:size=3")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "tiny_met"], "unknown architecture 'tiny_met'. Did you mean tiny_net"),
        (["--dataset", "digit"], "unknown dataset 'digit'. Did you mean digits"),
        (["--dataset", "x" * 5_000], "unknown dataset 'xxx"),
        (["--dataset", "/usr"], "A folder of images is named folder:/usr"),
        (["--recipe", "standart"], "unknown recipe 'standart'. Did you mean standard"),
        (["--arch", "tiny_net:unit=3"], "architecture tiny_net has no parameter 'unit'. It has: units=8"),
        (["--arch", "tiny_net:units='x'"], "units must be a whole number"),
        (["--arch", "tiny_net:units"], "expected KEY=VALUE after the colon, got 'units'. Its parameters: units."),
        (["--set", "lr=1"], "recipe standard: unknown key of a recipe 'lr'. Did you mean"),
        (["--set", "flip=1"], "flip must be true or false"),
        (["--epochs", "0"], "epochs must be above 0 and at most 1,000,000; got 0"),
        (["--epochs", "many"], "argument --epochs: invalid float value: 'many'"),
        (["--batch-size", "0"], "batch_size must be at least 1; got 0"),
        (["--batch-size", "58"], "a batch of 58 is larger than the 57 training images of tiny_data (of 64"),
        (["--learning-rate", "-1"], "learning_rate must be above 0"),
        (["--learning-rate", "fast"], "argument --learning-rate: invalid float value: 'fast'"),
        (["--set", "epochs=3", "learning_rate=0.1"], "epochs is given twice: by --set and by --epochs"),
        (["--set", "name=two words"], "Other text needs quotes"),
        (
            ["--arch", "tiny_net,tiny_net"],
            '--arch: expected a name without spaces, commas and colons, got "tiny_net,tiny_net"',
        ),
        (["--seeds", "0"], "--seeds must be at least 1; got 0"),
        (["--seeds", "x"], "argument --seeds: invalid int value: 'x'"),
        (["--precision", "int8"], "argument --precision: invalid choice: 'int8'"),
        (["--backend", "caffe"], "argument --backend: invalid choice: 'caffe'"),
        (["--data-dir", "/no/such/folder"], "--data-dir /no/such/folder does not exist"),
        (["--plugins", "/no/such/folder"], "--plugins /no/such/folder: expected a folder that holds"),
        (["--results", "/dev/null/results"], "the results folder /dev/null/results cannot be written"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(run, records, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err
    assert records() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def build(:\n", "syntax error in line 1"),
        ("INFO = Architecture()\n", "has no function `build`"),
    ],
)
def test_a_plugin_that_cannot_be_read_fails_and_the_others_go_on(run, records, add_net, text, message):
    add_net("broken", text)
    code, _, err = run(arch="broken tiny_net")
    assert code == 1
    broken, well = sorted(records(), key=lambda record: record.trial_id)
    assert (broken.reason, well.status) == (Reason.BAD_PLUGIN, Status.OK)
    assert message in broken.message
    assert f"broken.py: {message}" in err


def test_absent_data_without_a_network_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.data.network.unreachable", lambda url: f"no answer from {url}")
    code, _, err = run("--data-dir", tmp_path, dataset="cifar10")
    assert code == 2
    assert "data set cifar10 is not on disk and cannot be downloaded" in err
    assert "On disk there: none." in err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_clear_message(run, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        code, _, err = run("--results", small / "results")
        assert code == 2
        assert "is full" in err
    finally:
        subprocess.run(["umount", small], check=True)


def test_ctrl_c_keeps_what_is_finished_and_records_the_rest_as_interrupted(plugins, tmp_path, add_net):
    arguments = ["run", "--arch", "tiny_net", "slow", "--dataset", "tiny_data", "--epochs", 1, "--batch-size", 16]
    arguments += ["--plugins", plugins, "--results", tmp_path / "results"]
    add_net("slow", net("time.sleep(600)"))
    process = command(*arguments, start_new_session=True)
    _wait_for(process, "] slow on tiny_data")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    first, second = Store(tmp_path / "results").records()
    assert (first.status, second.status) == (Status.OK, Status.INTERRUPTED)
    assert second.reason == Reason.USER
    assert "tiny_net" in (tmp_path / "results" / "leaderboard.md").read_text()
    add_net("slow", net("return keras.Model(inputs, keras.layers.Dense(num_classes)(x))"))
    again = command(*arguments)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "1 of them ended before" in out


def test_sigterm_is_recorded_too_and_an_interrupted_trial_runs_again(plugins, tmp_path, add_net):
    marker = tmp_path / "quick"
    add_net(
        "slow",
        net(f"time.sleep(0 if os.path.exists({str(marker)!r}) else 600)")
        + "    return keras.Model(inputs, keras.layers.Dense(num_classes)(x))\n",
    )
    arguments = ["run", "--arch", "slow", "--dataset", "tiny_data", "--epochs", 1, "--batch-size", 16]
    arguments += ["--plugins", plugins, "--results", tmp_path / "results"]
    process = command(*arguments)
    _wait_for(process, "] slow on tiny_data")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    marker.write_text("")
    again = command(*arguments)
    assert again.communicate(timeout=120)[1] == ""
    first, second = Store(tmp_path / "results").records()
    assert first.trial_id == second.trial_id
    assert (first.status, second.status) == (Status.INTERRUPTED, Status.OK)


def _wait_for(process, text):
    deadline = time.monotonic() + 120
    for line in process.stdout:
        if text in line:
            time.sleep(1)
            return
        assert time.monotonic() < deadline
    raise AssertionError(process.stderr.read())


def test_a_terminal_shows_bars_for_sweep_and_trial(plugins, tmp_path):
    master, slave = pty.openpty()
    arguments = ["run", "--arch", "tiny_net", "--dataset", "tiny_data", "--epochs", "200", "--batch-size", "8"]
    arguments += ["--plugins", str(plugins), "--results", str(tmp_path / "results")]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "150", "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments], stdout=slave, stderr=subprocess.PIPE, env=environment
    )
    os.close(slave)
    screen = b""
    while True:
        try:
            screen += os.read(master, 65_536)
        except OSError:  # the process has closed its side
            break
    assert process.wait(timeout=120) == 0, process.stderr.read()
    text = screen.decode()
    assert "sweep" in text
    assert "0/1" in text
    assert re.search(r"\b\d+/200\b", text)
    for column in ("epoch", "loss", "val %", "img/s"):
        assert column in text
