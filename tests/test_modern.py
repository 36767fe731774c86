"""Networks of patches and tokens: what holds for them beyond the contract of all architectures."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from bench.layers.attention import (
    ClassToken,
    LayerScale,
    PositionEmbedding,
    patch_embedding,
    rising_rates,
    self_attention,
)
from bench.layers.basic import stochastic_depth
from bench.measurement.cost import count_cost
from bench.plugins import discover, load_module

PLUGINS = discover("architecture").plugins


@pytest.fixture(autouse=True, scope="module")
def forgotten():
    yield
    keras.backend.clear_session()


def build(name, shape=(32, 32, 3), classes=10, **parameters):
    keras.utils.set_random_seed(0)
    plugin = PLUGINS[name]
    return load_module(plugin).build(shape, classes, **{**plugin.parameters, **plugin.info.quick, **parameters})


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def first(model, kind):
    return next(layer for layer in model.layers if type(layer).__name__ == kind)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "message"),
    [
        (
            "vit",
            (30, 30, 3),
            {},
            "images of 30x30 cannot be cut into patches of 4x4: .* fit: 1, 2, 3, 5, 6, 10, 15, 30",
        ),
        ("mlp_mixer", (32, 30, 3), {}, "images of 32x30 .* fit: 1, 2$"),
        ("swin", (33, 33, 3), {}, "images of 33x33 .* multiples of 2"),
        ("convnext", (8, 8, 3), {}, "at least 16 pixels a side with patch=2 and 4 stages, got 8x8"),
        ("vit", (32, 32, 3), {"patch": 0}, "patch must be at least 1, got 0"),
        ("vit", (32, 32, 3), {"heads": 7}, "heads must divide the 192 features, got 7"),
        ("vit", (32, 32, 3), {"heads": 0}, "heads must be at least 1, got 0"),
        ("cct", (32, 32, 3), {"drop_path": 1.0}, "drop_path must be from 0 to below 1, got 1.0"),
        ("convnext", (32, 32, 3), {"depths": ()}, "depths must be the blocks of each stage"),
        ("swin", (32, 32, 3), {"depths": (2, 0)}, r"depths must be .* got \(2, 0\)"),
        ("swin", (32, 32, 3), {"dim": 48}, "dim must be a multiple of 32, .* got 48"),
        ("mlp_mixer", (32, 32, 3), {"dim": 9}, "dim must be even, .* got 9"),
        ("convmixer", (32, 32, 3), {"kernel_size": 0}, "kernel_size must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(name, shape, parameters, message):
    with pytest.raises(ValueError, match=message):
        build(name, shape, **parameters)


def test_attention_is_the_papers():
    """Vaswani et al. 2017, equation 1, in NumPy; with dropout, the path that computes it step by step."""
    x = images(2, 5, 8)
    inputs = keras.Input((5, 8))
    keras.utils.set_random_seed(0)
    fused = keras.Model(inputs, self_attention(inputs, 2))
    stepwise = keras.Model(inputs, self_attention(inputs, 2, dropout=0.5))
    fused.set_weights([images(*weight.shape) for weight in fused.weights])
    trained = [weight for weight in stepwise.weights if "seed" not in weight.path]
    for weight, value in zip(trained, fused.get_weights(), strict=True):
        weight.assign(value)
    qkv, qkv_bias, projection, bias = fused.get_weights()
    query, key, value = (x @ qkv + qkv_bias).reshape(2, 5, 3, 2, 4).transpose(2, 0, 3, 1, 4)
    scores = np.exp(query @ key.swapaxes(-1, -2) / 2)
    attended = scores / scores.sum(-1, keepdims=True) @ value
    expected = attended.transpose(0, 2, 1, 3).reshape(2, 5, 8) @ projection + bias
    np.testing.assert_allclose(numpy(fused(x)), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numpy(stepwise(x)), expected, rtol=1e-4, atol=1e-5)


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2, 2, 3))
    model = keras.Model(inputs, stochastic_depth(inputs, 0.25))
    kept = numpy(model(np.ones((4000, 2, 2, 3), np.float32), training=True))
    np.testing.assert_allclose(np.unique(kept), [0, 4 / 3], rtol=1e-6)
    assert (kept == kept[:, :1, :1, :1]).all()
    assert kept.mean() == pytest.approx(1, abs=0.05)
    assert (numpy(model(np.ones((9, 2, 2, 3), np.float32), training=False)) == 1).all()


def test_stochastic_depth_rises_from_nothing_and_its_state_is_a_variable():
    assert rising_rates(0.2, 3) == pytest.approx([0, 0.1, 0.2])
    model = build("vit", depth=3, drop_path=0.2)
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in dropouts] == pytest.approx([0.1, 0.1, 0.2, 0.2])
    assert all("seed_generator" in layer.variables[0].path for layer in dropouts)


def test_tokens_and_positions_are_not_decayed():
    """They are matrices, yet biases by name; DeiT and Swin leave them alone."""
    matrices = [weight for weight in build("swin").trainable_variables if "bias" in weight.name and weight.ndim == 2]
    assert len(matrices) == 1 + 4  # the positions, and a table a block


def test_a_token_is_put_before_the_others():
    token, positions = ClassToken(), PositionEmbedding(deviation=1.0)
    x = images(2, 3, 4)
    longer = numpy(token(x))
    assert longer.shape == token.compute_output_shape(x.shape) == (2, 4, 4)
    np.testing.assert_array_equal(longer[:, 1:], x)
    np.testing.assert_allclose(longer[:, 0], np.tile(numpy(token.bias), (2, 1)))
    np.testing.assert_allclose(numpy(positions(x)) - x, np.tile(numpy(positions.bias), (2, 1, 1)), atol=1e-6)


def test_layer_scale_starts_where_it_is_told():
    x = images(2, 3, 4)
    np.testing.assert_allclose(numpy(LayerScale(1e-6)(x)), 1e-6 * x, rtol=1e-6)
    assert LayerScale.from_config(LayerScale(0.1).get_config()).initial == 0.1


def test_patches_are_cut_in_rows():
    inputs = keras.Input((4, 6, 1))
    model = keras.Model(inputs, patch_embedding(inputs, 1, 2))
    model.set_weights([np.ones((2, 2, 1, 1)), np.zeros(1)])
    x = images(1, 4, 6, 1)
    np.testing.assert_allclose(numpy(model(x))[0, 1, 2, 0], x[0, 2:, 4:].sum(), rtol=1e-5)


def pixels_reached(model, side, row, column):
    """Return which cells of a map change where one cell of the input does, side×side of truth values."""
    x = images(1, side, side, 32)
    changed = x.copy()
    changed[0, row, column] += 1
    return (np.abs(numpy(model(changed)) - numpy(model(x)))[0] > 1e-6).any(-1)


@pytest.mark.parametrize("side", [8, 6])  # a multiple of the window, and one that is padded
def test_shifted_windows_see_their_neighbours_but_not_round_the_edge(side):
    module = load_module(PLUGINS["swin"])
    inputs = keras.Input((side, side, 32))
    keras.utils.set_random_seed(0)
    still = keras.Model(inputs, module._window_attention(inputs, 4, 0))
    shifted = keras.Model(inputs, module._window_attention(inputs, 4, 2))
    seen = np.zeros((side, side), bool)
    seen[:4, :4] = True
    np.testing.assert_array_equal(pixels_reached(still, side, 3, 3), seen)
    np.testing.assert_array_equal(pixels_reached(shifted, side, 3, 3), np.roll(seen, (2, 2), (0, 1)))
    seen[:] = False
    seen[:2, :2] = True
    np.testing.assert_array_equal(pixels_reached(shifted, side, 0, 0), seen)


def test_swin_merges_two_by_two_pixels_column_by_column():
    module = load_module(PLUGINS["swin"])
    inputs = keras.Input((3, 2, 1))
    model = keras.Model(inputs, module._merge(inputs))
    model.set_weights([np.ones(4), np.zeros(4), np.eye(4)[:, :2]])
    x = np.float32([[1, 2], [3, 4], [5, 6]]).reshape(1, 3, 2, 1)
    first, last = np.float32([1, 3, 2, 4]), np.float32([5, 0, 6, 0])  # an odd map is padded with zeros
    expected = [((each - each.mean()) / each.std())[:2] for each in (first, last)]
    np.testing.assert_allclose(numpy(model(x))[0, :, 0], expected, rtol=1e-4)


def test_mixer_tells_patches_apart_and_a_pooled_transformer_needs_positions_for_it():
    x = images(1, 32, 32, 3)
    swapped = np.concatenate([x[:, 16:], x[:, :16]], axis=1)
    mixer, swin = build("mlp_mixer"), build("swin", window=16, depths=(1,), positions=False)
    assert np.abs(numpy(mixer(x)) - numpy(mixer(swapped))).max() > 1e-4
    first(swin, "WindowBias").set_weights([np.zeros((31**2, 1))])
    np.testing.assert_allclose(numpy(swin(x)), numpy(swin(swapped)), atol=1e-5)


def test_both_products_of_attention_are_counted():
    """By hand: 64 patches and a class token of 192 features, two layers with MLPs of twice the width."""
    tokens, dim = 65, 192
    layer = tokens * dim * (3 * dim + dim + 2 * 2 * dim) + 2 * tokens**2 * dim
    assert count_cost(build("vit"), (32, 32, 3)).macs == 64 * 48 * dim + 2 * layer + dim * 10
    cct = count_cost(build("cct", dim=32, depth=1, heads=1), (32, 32, 3))
    layer = 256 * 32 * (3 * 32 + 32 + 2 * 2 * 32) + 2 * 256**2 * 32
    assert cct.macs == 1024 * 27 * 32 + layer + 2 * 256 * 32 + 32 * 10


def test_the_deviations_of_the_weights_are_the_papers():
    convnext = build("convnext", width=64)
    dense = [layer for layer in convnext.layers if isinstance(layer, keras.layers.Dense)]
    assert [np.std(layer.get_weights()[0]) for layer in dense] == pytest.approx([0.02] * len(dense), rel=0.1)
    depthwise = first(build("convmixer"), "DepthwiseConv2D").get_weights()[0]
    assert 0.19 < np.abs(depthwise).max() <= 0.2  # PyTorch's 1/√25
    positions = first(build("cct"), "PositionEmbedding").get_weights()[0]
    assert np.std(positions) == pytest.approx(0.2, rel=0.05)
