"""Every architecture there is: a new file is tested by existing."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from bench.data.pipeline import Block
from bench.literals import split_reference
from bench.measurement.cost import parameter_counts
from bench.plugins import discover, load_module
from bench.recipes import resolve_recipe
from tests.stepping import make_steps

EVERY = discover("architecture").plugins
PLUGINS = {name: plugin for name, plugin in EVERY.items() if not plugin.error}
NAMES = sorted(PLUGINS)
PUBLISHED = [(name, key, count) for name in NAMES for key, count in PLUGINS[name].info.trainable_params.items()]
SHAPES = [(32, 32, 3), (28, 28, 1), (24, 24, 3), (8, 8, 1)]


@pytest.fixture(autouse=True)
def float32():
    yield
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session()


def shape_for(name):
    side = max(32, PLUGINS[name].info.min_size)
    return side, side, 3


def build(name, shape=None, classes=10, seed=0, **parameters):
    shape = shape or shape_for(name)
    keras.utils.set_random_seed(seed)
    return load_module(PLUGINS[name]).build(shape, classes, **{**PLUGINS[name].parameters, **parameters})


@pytest.mark.parametrize("name", sorted(EVERY))
def test_the_plugin_is_whole(name):
    plugin = EVERY[name]
    assert plugin.error == ""
    assert plugin.summary.endswith((".", ")."))


@pytest.mark.parametrize(("name", "key", "count"), PUBLISHED, ids=str)
def test_the_parameter_count_is_exact(name, key, count):
    reference, *rest = key.split(":", 1)
    size, classes = reference.split("/")
    _, parameters = split_reference(f"{name}:{rest[0]}" if rest else name)
    model = build(name, tuple(map(int, size.split("x"))), int(classes), **parameters)
    assert parameter_counts(model)[1] == count


@pytest.mark.parametrize("classes", [2, 100])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_output_has_a_logit_a_class(name, shape, classes):
    if min(shape[:2]) < PLUGINS[name].info.min_size:
        pytest.skip(f"{name} needs images of {PLUGINS[name].info.min_size} pixels")
    model = build(name, shape, classes)
    logits = keras.ops.convert_to_numpy(model(np.random.default_rng(0).random((3, *shape), np.float32)))
    assert logits.shape == (3, classes)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", NAMES)
def test_the_runner_gets_float32_logits_under_mixed_precision(name, precision):
    keras.config.set_dtype_policy(precision)
    model = build(name)
    steps, _, _ = make_steps(model, resolve_recipe("standard", {}), precision=precision)
    logits = steps.predict(np.zeros((2, *shape_for(name)), np.uint8))
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_trainable_weight(name):
    model = build(name)
    recipe = resolve_recipe("standard", {"optimizer": "sgd", "weight_decay": 0.0, "warmup": 0.0, "learning_rate": 1.0})
    steps, _, _ = make_steps(model, recipe)
    before = [np.array(variable) for variable in map(keras.ops.convert_to_numpy, model.trainable_variables)]
    images = np.random.default_rng(0).integers(0, 256, (1, 8, *shape_for(name)), np.uint8)
    steps.train(steps.place(Block(images, np.arange(8, dtype=np.int32)[None]))).result()
    steps.finish()
    unreached = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(variable), old)
    ]
    assert unreached == []


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_weights(name):
    first, again, other = build(name, seed=1), build(name, seed=1), build(name, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first.get_weights(), other.get_weights(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_gives_the_same_logits(name, tmp_path):
    model = build(name)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((2, *shape_for(name)), np.float32)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    logits = (keras.ops.convert_to_numpy(each(images)) for each in (loaded, model))
    np.testing.assert_allclose(*logits, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps_on_a_tiny_set_lower_the_loss(name):
    model = build(name)
    recipe = resolve_recipe("standard", {"schedule": "constant", "warmup": 0.0, "learning_rate": 1e-3})
    steps, _, _ = make_steps(model, recipe)
    random = np.random.default_rng(0)
    images = np.tile(random.integers(0, 256, (1, 16, *shape_for(name)), np.uint8), (20, 1, 1, 1, 1))
    labels = np.tile(np.arange(16, dtype=np.int32) % 10, (20, 1))
    losses, _ = steps.train(steps.place(Block(images, labels))).result()
    assert losses[-1] < 0.95 * losses[0]


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
