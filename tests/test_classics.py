"""The ladder from the introductory text's CNN, and the classics: what holds of these beyond the contract of all."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from bench.layers.classic import ceil_max_pool
from bench.measurement.cost import parameter_counts
from bench.plugins import discover, load_module

PLUGINS = discover("architecture").plugins
RUNGS = ["baseline_cnn_deep", "baseline_cnn_dropout", "baseline_cnn_residual", "baseline_cnn_wide"]


def build(name, shape=(8, 8, 3), classes=10, **parameters):
    return load_module(PLUGINS[name]).build(shape, classes, **parameters)


def weighted(model):
    return [layer for layer in model.layers if layer.weights]


def logits(model, images, *, training=False):
    return keras.ops.convert_to_numpy(model(images, training=training))


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((4, 8, 8, 3), np.float32)


@pytest.mark.parametrize(
    ("name", "parameters"), [("baseline_cnn_wide", {"width": 1}), ("baseline_cnn_dropout", {})], ids=str
)
def test_a_rung_without_its_idea_is_the_baseline(name, parameters, images):
    baseline, rung = build("baseline_cnn"), build(name, **parameters)
    rung.set_weights(baseline.get_weights())
    np.testing.assert_allclose(logits(rung, images), logits(baseline, images), rtol=1e-5, atol=1e-6)


def test_dropout_acts_in_training_alone(images):
    model = build("baseline_cnn_dropout")
    assert np.array_equal(logits(model, images), logits(model, images))
    assert not np.allclose(logits(model, images, training=True), logits(model, images, training=True))


def test_a_residual_block_of_zeros_changes_nothing_and_without_its_shortcut_everything(images):
    baseline = build("baseline_cnn")
    residual, deep = build("baseline_cnn_residual"), build("baseline_cnn_deep")
    for model in (residual, deep):
        first, *block, second, third, fourth, hidden, last = weighted(model)
        for mine, theirs in zip((first, second, hidden, last), weighted(baseline), strict=True):
            mine.set_weights(theirs.get_weights())
        for layer in (*block, third, fourth):
            layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    np.testing.assert_allclose(logits(residual, images), logits(baseline, images), rtol=1e-5, atol=1e-6)
    assert np.ptp(logits(deep, images), axis=0).max() == 0  # the same for each image: nothing gets through


@pytest.mark.parametrize("name", RUNGS)
def test_the_rungs_have_the_baselines_initialisation(name):
    for layer in weighted(build(name)):
        kernel, bias = layer.get_weights()
        bound = 1 / np.sqrt(np.prod(kernel.shape[:-1]))
        assert 0.95 * bound < np.abs(kernel).max() <= bound
        assert np.abs(bias).max() <= bound
        assert np.any(bias)


def test_averaging_positions_needs_as_many_parameters_for_each_size():
    counts = {parameter_counts(build("baseline_cnn_gap", (side, side, 3)))[1] for side in (8, 24, 32)}
    assert counts == {20_042}


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_vggs_depth_counts_the_layers_with_kernels(depth):
    model = build("vgg", (32, 32, 3), depth=depth, width=8)
    kernels = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)]
    assert len(kernels) == depth - 2  # one dense layer for the paper's three


def test_vgg_has_the_moving_statistics_of_its_reference():
    model = build("vgg", (32, 32, 3))
    assert model.count_params() - parameter_counts(model)[1] == 8_448


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("vgg", {"depth": 12}, "depth must be one of 11, 13, 16, 19, got 12"),
        ("squeezenet", {"stem": "large"}, "stem must be 'cifar' .* or 'imagenet', got 'large'"),
        ("lenet5", {"padding": -1}, "padding must be at least 0"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense_are_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        build(name, (32, 32, 3), **parameters)


@pytest.mark.parametrize(("side", "pooled"), [(33, 16), (32, 16), (7, 3), (6, 3), (2, 1), (1, 1)])
def test_pooling_rounds_sizes_up_as_caffe_does(side, pooled):
    images = np.random.default_rng(0).standard_normal((1, side, side, 1), np.float32)
    starts = range(0, 2 * pooled, 2)
    expected = [[images[0, row : row + 3, column : column + 3, 0].max() for column in starts] for row in starts]
    assert np.array_equal(keras.ops.convert_to_numpy(ceil_max_pool(images))[0, ..., 0], np.array(expected))
