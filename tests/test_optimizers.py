"""Each optimizer against its published update in NumPy, against PyTorch's, and what is trained in another way.

On whichever backend Keras runs (KERAS_BACKEND), compiled as a training compiles it.
"""

import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from keras import layers

from bench.errors import UsageError
from bench.groups import resolve_groups
from bench.optimizers import build_optimizer, train_only
from bench.optimizers.muon import ADAM_SHARE, orthogonal
from bench.optimizers.weighted import PerWeight
from bench.recipes import make_recipe
from bench.schedules import Tabulated

BACKEND = keras.backend.backend()
RATES = [0.1, 0.08, 0.05, 0.03, 0.02]
NAMES = ["first/kernel", "first/bias", "norm/gamma", "norm/beta", "second/kernel", "inner/kernel", "head/kernel"]
HEAD = NAMES.index("head/kernel")
ALIKE = ()
UNLIKE = (
    {"match": "*", "decay": 0.5},
    {"match": "backbone", "rate": 0.25},
    {"match": "*/beta", "rate": 8.0, "decay": 0.125},
    {"match": "inner/kernel", "decay": 0.0},
)
BETAS = {"beta_1": 0.8, "beta_2": 0.95}
RECIPES = {
    "sgd": {"momentum": 0.0},
    "sgd momentum": {"momentum": 0.85},
    "sgd nesterov": {"momentum": 0.85, "nesterov": True},
    "adam": BETAS,
    "adamw": {**BETAS, "weight_decay": 0.3},
    "lion": {**BETAS, "weight_decay": 0.3},
    "lamb": {**BETAS, "weight_decay": 0.3},
    "muon": {**BETAS, "weight_decay": 0.3, "momentum": 0.9},
}


def recipe_of(name, **overrides):
    values = {"epochs": 1, "batch_size": 8, "learning_rate": 0.1, "optimizer": name.split()[0], **RECIPES[name]}
    return make_recipe("test", {**values, **overrides}, "test")


def net():
    """Weights of each kind, all away from zero, in the order of NAMES."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(20, 3, use_bias=False, name="second")(x)
    x = layers.Dense(7, use_bias=False, name="inner")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(3, use_bias=False, name="head")(x))
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0.1, 0.3, variable.shape))
    return model


def draw_gradients(model, steps, seed=3):
    """Away from zero, where Keras's Adam and the published one differ by how they add epsilon."""
    random = np.random.default_rng(seed)

    def draw(shape):
        return (random.choice([-1, 1], shape) * random.uniform(0.05, 0.4, shape)).astype(np.float32)

    return [[draw(variable.shape) for variable in model.trainable_variables] for _ in range(steps)]


def values(model):
    return [each.numpy().astype(np.float64) for each in model.trainable_variables]


def run(optimizer, model, gradients, trained=None):
    """Apply gradients step by step, compiled as a training does it; on JAX of all weights, elsewhere of the trained."""
    variables = model.trainable_variables
    if not optimizer.built:
        optimizer.build(variables)
    if BACKEND == "jax":
        run_on_jax(optimizer, variables, gradients)
        return values(model)
    chosen = sorted(trained) if trained is not None else range(len(variables))
    apply = applier(optimizer, [variables[index] for index in chosen])
    for step in gradients:
        apply([keras.ops.convert_to_tensor(step[index]) for index in chosen])
    return values(model)


def applier(optimizer, variables):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda gradients: optimizer.apply(gradients, variables), autograph=False)

    def eagerly(gradients):
        import torch

        with torch.no_grad():
            optimizer.apply(gradients, variables)

    return eagerly


def run_on_jax(optimizer, variables, gradients):
    import jax

    apply = jax.jit(lambda state, step: optimizer.stateless_apply(state[1], step, state[0]))
    state = [each.value for each in variables], [each.value for each in optimizer.variables]
    for step in gradients:
        state = apply(state, step)
    for group, arrays in zip((variables, optimizer.variables), state, strict=True):
        for variable, array in zip(group, arrays, strict=True):
            variable.assign(array)


# The published updates. Each takes a weight, its gradient, the rate, its decay, and what it keeps from step to step.


def decayed(weight, rate, decay):
    return weight * (1 - rate * decay)


def sgd(recipe, weight, gradient, rate, decay, kept):
    """Velocity and Nesterov's form as in Keras and Caffe; with a constant rate also PyTorch's."""
    kept["v"] = recipe.momentum * kept.get("v", 0) - rate * gradient
    return weight + (recipe.momentum * kept["v"] - rate * gradient if recipe.nesterov else kept["v"])


def direction(recipe, gradient, kept):
    """Kingma and Ba 2015, algorithm 1."""
    kept["t"] = kept.get("t", 0) + 1
    kept["m"] = recipe.beta_1 * kept.get("m", 0) + (1 - recipe.beta_1) * gradient
    kept["s"] = recipe.beta_2 * kept.get("s", 0) + (1 - recipe.beta_2) * gradient**2
    mean, square = kept["m"] / (1 - recipe.beta_1 ** kept["t"]), kept["s"] / (1 - recipe.beta_2 ** kept["t"])
    return mean / (np.sqrt(square) + recipe.epsilon)


def adam(recipe, weight, gradient, rate, decay, kept):
    """Loshchilov and Hutter 2019, algorithm 2."""
    return weight - rate * (direction(recipe, gradient, kept) + decay * weight)


def lamb(recipe, weight, gradient, rate, decay, kept, adapts):
    """You et al. 2020, algorithm 2, with the identity for phi."""
    update = direction(recipe, gradient, kept) + decay * weight
    ratio = np.linalg.norm(weight) / np.linalg.norm(update) if adapts else 1
    return weight - rate * ratio * update


def lion(recipe, weight, gradient, rate, decay, kept):
    """Chen et al. 2023, algorithm 2."""
    mean = kept.get("m", np.zeros_like(gradient))
    update = np.sign(recipe.beta_1 * mean + (1 - recipe.beta_1) * gradient)
    kept["m"] = recipe.beta_2 * mean + (1 - recipe.beta_2) * gradient
    return weight - rate * (update + decay * weight)


def muon(recipe, weight, gradient, rate, decay, kept):
    """Jordan et al. 2024: Newton-Schulz leaves U and V and applies its polynomial to the singular values."""
    kept["m"] = recipe.momentum * kept.get("m", 0) + gradient
    update = gradient + recipe.momentum * kept["m"]
    left, singular, right = np.linalg.svd(update.reshape(-1, weight.shape[-1]), full_matrices=False)
    singular = singular / np.linalg.norm(singular)
    for _ in range(5):
        singular = 3.4445 * singular - 4.7750 * singular**3 + 2.0315 * singular**5
    inputs, outputs = left.shape[0], right.shape[1]
    update = (left * singular) @ right * max(1, outputs / inputs) ** 0.5
    return weight * (1 - rate * decay) - rate * update.reshape(weight.shape)


def published(recipe, model, gradients, rates=RATES):
    """Return the weights after the published updates."""
    weights, state = values(model), [{} for _ in model.trainable_variables]
    for rate, step in zip(rates, gradients, strict=True):
        for weight in resolve_groups(recipe.groups, model):
            i = weight.index
            own, decay = rate * weight.rate, recipe.weight_decay * weight.decay
            given = recipe, weights[i], step[i].astype(np.float64)
            if recipe.optimizer == "lamb":
                weights[i] = lamb(*given, own, decay, state[i], adapts=weight.decay > 0)
            elif recipe.optimizer == "muon":
                matrix = len(weights[i].shape) > 1 and i != HEAD
                weights[i] = (muon if matrix else adam)(*given, own * (1 if matrix else 0.015), decay, state[i])
            else:
                update = {"sgd": sgd, "adam": adam, "adamw": adam, "lion": lion}[recipe.optimizer]
                weights[i] = update(*given, own, decay, state[i])
    return weights


def assert_near(got, expected, rtol=2e-4, atol=2e-6):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("groups", [ALIKE, UNLIKE], ids=["alike", "unlike"])
@pytest.mark.parametrize("name", RECIPES)
def test_it_is_the_published_update(name, groups):
    model, recipe = net(), recipe_of(name, groups=groups)
    assert [variable.path for variable in model.trainable_variables] == NAMES
    gradients = draw_gradients(model, len(RATES))
    before, expected = values(model), published(recipe, model, gradients)
    got = run(build_optimizer(recipe, model, Tabulated(RATES), "float32"), model, gradients)
    assert_near(got, expected)
    assert min(np.abs(new - old).max() for new, old in zip(got, before, strict=True)) > 1e-4


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("lamb", "muon")])
def test_ours_does_the_same_as_keras_own(name):
    """Keras's is taken where all weights are trained alike; a group that never freezes anything asks for ours."""
    made = []
    for groups in ((), ({"match": "*", "until_epoch": 1_000},)):
        model, recipe = net(), recipe_of(name, groups=groups, clip_norm=0.5)
        optimizer = build_optimizer(recipe, model, Tabulated(RATES), "float32")
        assert isinstance(optimizer, PerWeight) == bool(groups)
        made.append(run(optimizer, model, draw_gradients(model, len(RATES))))
    assert_near(*made, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion"])
def test_pytorch_updates_all_variables_together_where_keras_own_optimizer_does(name):
    optimizer = build_optimizer(recipe_of(name), net(), 0.1, "float32")
    assert hasattr(optimizer, "_parallel_update_step") == (BACKEND == "torch")


def run_torch(make, initial, gradients):
    torch = pytest.importorskip("torch")
    parameters = [torch.nn.Parameter(torch.tensor(each)) for each in initial]
    optimizer = make(torch.optim, parameters)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return [parameter.detach().numpy() for parameter in parameters]


@pytest.mark.parametrize("groups", [(), ({"match": "*", "until_epoch": 99},)], ids=["keras", "ours"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd momentum", lambda optim, each: optim.SGD(each, 0.1, momentum=0.85)),
        ("sgd nesterov", lambda optim, each: optim.SGD(each, 0.1, momentum=0.85, nesterov=True)),
        ("adam", lambda optim, each: optim.Adam(each, 0.1, betas=(0.8, 0.95), eps=1e-7)),
        ("adamw", lambda optim, each: optim.AdamW(each, 0.1, betas=(0.8, 0.95), eps=1e-7, weight_decay=0.3)),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_it_is_pytorchs_update_at_a_constant_rate(name, make, groups):
    model = net()
    groups = (*groups, {"match": "*", "decay": 1.0})  # as PyTorch does, biases too
    gradients = draw_gradients(model, 5)
    expected = run_torch(make, [each.astype(np.float32) for each in values(model)], gradients)
    got = run(build_optimizer(recipe_of(name, groups=groups), model, 0.1, "float32"), model, gradients)
    assert_near(got, expected)


def test_muon_of_a_matrix_is_pytorchs_up_to_its_bfloat16():
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    model = net()
    gradients = draw_gradients(model, 4)
    index = NAMES.index("inner/kernel")
    (expected,) = run_torch(
        lambda optim, each: optim.Muon(each, 0.1, weight_decay=0.3, momentum=0.9, adjust_lr_fn="original"),
        [values(model)[index].astype(np.float32).T],
        [[step[index].T] for step in gradients],
    )
    got = run(build_optimizer(recipe_of("muon"), model, 0.1, "float32"), model, gradients)[index]
    np.testing.assert_allclose(got, expected.T, atol=0.01)
    assert np.abs(got - values(net())[index]).max() > 0.1


class TestMuon:
    @pytest.mark.parametrize("shape", [(5, 40), (40, 5), (12, 12), (1, 9)])
    def test_it_makes_matrices_nearly_orthogonal(self, shape):
        matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        got = keras.ops.convert_to_numpy(orthogonal(keras.ops.convert_to_tensor(matrix)))
        left, singular, right = np.linalg.svd(matrix, full_matrices=False)
        found = np.diag(left.T @ got @ right.T)  # the same directions
        np.testing.assert_allclose((left * found) @ right, got, atol=1e-4)
        assert found[singular > 0.1 * singular.max()].min() > 0.6
        assert found.max() < 1.3

    def test_each_kernel_is_the_matrix_it_multiplies_by_and_all_else_is_adamws(self):
        inputs = keras.Input((8, 8, 4))
        x = layers.Conv2D(6, (3, 2), name="conv")(inputs)
        x = layers.Conv2D(6, 3, groups=2, name="grouped")(x)
        x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
        x = layers.SeparableConv2D(8, 3, padding="same", name="separable")(x)
        x = layers.Reshape((-1, 8))(x)
        x = x + layers.Embedding(x.shape[1], 8, name="positions")(np.arange(x.shape[1])[None])
        x = layers.MultiHeadAttention(2, 5, name="attention")(x, x)
        x = layers.Dense(9, name="dense")(layers.LayerNormalization()(x))
        model = keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x)))
        optimizer = build_optimizer(recipe_of("muon"), model, 0.1, "float32")
        paths = [variable.path for variable in model.trainable_variables]
        matrices = {path: each for path, each in zip(paths, optimizer.matrices, strict=True) if each}
        assert matrices == {
            "conv/kernel": (3 * 2 * 4, 6),
            "grouped/kernel": (3 * 3 * 3, 6),
            "depthwise/kernel": (9, 12),
            "separable/depthwise_kernel": (9, 12),
            "separable/pointwise_kernel": (12, 8),
            "attention/query/kernel": (8, 10),
            "attention/key/kernel": (8, 10),
            "attention/value/kernel": (8, 10),
            "attention/attention_output/kernel": (10, 8),
            "dense/kernel": (8, 9),
        }

    def test_adamws_share_of_the_rate_is_the_one_that_is_stated(self):
        assert pytest.approx(3e-4 / 0.02) == ADAM_SHARE

    def test_no_squares_are_kept_of_matrices(self):
        model = net()
        optimizer = build_optimizer(recipe_of("muon"), model, 0.1, "float32")
        optimizer.build(model.trainable_variables)
        kept = sum(int(np.prod(each.shape)) for each in optimizer.variables)
        weights = [int(np.prod(each.shape)) for each in model.trainable_variables]
        matrices = sum(weights[NAMES.index(name)] for name in ("first/kernel", "second/kernel", "inner/kernel"))
        assert kept == 2 * sum(weights) - matrices + 2  # and the step, and the rate


def test_lamb_leaves_a_weight_of_zero_to_adam():
    model, recipe = net(), recipe_of("lamb")
    model.get_layer("inner").kernel.assign(np.zeros(model.get_layer("inner").kernel.shape))
    gradients = draw_gradients(model, 1)
    got = run(build_optimizer(recipe, model, 0.1, "float32"), model, gradients)
    index = NAMES.index("inner/kernel")
    np.testing.assert_allclose(got[index], -0.1 * np.sign(gradients[0][index]), rtol=1e-3)


@pytest.mark.parametrize("name", ["sgd nesterov", "lamb", "muon"])
@pytest.mark.parametrize("groups", [ALIKE, UNLIKE], ids=["alike", "unlike"])
def test_gradients_are_clipped_by_their_norm_over_all_weights(name, groups):
    model, recipe = net(), recipe_of(name, groups=groups, clip_norm=0.5)
    gradients = draw_gradients(model, len(RATES))
    clipped = [[each * 0.5 / np.sqrt(sum((other**2).sum() for other in step)) for each in step] for step in gradients]
    expected = published(recipe, model, clipped)
    assert_near(run(build_optimizer(recipe, model, Tabulated(RATES), "float32"), model, gradients), expected)


FREEZING = ({"match": "backbone", "from_epoch": 2.0},)


@pytest.mark.parametrize("name", RECIPES)
class TestFrozenWeights:
    def test_they_neither_learn_nor_decay(self, name):
        model, recipe = net(), recipe_of(name, groups=FREEZING)
        optimizer = build_optimizer(recipe, model, Tabulated(RATES), "float32")
        train_only(optimizer, {HEAD})
        before = values(model)
        got = run(optimizer, model, draw_gradients(model, 3), trained={HEAD})
        for index, (old, new) in enumerate(zip(before, got, strict=True)):
            assert np.array_equal(old, new) == (index != HEAD)

    def test_once_trained_they_start_as_if_it_were_the_first_step(self, name):
        """What the optimizer keeps of them is untouched, and Adam's bias correction counts their own updates."""
        model, recipe = net(), recipe_of(name, groups=FREEZING)
        optimizer = build_optimizer(recipe, model, 0.1, "float32")
        train_only(optimizer, {HEAD})
        run(optimizer, model, draw_gradients(model, 3, seed=5), trained={HEAD})
        train_only(optimizer, range(len(NAMES)))
        gradients = draw_gradients(model, 2)
        expected = published(recipe, model, gradients, rates=[0.1, 0.1])
        got = run(optimizer, model, gradients)
        assert_near(got[:HEAD], expected[:HEAD])


def test_freezing_needs_a_recipe_that_freezes():
    model = net()
    optimizer = build_optimizer(recipe_of("adamw"), model, 0.1, "float32")
    optimizer.build(model.trainable_variables)
    train_only(optimizer, range(len(NAMES)))
    with pytest.raises(ValueError, match="the recipe's groups say which weights are frozen"):
        train_only(optimizer, {HEAD})


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_loss_scaling_undoes_its_scale_and_skips_what_is_not_finite(name):
    model, recipe = net(), recipe_of(name, groups=FREEZING)
    optimizer = build_optimizer(recipe, model, 0.1, "mixed_float16")
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    train_only(optimizer, range(len(NAMES)))
    gradients = draw_gradients(model, 2)
    expected = published(recipe, model, gradients, rates=[0.1, 0.1])
    scaled = [
        [each * np.float32(scale) for each in step] for step, scale in zip(gradients, (2**15, 2**14), strict=True)
    ]
    infinite = [np.full_like(each, np.inf) for each in gradients[0]]
    got = run(optimizer, model, [scaled[0], infinite, scaled[1]])
    assert_near(got, expected)
    assert int(optimizer.inner_optimizer.iterations) == 2


def test_a_group_that_matches_nothing_is_a_usage_error():
    with pytest.raises(UsageError, match="is none of the model's trainable weights"):
        build_optimizer(recipe_of("sgd", groups=({"match": "*/betta", "rate": 2.0},)), net(), 0.1, "float32")


DISTRIBUTED = """
import sys
import numpy as np
from bench.backends import tensorflow as backend
from bench.environment import Device
backend.prepare_process(Device("CPU", "a processor"), 2)
import tensorflow as tf
from tests import test_optimizers as tests
from bench.backends.tensorflow import _sum_before_clipping, replicated
from bench.optimizers import build_optimizer

for name in ("sgd nesterov", "adamw", "lamb", "lion", "muon"):
    recipe = tests.recipe_of(name, groups=(*tests.UNLIKE, *tests.FREEZING), clip_norm=0.5)
    alone = tests.net()
    gradients = tests.draw_gradients(alone, len(tests.RATES))
    expected = tests.run(build_optimizer(recipe, alone, tests.Tabulated(tests.RATES), "float32"), alone, gradients)
    with replicated(2):
        model = tests.net()
        optimizer = build_optimizer(recipe, model, tests.Tabulated(tests.RATES), "float32")
        optimizer.build(model.trainable_variables)
        _sum_before_clipping(optimizer)
        strategy = tf.distribute.get_strategy()
        assert strategy.num_replicas_in_sync == 2

        @tf.function(autograph=False)
        def step(gradients):
            strategy.run(lambda: optimizer.apply(gradients, model.trainable_variables))

        for each in gradients:
            step([tf.constant(gradient) for gradient in each])
        tests.assert_near(tests.values(model), expected, rtol=1e-5)
        for variable in model.trainable_variables:
            one, other = (each.numpy() for each in variable.value.values)
            np.testing.assert_array_equal(one, other)
print("alike")
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a MirroredStrategy is TensorFlow's")
def test_several_devices_of_tensorflow_do_what_one_does():
    ended = subprocess.run(
        [sys.executable, "-c", DISTRIBUTED],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.strip().endswith("alike"), ended.stderr[-3000:]
