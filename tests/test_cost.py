"""What a model costs: held against published figures, TensorFlow's profiler, and arithmetic by hand."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bench.errors import BadModelError
from bench.measurement.cost import Cost, count_cost, parameter_counts
from bench.measurement.einsum import einsum_macs
from bench.plugins import discover, load_module
from tests import networks

# Activations in millions, as timm's results give them (`infer_macts` of benchmark-infer-amp-nhwc-pt210-cu121-rtx3090).
ACTIVATIONS = {
    "resnet18": 2.48,
    "mobilenet_v2": 6.68,
    "efficientnet_b0": 6.75,
    "regnet_y_400mf": 3.89,
}

ARCHITECTURES = {name: plugin for name, plugin in discover("architecture").plugins.items() if not plugin.error}


def model_of(body, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], body(*inputs))


def cost_of(body, *shapes):
    return count_cost(model_of(body, *shapes))


def macs_of(body, *shapes):
    return cost_of(body, *shapes).macs


def architecture(name):
    plugin = ARCHITECTURES[name]
    side = max(32, plugin.info.min_size)
    return load_module(plugin).build((side, side, 3), 10, **{**plugin.parameters, **plugin.info.quick})


class TestPublished:
    @pytest.mark.parametrize("name", networks.PUBLISHED)
    def test_multiply_adds_agree_within_a_percent_and_parameters_exactly(self, name):
        *_, parameters, giga = networks.PUBLISHED[name]
        cost = networks.published(name)
        assert cost.unknown == ()
        assert cost.parameters == parameters
        assert cost.macs == pytest.approx(giga * 1e9, rel=0.01)
        assert cost.flops == 2 * cost.macs

    @pytest.mark.parametrize(("name", "millions"), ACTIVATIONS.items())
    def test_activations_of_products_agree_within_a_percent(self, name, millions):
        assert networks.published(name).product_activations == pytest.approx(millions * 1e6, rel=0.01)


class TestArchitectures:
    def test_the_baseline_by_hand(self):
        cost = count_cost(load_module(ARCHITECTURES["baseline_cnn"]).build((32, 32, 3), 10))
        first, second = 32 * 32 * 32 * (3 * 3 * 3), 16 * 16 * 64 * (3 * 3 * 32)
        dense = 8 * 8 * 64 * 128 + 128 * 10
        assert cost.macs == first + second + dense
        assert cost.parameters == (27 + 1) * 32 + (288 + 1) * 64 + (4096 + 1) * 128 + (128 + 1) * 10
        puts_out = [32 * 32 * 32, 16 * 16 * 32, 16 * 16 * 64, 8 * 8 * 64, 8 * 8 * 64, 128, 10]
        assert [layer.activations for layer in cost.layers] == puts_out
        assert cost.activations == sum(puts_out)
        assert cost.product_activations == sum(puts_out[i] for i in (0, 2, 5, 6))

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_every_architecture_is_counted_wholly(self, name):
        model = architecture(name)
        cost = count_cost(model)
        assert cost.unknown == ()
        assert cost.macs > 0
        assert cost.parameters == parameter_counts(model)[0]

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_multiply_adds_agree_with_tensorflows_profiler(self, name):
        model = architecture(name)
        assert count_cost(model).flops == profiled_flops(model)


# Kinds of operations with products, by whether TensorFlow registers their FLOPs; convolutions in groups are in calls.
PROFILED = {"Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"}
NOT_PROFILED = {"Einsum", "XlaEinsum", "PartitionedCall", "StatefulPartitionedCall"}


def profiled_flops(model):
    """FLOPs of the operations with products in the frozen graph for one image, as TensorFlow registers them."""
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(signature)
    graph = convert_variables_to_constants_v2(function).graph
    if missing := NOT_PROFILED & {operation.type for operation in graph.get_operations()}:
        pytest.skip(f"the profiler has no FLOPs of {', '.join(sorted(missing))}")
    options = {**tf.compat.v1.profiler.ProfileOptionBuilder.float_operation(), "output": "none"}
    level, flops = tf.compat.v1.profiler.profile(graph, cmd="op", options=options), 0
    while level.children:  # each kind of operation is the only child of the one before
        (level,) = level.children
        flops += level.float_ops if level.name in PROFILED else 0
    return flops


class TestConvolutions:
    @pytest.mark.parametrize(
        ("layer", "shape", "macs"),
        [
            (layers.Conv1D(6, 3), (10, 4), 8 * 6 * 3 * 4),
            (layers.Conv1D(6, 3, padding="causal"), (10, 4), 10 * 6 * 3 * 4),
            (layers.Conv2D(6, (3, 5)), (8, 9, 4), 6 * 5 * 6 * 15 * 4),
            (layers.Conv2D(6, 3, padding="same"), (8, 9, 4), 8 * 9 * 6 * 9 * 4),
            (layers.Conv2D(6, 3, strides=2, padding="same"), (8, 9, 4), 4 * 5 * 6 * 9 * 4),
            (layers.Conv2D(6, 3, dilation_rate=2), (8, 9, 4), 4 * 5 * 6 * 9 * 4),
            (layers.Conv2D(6, 3, groups=2), (8, 9, 4), 6 * 7 * 6 * 9 * (4 // 2)),
            (layers.Conv2D(6, 3, use_bias=False, activation="gelu"), (8, 9, 4), 6 * 7 * 6 * 9 * 4),
            (layers.Conv3D(6, 3), (5, 6, 7, 2), 3 * 4 * 5 * 6 * 27 * 2),
            (layers.Conv2DTranspose(6, 3), (8, 9, 4), 8 * 9 * 4 * 9 * 6),
            (layers.Conv2DTranspose(6, 4, strides=2, padding="same"), (8, 9, 4), 8 * 9 * 4 * 16 * 6),
            (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 9, 4), 6 * 7 * (4 * 2) * 9),
            (layers.DepthwiseConv1D(3, strides=2), (9, 4), 4 * 4 * 3),
            (
                layers.SeparableConv2D(6, 3, strides=2, depth_multiplier=3),
                (9, 9, 4),
                4 * 4 * (4 * 3) * 9 + 4 * 4 * (4 * 3) * 6,
            ),
        ],
        ids=lambda value: getattr(value, "name", None),
    )
    def test_layers(self, layer, shape, macs):
        assert macs_of(layer, shape) == macs

    def test_a_transposed_convolution_costs_what_the_one_that_it_transposes_does(self):
        there = macs_of(layers.Conv2D(6, 3, strides=2, padding="same"), (8, 8, 4))
        assert macs_of(layers.Conv2DTranspose(4, 3, strides=2, padding="same"), (4, 4, 6)) == there

    def test_operations_cost_what_the_layers_do(self):
        kernel = np.zeros((3, 3, 4, 6), np.float32)
        depthwise = np.zeros((3, 3, 4, 2), np.float32)
        pointwise = np.zeros((1, 1, 8, 6), np.float32)
        transposed = np.zeros((3, 3, 6, 4), np.float32)
        for operation, layer in (
            (lambda x: ops.conv(x, kernel, 2, "same"), layers.Conv2D(6, 3, 2, "same")),
            (lambda x: ops.depthwise_conv(x, depthwise, 2), layers.DepthwiseConv2D(3, 2, depth_multiplier=2)),
            (
                lambda x: ops.separable_conv(x, depthwise, pointwise, 2),
                layers.SeparableConv2D(6, 3, 2, depth_multiplier=2),
            ),
            (lambda x: ops.conv_transpose(x, transposed, 2), layers.Conv2DTranspose(6, 3, 2)),
        ):
            assert macs_of(operation, (8, 8, 4)) == macs_of(layer, (8, 8, 4)) > 0


class TestProducts:
    def test_dense_on_more_dimensions(self):
        assert macs_of(layers.Dense(7), (5, 6, 4)) == 5 * 6 * 4 * 7

    @pytest.mark.parametrize(
        ("equation", "output_shape", "bias_axes"),
        [("abc,cde->abde", (5, 3, 2), "de"), ("...x,xyz->...yz", (3, 2), None)],
    )
    def test_einsum_dense(self, equation, output_shape, bias_axes):
        layer = layers.EinsumDense(equation, output_shape, bias_axes=bias_axes)
        assert macs_of(layer, (5, 4)) == 5 * 4 * 3 * 2

    @pytest.mark.parametrize(
        ("product", "shapes", "macs"),
        [
            (ops.matmul, [(3, 5, 4), (3, 4, 6)], 3 * 5 * 4 * 6),
            (lambda x: x @ np.zeros((4, 6), np.float32), [(5, 4)], 5 * 4 * 6),
            (lambda x: ops.dot(x, np.zeros((4, 6))), [(5, 4)], 5 * 4 * 6),
            (lambda x: ops.dot(x, 2.0 * np.ones(())), [(5, 4)], 0),
            (lambda x: ops.tensordot(x, np.zeros((4, 6)), 1), [(5, 4)], 5 * 4 * 6),
            (lambda x: ops.inner(x, np.zeros((6, 4))), [(5, 4)], 5 * 4 * 6),
            (lambda x: ops.einsum("bij,jk->bik", x, np.zeros((4, 6))), [(5, 4)], 5 * 4 * 6),
            (layers.Dot((2, 1)), [(5, 4), (4, 6)], 5 * 4 * 6),
        ],
    )
    def test_operations(self, product, shapes, macs):
        body = product if not isinstance(product, layers.Layer) else lambda *inputs: product(list(inputs))
        assert macs_of(body, *shapes) == macs

    @pytest.mark.parametrize(
        ("equation", "shapes", "macs"),
        [
            ("bhqd,bhkd->bhqk", [(2, 3, 5, 4), (2, 3, 6, 4)], 2 * 3 * 5 * 6 * 4),
            ("ij,jk", [(5, 4), (4, 6)], 5 * 4 * 6),
            ("...ij, ...jk -> ...ik", [(2, 3, 5, 4), (4, 6)], 2 * 3 * 5 * 4 * 6),
            ("bij,bjk->bik", [(1, 5, 4), (3, 4, 6)], 3 * 5 * 4 * 6),  # broadcast over b
            ("bhwc,c->bhwc", [(2, 8, 8, 3), (3,)], 0),  # element by element
            ("i,j->ij", [(5,), (4,)], 0),
            ("bij->bji", [(2, 3, 4)], 0),
            ("bij->b", [(2, 3, 4)], 0),
            ("ij,k->k", [(5, 4), (3,)], 0),  # a sum, then a factor
            ("ij,jk,kl->il", [(2, 50), (50, 3), (3, 70)], 2 * 50 * 3 + 2 * 3 * 70),  # not 50*3*70 first
        ],
    )
    def test_einsum(self, equation, shapes, macs):
        assert einsum_macs(equation, shapes) == macs


class TestAttention:
    def test_attention_to_itself(self):
        layer = layers.MultiHeadAttention(num_heads=3, key_dim=8)
        projections, products = 4 * 10 * 24 * 24, 2 * 3 * 10 * 10 * 8
        cost = cost_of(lambda x: layer(x, x), (10, 24))
        assert cost.macs == projections + products
        assert cost.parameters == 4 * (24 * 24 + 24)

    @pytest.mark.parametrize("dropout", [0.0, 0.1])  # with it, Keras writes the products as two einsums
    @pytest.mark.parametrize(("key_dim", "value_dim"), [(8, 5), (5, 8)])
    def test_attention_to_others(self, key_dim, value_dim, dropout):
        heads, queries, others, width, other_width = 3, 10, 7, 24, 16
        layer = layers.MultiHeadAttention(heads, key_dim, value_dim, dropout=dropout)
        projections = heads * (
            queries * width * key_dim + others * other_width * (key_dim + value_dim) + queries * value_dim * width
        )
        products = heads * queries * others * (key_dim + value_dim)
        cost = cost_of(layer, (queries, width), (others, other_width))
        assert cost.macs == projections + products

    def test_over_two_axes(self):
        layer = layers.MultiHeadAttention(num_heads=2, key_dim=4, attention_axes=(1, 2))
        positions = 5 * 6
        assert macs_of(lambda x: layer(x, x), (5, 6, 8)) == 4 * positions * 8 * 8 + 2 * 2 * positions**2 * 4

    def test_grouped_queries_save_projections_but_no_products(self):
        layer = layers.GroupQueryAttention(head_dim=4, num_query_heads=6, num_key_value_heads=2)
        projections = 10 * 24 * 4 * (6 + 2 + 2) + 10 * 4 * 6 * 24
        assert macs_of(lambda x: layer(x, x), (10, 24)) == projections + 2 * 6 * 10 * 10 * 4

    def test_the_layer_without_heads(self):
        layer = layers.Attention()
        assert macs_of(lambda x, y: layer([x, y]), (10, 8), (7, 8)) == 2 * 10 * 7 * 8


class TestFree:
    @pytest.mark.parametrize(
        "body",
        [
            layers.BatchNormalization(),
            layers.LayerNormalization(),
            layers.GroupNormalization(2),
            layers.Softmax(),
            layers.Activation(lambda x: x * ops.sigmoid(x)),
            layers.AveragePooling2D(2),
            layers.GlobalMaxPooling2D(),
            layers.UpSampling2D(2),
            layers.Dropout(0.5),
            layers.RandomFlip(),
            layers.Rescaling(1 / 255),
            layers.ZeroPadding2D(1),
            layers.Lambda(lambda x: ops.mean(ops.square(x), axis=-1)),
            lambda x: layers.Add()([x, layers.Flatten()(x)[:, :1, None, None]]),
            lambda x: ops.pad(ops.gelu(x) + 1, [(0, 0), (1, 1), (0, 0), (0, 0)]),
            lambda x: ops.normalize(ops.transpose(ops.reshape(x, (-1, 64, 4)), (0, 2, 1))),
            lambda x: ops.concatenate(ops.split(x, 2, axis=-1), axis=1),
            lambda x: ops.norm(x, axis=-1),
        ],
    )
    def test_known_to_have_no_multiply_adds(self, body):
        cost = cost_of(body, (8, 8, 4))
        assert cost.unknown == ()
        assert cost.macs == 0
        assert cost.activations > 0


class FactorOnTheLeft(layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],))

    def call(self, x):
        return self.gamma * x


class LowRank(layers.Layer):
    """A dense layer whose kernel is a product of two."""

    def build(self, shape):
        self.left = self.add_weight(shape=(shape[-1], 2))
        self.right = self.add_weight(shape=(2, 5))

    def call(self, x):
        return x @ ops.matmul(self.left, self.right)


class Chain(layers.Layer):
    """Weights in a list, on the left of a product too."""

    def build(self, shape):
        self.kernels = [self.add_weight(shape=(shape[-1], shape[-1])) for _ in range(2)]

    def call(self, x):
        return x @ (self.kernels[0] @ self.kernels[1])


class Block(layers.Layer):
    """A user's layer with layers inside, one of them called twice."""

    def __init__(self):
        super().__init__(name="block")
        self.first, self.again = layers.Dense(6, name="first"), layers.Dense(6, name="again")

    def call(self, x, training=None):
        if training:
            raise AssertionError
        return self.again(self.again(self.first(x)))


class Dropout(layers.Layer):
    """A user's layer with the name of one of Keras's."""

    def call(self, x):
        return ops.matmul(x, ops.transpose(x, (0, 2, 1)))


class BackendOnly(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5))

    def call(self, x):
        return tf.matmul(x, self.kernel)


class Counting(layers.Layer):
    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x * 2.0


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.body, self.head = keras.Sequential([layers.Conv2D(6, 3), layers.ReLU()]), layers.Dense(5)

    def call(self, x):
        return self.head(ops.mean(self.body(x), axis=(1, 2)))


class TestComposition:
    def test_a_shared_layer_costs_each_time_and_has_its_weights_once(self):
        dense = layers.Dense(4)
        cost = cost_of(lambda x: dense(dense(x)), (4,))
        assert (cost.macs, cost.parameters) == (2 * 16, 16 + 4)
        assert [layer.parameters for layer in cost.layers] == [20, 0]

    def test_a_model_inside_a_model_counts_at_the_size_that_it_gets(self):
        inner = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(6, 3, name="conv")], name="inner")
        cost = cost_of(lambda x, y: [inner(x), inner(y)], (8, 8, 3), (5, 5, 3))
        assert cost.macs == (6 * 6 + 3 * 3) * 6 * 9 * 3
        assert cost.parameters == 9 * 3 * 6 + 6
        assert {layer.name for layer in cost.layers} == {"inner/conv"}

    def test_the_same_layers_cost_the_same_in_any_model(self):
        model = Subclassed()
        model(np.zeros((1, 8, 8, 3), np.float32))
        cost = count_cost(model, (8, 8, 3))
        assert (cost.macs, cost.parameters) == (6 * 6 * 6 * 27 + 6 * 5, 168 + 35)
        chain = [keras.Input((8, 8, 3)), layers.Conv2D(6, 3), layers.ReLU(), layers.GlobalAveragePooling2D()]
        assert count_cost(keras.Sequential([*chain, layers.Dense(5)])).macs == cost.macs

    def test_a_users_layer_costs_what_is_inside(self):
        cost = cost_of(Block(), (4,))
        assert (cost.macs, cost.parameters) == (4 * 6 + 2 * 6 * 6, 30 + 42)
        assert [layer.name for layer in cost.layers] == ["block/first", "block/again", "block/again"]

    def test_a_users_layer_with_weights_of_its_own(self):
        cost = cost_of(FactorOnTheLeft(), (8, 4))
        assert (cost.macs, cost.parameters, cost.unknown) == (0, 4, ())

    def test_products_of_weights_alone_count(self):
        cost = cost_of(LowRank(), (7, 4))
        assert (cost.macs, cost.parameters) == (4 * 2 * 5 + 7 * 4 * 5, 4 * 2 + 2 * 5)

    def test_weights_in_a_list(self):
        cost = cost_of(Chain(), (7, 4))
        assert (cost.macs, cost.parameters) == (4 * 4 * 4 + 7 * 4 * 4, 2 * 16)

    def test_a_users_layer_is_not_taken_for_keras_own(self):
        assert macs_of(Dropout(), (7, 4)) == 7 * 7 * 4

    def test_a_layer_at_each_step(self):
        layer = layers.TimeDistributed(layers.Conv2D(6, 3))
        cost = cost_of(layer, (5, 8, 8, 3))
        assert (cost.macs, cost.parameters) == (5 * 6 * 6 * 6 * 27, 168)

    def test_windows_that_join_the_batch_count_each(self):
        cost = cost_of(lambda x: layers.Dense(5)(ops.reshape(x, (-1, 4, 3))), (8, 8, 3))
        assert cost.macs == 8 * 8 * 3 * 5
        assert cost.layers[-1].output_shape == (16, 4, 5)

    def test_moving_statistics_are_no_parameters(self):
        assert cost_of(layers.BatchNormalization(), (8, 8, 3)).parameters == 6

    def test_the_model_stays_as_it_is(self):
        model = model_of(lambda x: FactorOnTheLeft()(Counting()(Block()(x))), (4,))
        counting, factor = model.layers[-2:]
        chain = Chain()
        model = keras.Sequential([model, chain])
        x = np.random.default_rng(0).random((3, 4), np.float32)
        config, logits = model.to_json(), model(x, training=False)
        calls = float(counting.calls)
        gamma, kernels = factor.gamma, chain.kernels
        assert count_cost(model) == count_cost(model)
        assert float(counting.calls) == calls
        assert factor.gamma is gamma
        assert chain.kernels is kernels
        assert model.to_json() == config
        np.testing.assert_array_equal(model(x, training=False), logits)


class TestUnknown:
    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (layers.LSTM(3), "LSTM"),
            (layers.Bidirectional(layers.GRU(3)), "Bidirectional"),
            (BackendOnly(), "BackendOnly"),
            (layers.Lambda(lambda x: tf.signal.fft(tf.cast(x, tf.complex64))), "Lambda"),
            (lambda x: ops.fft((x, x))[0], "FFT"),
            (lambda x: ops.svd(x)[1], "SVD"),
            (lambda x: ops.norm(x, ord="nuc", axis=(1, 2)), "Norm"),
            (lambda x: ops.vectorized_map(lambda y: ops.matmul(y, ops.transpose(y)), x), "VectorizedMap"),
        ],
    )
    def test_it_is_named_and_nothing_is_made_of_it(self, body, kind):
        cost = cost_of(lambda x: body(layers.Dense(4)(x)), (6, 4))
        assert (cost.macs, cost.flops, cost.unknown) == (None, None, (kind,))
        assert cost.layers[0].macs == 6 * 4 * 4

    def test_inside_a_users_layer(self):
        class Outer(layers.Layer):
            def __init__(self):
                super().__init__()
                self.inner = BackendOnly()

            def call(self, x):
                return self.inner(ops.relu(x))

        cost = cost_of(Outer(), (6, 4))
        assert cost.unknown == ("BackendOnly",)
        assert cost.parameters == 4 * 5

    def test_activations_are_known_where_shapes_are(self):
        assert cost_of(layers.LSTM(3), (6, 4)).activations == 3

    def test_a_size_that_is_not_known(self):
        model = model_of(layers.Conv2D(6, 3), (None, None, 3))
        cost = count_cost(model)
        assert (cost.macs, cost.activations, cost.parameters) == (None, None, 168)
        assert count_cost(model, (8, 8, 3)).macs == 6 * 6 * 6 * 27

    def test_of_nothing_nothing_is_unknown(self):
        assert Cost(()).macs == 0


class TestErrors:
    def test_a_model_that_does_not_tell_its_input(self):
        model = Subclassed()
        model(np.zeros((1, 8, 8, 3), np.float32))
        with pytest.raises(BadModelError, match="does not tell the shape"):
            count_cost(model)

    def test_a_model_that_is_not_built(self):
        with pytest.raises(BadModelError, match="no weights yet"):
            count_cost(Subclassed(), (8, 8, 3))

    def test_images_that_do_not_fit(self):
        model = model_of(layers.Conv2D(6, 3), (8, 8, 3))
        with pytest.raises(BadModelError, match=r"images of shape \[\(1, 8, 8, 5\)\]"):
            count_cost(model, (8, 8, 5))


OTHER_BACKEND = """
import json, keras
from tests import networks
costs = {{name: networks.published(name) for name in {names}}}
print(json.dumps([keras.backend.backend(), {{n: [c.parameters, c.macs, c.activations] for n, c in costs.items()}}]))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_cost_is_the_same_on_every_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs {backend}")
    names = ["mobilenet_v2", "vit_b_16", "swin_t"]
    ended = subprocess.run(
        [sys.executable, "-c", OTHER_BACKEND.format(names=names)],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    used, costs = json.loads(ended.stdout.splitlines()[-1])
    assert used == backend
    here = {name: networks.published(name) for name in names}
    assert costs == {name: [cost.parameters, cost.macs, cost.activations] for name, cost in here.items()}
