"""What a trial's record says of its speed and cost, through the command line."""

import csv
import math

import pandas as pd

from bench.records import Status

SLOW_DOUBT = '''"""A net with a layer that calls the backend itself, which nobody can count."""
import keras
from bench.api import Architecture

INFO = Architecture()


class Opaque(keras.layers.Layer):
    def call(self, x):
        import tensorflow as tf

        return tf.matmul(x, tf.ones((4, 4)))

    def compute_output_shape(self, shape):
        return shape


def build(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.Dense(4)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_classes)(Opaque()(x)))
'''
ONCE = ["latency_p50_ms", "inference_images_per_second", "input_images_per_second", "compute_images_per_second"]


def test_what_costs_time_is_measured_with_one_seed_of_each_architecture(run, records, tmp_path):
    code, _, err = run("--measure", "full", "--seeds", 2, arch="tiny_net tiny_net:units=4")
    assert code == 0, err
    first, second = records()[:2], records()[2:]
    for record in first:
        for name in [*ONCE, "model_file_bytes", "input_wait_share"]:
            assert record.metrics[name] is not None, name
        assert 0 <= record.metrics["input_wait_share"] < 1
        assert record.metrics["latency_p50_ms"] <= (record.metrics["latency_p99_ms"] or math.inf)
        sizes = [each["batch_size"] for each in record.metrics["inference_batches"]]
        assert sizes == sorted(sizes)
        assert record.metrics["inference_batch_size"] in sizes
        assert sum(each["best"] for each in record.metrics["inference_batches"]) == 1
        assert record.phases["profile"] > 0
        folder = tmp_path / "results" / "trials" / record.trial_id / record.attempt
        layers = list(csv.DictReader((folder / "layers.csv").open()))
        assert sum(int(layer["macs"]) for layer in layers) == record.metrics["macs"]
    for record in second:
        assert "latency_p50_ms" not in record.metrics
        assert "profile" not in record.phases
        assert record.metrics["macs"] == first[0].metrics["macs"] or record.metrics["macs"] == first[1].metrics["macs"]
    table = pd.read_csv(tmp_path / "results" / "leaderboard.csv")
    assert table[ONCE].notna().all(axis=None)
    assert table["utilisation"].between(0, 1, inclusive="neither").all()
    run("--measure", "full", "--seeds", 3, arch="tiny_net tiny_net:units=4")
    assert all("latency_p50_ms" not in record.metrics for record in records()[4:])  # an earlier command's count too
    run("--measure", "full", "--force")
    assert "latency_p50_ms" in records()[-1].metrics  # it replaces the attempt that had them


def test_basic_leaves_them_blank(run, records, tmp_path):
    code, _, err = run("--measure", "basic")
    assert code == 0, err
    (record,) = records()
    assert not set(ONCE) & set(record.metrics)
    assert record.metrics["macs"] == 8 * 8 * 8 + 8 * 4
    assert pd.read_csv(tmp_path / "results" / "leaderboard.csv")[ONCE].isna().all(axis=None)


def test_too_few_steps_for_a_speed_are_said_with_how_many_are_needed(run, records):
    code, out, err = run()
    assert code == 0, err
    (record,) = records()
    assert record.metrics["train_settled"] is False
    assert record.metrics["train_images_per_second_low"] is None
    (note,) = [each for each in record.metrics["timing_notes"] if "steps" in each]
    assert "needs about" in note
    assert f"note: {note}" in out.replace("\n", " ").replace("  ", " ")


def test_many_steps_have_an_interval(run, records):
    code, _, err = run(epochs=300)
    assert code == 0, err
    (record,) = records()
    speeds = [record.metrics[f"train_images_per_second{end}"] for end in ("_low", "", "_high")]
    assert speeds == sorted(speeds)
    assert record.metrics["train_windows"] >= 30
    assert sum(record.phases[name] for name in ("first_step", "warmup", "training")) < record.seconds


def test_a_model_that_cannot_be_counted_is_unknown_and_not_free(run, records, plugins):
    (plugins / "architectures" / "opaque.py").write_text(SLOW_DOUBT)
    code, out, err = run("--measure", "full", arch="opaque")
    assert code == 0, err
    (record,) = records()
    assert record.status == Status.OK
    assert (record.metrics["macs"], record.metrics["flops"]) == (None, None)
    assert "note: MACs are unknown: Opaque cannot be counted." in out


def test_one_seed_has_a_value_without_an_interval(run, tmp_path):
    run()
    (row,) = pd.read_csv(tmp_path / "results" / "leaderboard.csv").to_dict("records")
    assert row["test_accuracy_mean"] > 0
    assert pd.isna(row["test_accuracy_ci95_low"])
