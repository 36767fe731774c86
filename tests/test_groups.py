import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import math

import keras
import numpy as np
import pytest
from keras import layers

from bench.data.pipeline import Block
from bench.errors import UsageError
from bench.groups import Phase, default_decay, head_variables, phases, resolve_groups
from bench.recipes import Group, make_recipe
from tests.stepping import make_steps


def net():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dense(5, name="last")(layers.Flatten()(x))
    return keras.Model(inputs, layers.ReLU()(x))


PATHS = ["first/kernel", "first/bias", "norm/gamma", "norm/beta", "last/kernel", "last/bias"]


def resolved(*groups, key, model=None):
    weights = resolve_groups([Group(**group) for group in groups], model or net())
    return {weight.path: getattr(weight, key) for weight in weights}


class TestResolution:
    def test_without_groups_kernels_decay_and_all_weights_are_trained_alike(self):
        weights = resolve_groups((), net())
        assert [weight.path for weight in weights] == PATHS
        assert [weight.index for weight in weights] == list(range(6))
        assert [weight.decay for weight in weights] == [1, 0, 0, 0, 1, 0]
        assert {weight.rate for weight in weights} == {1.0}
        assert all(weight.is_always_trained for weight in weights)

    def test_a_pattern_of_paths(self):
        rates = resolved({"match": "*/beta", "rate": 64.0}, key="rate")
        assert rates == {path: 64.0 if path == "norm/beta" else 1.0 for path in PATHS}

    def test_head_is_the_last_layer_that_has_weights_and_backbone_all_others(self):
        groups = [{"match": "head", "rate": 10.0}, {"match": "backbone", "decay": 0.5}]
        assert list(resolved(*groups, key="rate").values()) == [1, 1, 1, 1, 10, 10]
        assert list(resolved(*groups, key="decay").values()) == [0.5, 0.5, 0.5, 0.5, 1, 0]

    def test_the_last_group_that_matches_wins_for_each_property(self):
        """A later line refines an earlier one: what it leaves at its default stays."""
        groups = [
            {"match": "backbone", "rate": 0.1, "from_epoch": 3},
            {"match": "*/beta", "rate": 64.0, "decay": 0.25},
            {"match": "*/beta", "until_epoch": 9},
        ]
        assert list(resolved(*groups, key="rate").values()) == [0.1, 0.1, 0.1, 64, 1, 1]
        assert list(resolved(*groups, key="decay").values()) == [1, 0, 0, 0.25, 1, 0]
        assert list(resolved(*groups, key="from_epoch").values()) == [3, 3, 3, 3, 0, 0]
        assert list(resolved(*groups, key="until_epoch").values()) == [math.inf] * 3 + [9] + [math.inf] * 2

    def test_a_decay_of_zero_is_not_the_default(self):
        assert list(resolved({"match": "*", "decay": 0.0}, key="decay").values()) == [0] * 6

    def test_a_group_that_matches_nothing_names_what_there_is(self):
        with pytest.raises(UsageError) as error:
            resolve_groups([Group(match="*/betta", rate=2.0)], net())
        message = str(error.value)
        assert "match = '*/betta' is none of the model's trainable weights" in message
        assert "Expected head, backbone or a pattern of paths such as '*/kernel'" in message
        assert "the weights are first/kernel, first/bias, norm/gamma, norm/beta" in message
        assert "optional = true" in message

    def test_of_many_weights_the_message_shows_a_few(self):
        model = keras.Sequential([keras.Input((4,)), *(layers.Dense(4) for _ in range(6))])
        with pytest.raises(UsageError, match=r"/kernel, .* and 4 more\."):
            resolve_groups([Group(match="nothing")], model)

    def test_an_optional_group_may_match_nothing(self):
        assert set(resolved({"match": "whitening/bias", "rate": 2.0, "optional": True}, key="rate").values()) == {1.0}

    def test_backbone_of_a_model_that_is_all_head_is_nothing(self):
        model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
        with pytest.raises(UsageError, match="match = 'backbone' is none"):
            resolve_groups([Group(match="backbone", rate=0.1)], model)


def test_the_head_of_a_nested_model_is_its_last_layers():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="body"), layers.Dense(2, name="top")])
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Softmax()(inner(inputs)))
    assert [each.path.split("/")[-2] for each in head_variables(model)] == ["top", "top"]


def test_frozen_layers_are_no_weights_and_no_head():
    model = net()
    model.get_layer("last").trainable = False
    assert [weight.path for weight in resolve_groups((), model)] == PATHS[:4]
    assert [each.path for each in head_variables(model)] == ["norm/gamma", "norm/beta"]


def test_attention_biases_do_not_decay_though_they_are_matrices():
    inputs = keras.Input((5, 8))
    outputs = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    model = keras.Model(inputs, layers.LayerNormalization()(outputs))
    decayed = {variable.name for variable in model.trainable_variables if default_decay(variable)}
    assert decayed == {"kernel"}
    assert any(variable.name == "bias" and len(variable.shape) == 2 for variable in model.trainable_variables)


class TestPhases:
    def test_one_where_nothing_is_frozen(self):
        assert phases(resolve_groups((), net()), 9.9) == (Phase(0, frozenset(range(6))),)

    def test_the_head_first_and_then_all(self):
        weights = resolve_groups([Group(match="backbone", from_epoch=3)], net())
        assert phases(weights, 10) == (Phase(0, frozenset({4, 5})), Phase(3, frozenset(range(6))))

    def test_several_changes(self):
        groups = [Group(match="backbone", from_epoch=1), Group(match="*/beta", from_epoch=2, until_epoch=4)]
        assert phases(resolve_groups(groups, net()), 10) == (
            Phase(0, frozenset({4, 5})),
            Phase(1, frozenset({0, 1, 2, 4, 5})),
            Phase(2, frozenset(range(6))),
            Phase(4, frozenset({0, 1, 2, 4, 5})),
        )

    def test_what_falls_within_an_epoch_waits_for_the_next(self):
        weights = resolve_groups([Group(match="backbone", from_epoch=1.5)], net())
        assert [phase.start for phase in phases(weights, 4)] == [0, 2]

    @pytest.mark.parametrize("epochs", [2, 3, 2.9])
    def test_what_comes_after_the_end_is_no_phase(self, epochs):
        weights = resolve_groups([Group(match="backbone", from_epoch=3)], net())
        assert phases(weights, epochs) == (Phase(0, frozenset({4, 5})),)

    def test_an_epoch_that_has_begun_counts(self):
        weights = resolve_groups([Group(match="backbone", from_epoch=9)], net())
        assert [phase.start for phase in phases(weights, 9.9)] == [0, 9]

    def test_an_epoch_in_which_nothing_is_trained_is_an_error(self):
        groups = [Group(match="backbone", from_epoch=2), Group(match="head", until_epoch=1)]
        with pytest.raises(UsageError, match="every weight is frozen in epoch 1, counted from 0") as error:
            phases(resolve_groups(groups, net()), 10)
        assert "from_epoch and until_epoch" in str(error.value)


@pytest.mark.parametrize("groups", [(), ({"match": "*", "decay": 0.25}, {"match": "head", "decay": 0.0})])
def test_coupled_decay_adds_l2_times_the_decay_times_the_weight_to_the_gradient(groups):
    """One step of plain SGD with and without l2, from the same weights on the same images."""
    images = np.random.default_rng(0).integers(0, 256, (1, 4, 8, 8, 3), np.uint8)
    ended = []
    for l2 in (0.0, 0.5):
        values = {"epochs": 1, "batch_size": 4, "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.0}
        keras.utils.set_random_seed(0)
        model = net()
        weights, before = resolve_groups([Group(**group) for group in groups], model), model.get_weights()
        steps, _, _ = make_steps(model, make_recipe("test", {**values, "l2": l2, "groups": groups}, "test"))
        steps.train(steps.place(Block(images, np.zeros((1, 4), np.int32)))).result()
        steps.finish()
        ended.append([each.numpy() for each in model.trainable_variables])
    initial = dict(zip([each.path for each in model.variables], before, strict=True))
    for weight, without, with_l2 in zip(weights, *ended, strict=True):
        expected = without - 0.1 * 0.5 * weight.decay * initial[weight.path]
        np.testing.assert_allclose(with_l2, expected, rtol=1e-5, atol=1e-7)
    assert {weight.decay for weight in weights} == ({0.0, 1.0} if not groups else {0.0, 0.25})
