"""Every architecture there is, held against the contract: a new file is tested by existing."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from bench.contract.architectures import check_architecture
from bench.measurement.cost import parameter_counts
from bench.plugins import PluginChoice, discover, load_module
from bench.recipes import resolve_recipe
from tests.stepping import make_steps

PLUGINS = discover("architecture").plugins


@pytest.fixture
def policy():
    """Set a dtype policy until the test has ended."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def build(name, shape=(32, 32, 3), classes=10, **parameters):
    return load_module(PLUGINS[name]).build(shape, classes, **{**PLUGINS[name].parameters, **parameters})


@pytest.mark.parametrize("name", sorted(PLUGINS))
def test_it_keeps_the_contract(name):
    results = check_architecture(PluginChoice(PLUGINS[name], PLUGINS[name].parameters))
    assert [f"{result.check}: {finding}" for result in results for finding in result.findings] == []


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_the_runner_gets_float32_logits_under_mixed_precision(precision, policy):
    policy(precision)
    steps, _, _ = make_steps(build("baseline_cnn_bn"), resolve_recipe("standard", {}), precision=precision)
    logits = steps.predict(np.zeros((2, 32, 32, 3), np.uint8))
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_the_baseline_has_pytorchs_initialisation():
    model = build("baseline_cnn", (24, 24, 3))
    for layer in model.layers:
        if not layer.weights:
            continue
        kernel, bias = layer.get_weights()
        fan_in = np.prod(kernel.shape[:-1])
        bound = 1 / np.sqrt(fan_in)
        assert np.abs(kernel).max() <= bound
        assert np.abs(bias).max() <= bound
        assert np.std(kernel) == pytest.approx(bound / np.sqrt(3), rel=0.05)  # of a uniform distribution
        assert np.any(bias)


def test_a_depth_that_no_resnet_has_is_refused():
    with pytest.raises(ValueError, match="depth must be 6n"):
        build("resnet_cifar", depth=21)


def test_resnet_keeps_its_moving_statistics_out_of_its_parameters():
    model = build("resnet_cifar")
    assert parameter_counts(model) == (269_722, 269_722)
    assert model.count_params() - 269_722 == 1_376
