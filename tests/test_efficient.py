"""Networks made for little arithmetic: what their blocks do, how they fit small images, and what they refuse."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from keras import layers

from bench.layers.mobile import (
    ConvStyle,
    Stage,
    channel_shuffle,
    early_strides,
    inverted_residual,
    make_divisible,
)
from bench.measurement.cost import count_cost, parameter_counts
from bench.plugins import discover, load_module

PLUGINS = discover("architecture").plugins
SMALLEST = {
    "mobilenet_v2": {"variant": "paper", "width": 0.25},
    "mobilenet_v3": {"width": 0.25},
    "shufflenet_v2": {"width": 0.5},
    "efficientnet": {"width": 0.25, "depth": 0.3},
    "efficientnet_v2": {"width": 0.25, "depth": 0.3},
    "regnet": {"variant": "X-200MF"},
    "ghostnet": {"width": 0.25},
    "mobileone": {"branches": 1, "blocks": (1, 1, 1, 1)},
}


@pytest.fixture(autouse=True)
def clear():
    yield
    keras.backend.clear_session()


def build(name, shape=(32, 32, 3), classes=10, **parameters):
    return load_module(PLUGINS[name]).build(shape, classes, **parameters)


def run(block, x):
    inputs = keras.Input(x.shape[1:])
    return keras.ops.convert_to_numpy(keras.Model(inputs, block(inputs))(x))


def last_map(model):
    pooling = next(layer for layer in reversed(model.layers) if isinstance(layer, layers.GlobalAveragePooling2D))
    return pooling.input.shape[1:3]


@pytest.mark.parametrize("name", sorted(SMALLEST))
def test_a_reduction_of_8_leaves_4x4_of_32x32_and_one_of_32_a_single_pixel(name):
    small, published = build(name, **SMALLEST[name]), build(name, reduction=32, **SMALLEST[name])
    assert (last_map(small), last_map(published)) == ((4, 4), (1, 1))
    more = {"mobileone": 2 * 48}.get(name, 0)  # a block without stride has its input as another branch
    assert parameter_counts(small)[1] == parameter_counts(published)[1] + more


@pytest.mark.parametrize("name", ["mobileone", "shufflenet_v2"])  # branches of different kernels meet
def test_odd_sizes_and_oblong_images_fit(name):
    model = build(name, (29, 17, 1), 3, **SMALLEST[name])
    assert last_map(model) == (4, 3)
    assert model(np.zeros((2, 29, 17, 1), np.float32)).shape == (2, 3)


# Multiply-adds in millions at 224x224x3 and 1,000 classes, as torchvision publishes them with its weights (MobileNetV3,
# ShuffleNetV2), and the papers of RegNet and GhostNet.
@pytest.mark.parametrize(
    ("name", "millions"), [("mobilenet_v3", 57), ("shufflenet_v2", 145), ("regnet", 200), ("ghostnet", 141)]
)
def test_the_published_multiply_adds_come_out_at_the_published_size(name, millions):
    model = build(name, (224, 224, 3), 1000, reduction=32)
    assert round(count_cost(model, (224, 224, 3)).macs / 1e6) == millions


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("mobilenet_v2", {"variant": "v1"}, "variant must be one of 'cifar', 'paper'; got 'v1'"),
        ("mobilenet_v2", {"width": 0.0}, "width must be above 0, got 0.0"),
        ("mobilenet_v3", {"variant": "medium"}, "variant must be one of 'small', 'large'; got 'medium'"),
        ("mobilenet_v3", {"reduction": 5}, "divided, must be one of 1, 2, 4, 8, 16, 32; got 5"),
        ("shufflenet_v2", {"width": 0.7}, r"width must be one of 0\.5, 1\.0, 1\.5, 2\.0; got 0\.7"),
        ("efficientnet", {"depth": -1.0}, r"depth must be above 0, got -1\.0"),
        ("efficientnet_v2", {"reduction": 64}, "must be one of 1, 2, 4, 8, 16, 32; got 64"),
        ("regnet", {"variant": "Z-200MF"}, "variant must be one of 'X-200MF', .*; got 'Z-200MF'"),
        ("ghostnet", {"width": -0.5}, r"width must be above 0, got -0\.5"),
        ("mobileone", {"variant": "S9"}, "variant must be one of 'S0', 'S1', 'S2', 'S3'; got 'S9'"),
        ("mobileone", {"blocks": (2, 8, 10)}, r"blocks must be 4 numbers of at least 1.*; got blocks=\(2, 8, 10\)"),
        ("mobileone", {"branches": -1}, "branches at least 0.*branches=-1"),
    ],
)
def test_wrong_parameters_are_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        build(name, **parameters)


def test_the_earliest_strides_become_1():
    assert early_strides((2, 1, 2, 2, 1, 2), 4) == [1, 1, 1, 2, 1, 2]
    assert early_strides((2, 1, 2, 2, 1, 2), 16) == [2, 1, 2, 2, 1, 2]
    assert early_strides((2, 2), 1) == [1, 1]


def test_channels_are_rounded_to_multiples_and_never_lose_more_than_a_tenth():
    assert [make_divisible(channels) for channels in (1, 16, 11, 12, 19.2)] == [8, 16, 16, 16, 24]
    assert make_divisible(19.2, least=0.0) == 16
    assert make_divisible(10, 4) == 12


def test_a_stage_is_scaled_in_width_and_depth():
    assert Stage(112, 3, expansion=6).scaled(1.1, 1.2) == Stage(120, 4, expansion=6)


def test_channel_shuffle_interleaves_the_groups():
    x = np.tile(np.arange(6, dtype=np.float32), (1, 2, 2, 1))
    assert run(lambda x: channel_shuffle(x, 2), x)[0, 0, 0].tolist() == [0, 3, 1, 4, 2, 5]


def test_squeeze_and_excitation_scales_each_channel_alike_at_all_places():
    x = np.random.default_rng(0).random((2, 4, 4, 8)).astype(np.float32)
    factors = run(lambda x: ConvStyle().squeeze_excite(x, 4), x) / x
    assert np.ptp(factors, axis=(1, 2)).max() < 1e-6
    assert (factors > 0).all()
    assert (factors < 1).all()
    assert np.ptp(factors[0, 0, 0]) > 1e-4


def test_an_inverted_residual_adds_its_input_only_where_shapes_agree():
    inputs = keras.Input((8, 8, 8))
    blocks = {
        "same": inverted_residual(ConvStyle(), inputs, 8, expanded=16),
        "wider": inverted_residual(ConvStyle(), inputs, 16, expanded=16),
        "strided": inverted_residual(ConvStyle(), inputs, 8, expanded=16, strides=2),
    }
    added = {
        key: any(isinstance(layer, layers.Add) for layer in keras.Model(inputs, block).layers)
        for key, block in blocks.items()
    }
    assert added == {"same": True, "wider": False, "strided": False}


@pytest.mark.parametrize(("even", "edge"), [(True, (0, 0)), (False, (1, 1))])
def test_strided_convolutions_pad_as_pytorch_or_as_tensorflow(even, edge):
    """On 4x4 images, PyTorch's first 3x3 window is centred on the first pixel, TensorFlow's on the second."""
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, ConvStyle(even_padding=even).depthwise(inputs, 3, 2, linear=True))
    centre = np.zeros((3, 3, 1, 1), np.float32)
    centre[1, 1] = 1
    next(layer for layer in model.layers if isinstance(layer, layers.DepthwiseConv2D)).set_weights([centre])
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    assert float(model(x)[0, 0, 0, 0]) == pytest.approx(x[0, *edge, 0], rel=1e-4)


@pytest.mark.parametrize(
    ("kernels", "variance"),
    [
        ("torch", 1 / (3 * 9 * 32)),  # uniform in ±1/√fan-in, with 32 channels in each of 2 groups
        ("fan_out", 2 / (9 * 128)),
        ("group_fan_out", 2 / (9 * 64)),
    ],
)
def test_kernels_have_the_stated_variance(kernels, variance):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 64))
    model = keras.Model(inputs, ConvStyle(kernels=kernels).conv(inputs, 128, 3, groups=2))
    kernel = next(layer for layer in model.layers if isinstance(layer, layers.Conv2D)).get_weights()[0]
    assert kernel.var() == pytest.approx(variance, rel=0.03)


def test_a_mobileone_block_is_one_convolution_in_disguise():
    """Its output before the activation is linear in its input once batch normalisation has settled."""
    model = build("mobileone", (8, 8, 3), branches=2, blocks=(1, 1, 1, 1))
    summed = next(layer for layer in model.layers if isinstance(layer, layers.Add))
    linear = keras.Model(model.input, summed.output)
    a, b = np.random.default_rng(0).normal(size=(2, 1, 8, 8, 3)).astype(np.float32)
    both, zero = linear(a + b), linear(np.zeros_like(a))
    np.testing.assert_allclose(both + zero, linear(a) + linear(b), atol=1e-5)
