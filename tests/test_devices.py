"""Several devices for one trial, on the CPU's virtual ones: the training is that of one device."""

import csv

import numpy as np
import pytest

from bench.archive import read_predictions
from bench.store import Store


def history(results, record):
    path = results / "trials" / record.trial_id / record.attempt / "history.csv"
    with path.open() as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


@pytest.fixture
def by_devices(run, tmp_path):
    """Run trials with these numbers of devices; returns the records, by devices, each with its history and logits."""

    def call(*arguments, devices="1 2", backend="tensorflow", **options):
        if backend != "tensorflow":
            pytest.importorskip(backend)
        code, _, err = run("--devices", *devices.split(), "--backend", backend, *arguments, **options)
        assert code == 0, err
        results = tmp_path / "results"
        return {
            each.spec.devices: (
                each,
                history(results, each),
                read_predictions(results / "trials" / each.trial_id / each.attempt).logits,
            )
            for each in Store(results).records()
        }

    return call


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_learn_as_one_does(by_devices, backend):
    """The loss curve of the baseline at the same global batch, without augmentation."""
    plain = ["--set", "crop_padding=0.0", "flip=false"]
    ended = by_devices(*plain, arch="baseline_cnn", dataset="digits", epochs=3, batch=64, backend=backend)
    (one, losses, logits), (two, losses_of_two, logits_of_two) = ended[1], ended[2]
    assert two.resolved["devices"] == 2
    assert two.spec.recipe == one.spec.recipe  # the batch is that of all devices together
    np.testing.assert_allclose(losses_of_two, losses, rtol=2e-3)
    assert len(losses) == 3
    assert (logits_of_two.argmax(axis=1) == logits.argmax(axis=1)).mean() > 0.97
    assert one.trial_id != two.trial_id


def test_jax_mixes_the_images_of_a_batch_on_two_devices(by_devices):
    """XLA brings an image to the device that needs it."""
    ended = by_devices("--set", "crop_padding=0.0", "flip=false", "mixup=0.3", "cutmix=1.0", epochs=2, backend="jax")
    np.testing.assert_allclose(ended[2][1], ended[1][1], rtol=1e-3)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_dropout_batch_norm_and_clipping_work_on_two_devices(by_devices, plugins, backend):
    (plugins / "architectures" / "all_of_it.py").write_text(ALL_OF_IT)
    (record, losses, _) = by_devices(arch="all_of_it", backend=backend, devices="2")[2]
    assert record.spec.recipe.clip_norm == 1.0
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("average", ["ema", "lookahead"])
def test_two_devices_average_weights_as_one_does(by_devices, average, backend):
    """Dense layers alone, so that there are no statistics of a device's share; and weights that are frozen at first."""
    recipe = [f"average={average}", "average_decay=0.8", "average_every=2", "groups=[{match='head',from_epoch=1}]"]
    ended = by_devices("--set", "crop_padding=0.0", "flip=false", *recipe, epochs=3, backend=backend)
    (_, losses, logits), (_, losses_of_two, logits_of_two) = ended[1], ended[2]
    np.testing.assert_allclose(losses_of_two, losses, rtol=1e-3)
    np.testing.assert_allclose(logits_of_two, logits, rtol=1e-3, atol=1e-3)


def test_speed_over_devices_has_a_table_of_its_own(by_devices, tmp_path):
    by_devices()
    table = (tmp_path / "results" / "scaling.csv").read_text()
    assert "tiny_net" in table
    assert "Scaling over devices" in (tmp_path / "results" / "leaderboard.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "3"], "a batch of 16 cannot be shared out evenly over 3 devices"),
        (["--devices", "2", "--set", "drop_remainder=false"], "the last batch of an epoch"),
        (
            ["--devices", "2", "--set", "drop_remainder=false", "--train-fraction", "0.5"],
            "the last batch of a part of the images cannot be shared out: set drop_remainder=true",
        ),
        (["--devices", "2", "--set", "mixup=0.2"], "mixup and cutmix mix images of a whole batch"),
        (
            ["--devices", "2", "--set", "mixup=0.2", "--backend", "jax", "tensorflow"],
            "on TensorFlow they need --devices 1",
        ),
        (["--devices", "2", "--set", "cutmix=1.0"], "on TensorFlow they need --devices 1"),
        (["--devices", "0"], "expected a whole number of at least 1"),
        (["--devices", "2", "--backend", "torch"], "PyTorch trains on one device here"),
    ],
)
def test_what_cannot_be_shared_out_is_said(run, records, arguments, message):
    for backend in {"torch", "jax"}.intersection(arguments):
        pytest.importorskip(backend)
    code, _, err = run(*arguments)
    assert (code, records()) == (2, [])
    assert message in err
    assert "Traceback" not in err


ALL_OF_IT = '''"""Dropout and batch normalisation."""
import keras
from bench.api import Architecture

INFO = Architecture()


def build(input_shape, num_classes):
    layers = [keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    layers += [keras.layers.Dropout(0.2), keras.layers.Flatten(), keras.layers.Dense(num_classes)]
    return keras.Sequential([keras.Input(input_shape), *layers])
'''
