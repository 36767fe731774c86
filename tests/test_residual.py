"""Residual and dense networks, and airbench94's whitening: what the contract of all architectures does not say."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from fnmatch import fnmatch

import keras
import numpy as np
import pytest

from bench.layers.residual import IdentityStart, gelu
from bench.measurement.cost import parameter_counts
from bench.plugins import discover, load_module
from bench.recipes import make_recipe

PLUGINS = discover("architecture").plugins
RESIDUAL = ["resnet_cifar", "resnet", "preact_resnet", "wide_resnet", "resnext", "densenet", "resnet9"]


@pytest.fixture(autouse=True)
def clean():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


def build(name, shape=(32, 32, 3), classes=10, **parameters):
    return load_module(PLUGINS[name]).build(shape, classes, **parameters)


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("resnet", {"depth": 50}, "depth must be one of 18, 34, got 50"),
        ("preact_resnet", {"depth": 111}, "depth must be 9n.2 .* got 111"),
        ("preact_resnet", {"depth": 2}, "depth must be 9n.2 .* got 2"),
        ("wide_resnet", {"depth": 20}, "depth must be 6n.4 .* got 20"),
        ("wide_resnet", {"dropout": 1.0}, "dropout must be from 0 to below 1, got 1.0"),
        ("resnext", {"depth": 51}, "depth must be 9n.2 .* got 51"),
        ("resnext", {"cardinality": 0}, "cardinality and width must be at least 1, got 0 and 64"),
        ("densenet", {"depth": 99}, "depth must be 6n.4 .* got 99"),
        ("densenet", {"growth": 0}, "growth must be at least 1, got 0"),
    ],
)
def test_parameters_that_no_such_network_has_are_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        build(name, **parameters)


@pytest.mark.parametrize("name", RESIDUAL)
def test_odd_sizes_and_the_smallest_one_are_taken(name):
    smallest = PLUGINS[name].info.min_size
    for side in (smallest, 33):
        model = build(name, (side, side + 2, 1), 2, **PLUGINS[name].info.quick)
        assert model(np.zeros((1, side, side + 2, 1), np.float32)).shape == (1, 2)


@pytest.mark.parametrize("name", [*RESIDUAL, "airbench94"])
def test_a_paper_says_how_to_train(name):
    recipe = make_recipe("own", PLUGINS[name].info.recipe, name)
    assert recipe.optimizer == "sgd"
    assert recipe.l2 > 0


@pytest.mark.parametrize("name", ["resnet_cifar", "preact_resnet"])
def test_the_first_resnets_train_for_64000_steps(name):
    assert make_recipe("own", PLUGINS[name].info.recipe, name).total_steps(50_000) == 64_000


def test_groups_of_resnext_are_its_cardinality():
    model = build("resnext", depth=11, cardinality=4, width=8)
    grouped = [layer for layer in layers_of(model, keras.layers.Conv2D) if layer.groups > 1]
    assert [(layer.groups, layer.filters) for layer in grouped] == [(4, 32), (4, 64), (4, 128)]


def test_dropout_of_a_wide_resnet_stands_between_the_convolutions_of_each_unit():
    assert len(layers_of(build("wide_resnet", depth=10, width=1, dropout=0.3), keras.layers.Dropout)) == 3
    assert not layers_of(build("wide_resnet", depth=10, width=1), keras.layers.Dropout)


def test_a_dense_block_adds_channels_and_a_transition_halves_them():
    model = build("densenet", depth=10, growth=8)
    joined = [layer.output.shape[1:] for layer in layers_of(model, keras.layers.Concatenate)]
    assert joined == [(32, 32, 24), (16, 16, 20), (8, 8, 18)]


def test_a_preactivation_unit_leaves_what_it_adds_to_untouched():
    model = build("preact_resnet", depth=20)
    sums = layers_of(model, keras.layers.Add)
    assert len(sums) == 6
    for first, second in zip(sums[::2], sums[1::2], strict=True):
        assert any(tensor is first.output for tensor in second.input)


def test_convolutions_start_with_the_variance_of_the_fan_out():
    for layer in layers_of(build("wide_resnet", depth=10, width=4), keras.layers.Conv2D):
        values = keras.ops.convert_to_numpy(layer.kernel)
        size, _, _, filters = values.shape
        assert np.std(values) == pytest.approx(np.sqrt(2 / (size**2 * filters)), rel=0.1)


def test_a_convolution_that_starts_as_the_identity_passes_its_input_on():
    layer = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, kernel_initializer=IdentityStart())
    images = np.random.default_rng(0).normal(size=(2, 5, 5, 4)).astype(np.float32)
    outputs = keras.ops.convert_to_numpy(layer(images))
    np.testing.assert_allclose(outputs[..., :4], images, atol=1e-6)
    others = keras.ops.convert_to_numpy(layer.kernel)[..., 4:]
    assert np.abs(others).max() <= 1 / 6  # PyTorch's bound, 1 / sqrt(fan-in of 36)
    assert np.std(others) == pytest.approx(1 / 6 / np.sqrt(3), rel=0.2)


def test_fewer_filters_than_channels_all_start_as_the_identity():
    kernel = keras.ops.convert_to_numpy(IdentityStart(seed=0)((1, 1, 4, 2)))
    np.testing.assert_array_equal(kernel[0, 0], np.eye(4, 2))


def test_the_identity_start_is_restored_with_its_seed():
    start = IdentityStart(seed=7)
    again = keras.initializers.deserialize(keras.initializers.serialize(start))
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(each((3, 3, 4, 8))) for each in (start, again)))


def test_gelu_is_the_exact_one():
    values = np.linspace(-6, 6, 101, dtype=np.float32)
    np.testing.assert_allclose(gelu(keras.ops.array(values)), keras.activations.gelu(values), atol=1e-6)


def correlated_images(channels, number=40, side=12):
    random = np.random.default_rng(0)
    noise = random.normal(size=(number, side, side, channels))
    smooth = noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2) + 0.3
    return (smooth @ random.normal(size=(channels, channels))).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_adapted_layer_whitens_patches_of_the_images(channels):
    model, images = build("airbench94", (12, 12, channels)), correlated_images(channels)
    load_module(PLUGINS["airbench94"]).adapt(model, images)
    responses = keras.ops.convert_to_numpy(model.get_layer("whitening")(images)).reshape(-1, 8 * channels)
    half = 4 * channels
    np.testing.assert_allclose(responses[:, half:], -responses[:, :half], atol=1e-4)
    covariance = responses[:, :half].T @ responses[:, :half] / len(responses)
    np.testing.assert_allclose(covariance, np.eye(half), atol=0.02)  # an eigenvalue of v becomes v / (v + 5e-4)


def test_the_strongest_direction_of_the_patches_comes_first():
    model, images = build("airbench94"), correlated_images(3, side=32)
    load_module(PLUGINS["airbench94"]).adapt(model, images)
    kernel = keras.ops.convert_to_numpy(model.get_layer("whitening").kernel).reshape(12, 24)[:, :12]
    norms = np.linalg.norm(kernel, axis=0)
    assert (np.diff(norms) > 0).all()  # a filter's norm is one over the root of its eigenvalue


def test_constant_images_can_be_adapted_to():
    model = build("airbench94")
    load_module(PLUGINS["airbench94"]).adapt(model, np.ones((3, 32, 32, 3), np.float32))
    assert np.isfinite(keras.ops.convert_to_numpy(model.get_layer("whitening").kernel)).all()


def test_of_the_whitening_layer_the_bias_alone_is_trained():
    model = build("airbench94")
    assert parameter_counts(model) == (1_971_640, 1_971_352)
    trained = [variable.path for variable in model.trainable_variables]
    assert "whitening/bias" in trained
    assert "whitening/kernel" not in trained


def test_groups_of_airbench94_name_its_weights():
    paths = [variable.path for variable in build("airbench94").trainable_variables]
    matched = [sum(fnmatch(path, group["match"]) for path in paths) for group in groups_of("airbench94")]
    assert matched == [6, 1]
    assert not any(path.endswith("gamma") for path in paths)


def groups_of(name):
    return PLUGINS[name].info.recipe["groups"]


def test_the_recipe_of_airbench94_is_the_published_one_of_a_mean_loss():
    recipe = make_recipe("own", PLUGINS["airbench94"].info.recipe, "airbench94")
    published = 1024 * (1 + 1 / (1 - 0.85))
    rate, decay = 11.5 / published, 0.0153 * 1024 / published
    assert recipe.learning_rate == pytest.approx(rate * 1024)
    assert recipe.l2 == pytest.approx(decay / rate / 1024)
    assert recipe.average_decay == pytest.approx(0.95**5)
    assert recipe.total_steps(50_000) == 476  # of 48 an epoch, the remainder left out
