"""What a recipe may ask of a training: averages, frozen weights, mixed images, rates of their own, parts of epochs.

On whichever backend Keras runs (KERAS_BACKEND).
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from bench.api import Split
from bench.backends.interface import Averaging, Tuning
from bench.data.augmentation import Allowed
from bench.data.draws import Mix
from bench.data.pipeline import Block, TrainingData
from bench.data.splits import everything
from bench.events import Epoch, Resumed
from bench.recipes import resolve_recipe
from bench.training import skipped_steps, train
from tests.stepping import make_steps
from tests.test_checkpoints import Part, assert_same, interrupted, scores
from tests.test_checkpoints import data as checkpoint_data

SHAPE = (4, 4, 1)
PLAIN = {
    "crop_padding": 0.0,
    "flip": False,
    "batch_size": 8,
    "warmup": 0.0,
    "schedule": "constant",
    "clip_norm": 0.0,
    "label_smoothing": 0.0,
}
SGD = {"optimizer": "sgd", "weight_decay": 0.0, "momentum": 0.0, "learning_rate": 0.1}
BACKBONE = ["body/kernel", "norm/gamma", "norm/beta"]
HEAD = ["head/kernel", "head/bias"]
STATISTICS = ["norm/moving_mean", "norm/moving_variance"]


def net(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(SHAPE)
    x = keras.layers.Dense(6, use_bias=False, name="body")(keras.layers.Flatten()(inputs))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.8, name="norm")(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="head", dtype="float32")(x))


def linear():
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(keras.layers.Flatten()(inputs)))


def recipe_of(**overrides):
    return resolve_recipe("standard", {**PLAIN, **overrides})


def data(count=40, **overrides):
    labels = np.arange(count) % 3
    noise = np.random.default_rng(0).integers(0, 60, (count, *SHAPE))
    images = (labels[:, None, None, None] * 80 + noise).astype(np.uint8)
    return TrainingData(everything(Split(images, labels)), SHAPE, recipe_of(**overrides), Allowed(), 0)


def prepared(source, model, **options):
    """Return the steps, optimizer and schedule of a model, for all of a recipe's training."""
    return make_steps(model, source.recipe, total_steps=source.recipe.total_steps(len(source.subset)), **options)


def trained(source, model, validation=None, **options):
    """Train to the end. Returns the result, the epochs, and the weights before, and after each epoch."""
    steps, optimizer, schedule = prepared(source, model, **options)
    seen, epochs = [state_of(steps, model, optimizer)], []

    def report(event):
        if isinstance(event, Epoch):
            epochs.append(event)
            seen.append(state_of(steps, model, optimizer))

    result = train(steps, schedule, source, validation, report)
    steps.finish()
    return result, epochs, seen


def names_of(model):
    """Return what a snapshot calls each of a model's variables, by path."""
    if keras.backend.backend() != "jax":
        return {each.path: f"model.{number}" for number, each in enumerate(model.variables)}
    parts = {"trainable": model.trainable_variables, "others": model.non_trainable_variables}
    return {each.path: f"{name}.{n}" for name, part in parts.items() for n, each in enumerate(part)}


def weights_of(steps, model):
    arrays = dict(steps.snapshot())
    return {path: arrays[name].copy() for path, name in names_of(model).items()}


def state_of(steps, model, optimizer):
    """Return weights, and what the optimizer keeps of each, by path."""
    arrays = dict(steps.snapshot())
    kept = {each.path: arrays[f"optimizer.{number}"].copy() for number, each in enumerate(optimizer.variables)}
    return {**weights_of(steps, model), **kept}


def of(state, path):
    """Return the arrays of a weight: its own, and what the optimizer keeps of it."""
    slot = path.replace("/", "_")
    return {name: array for name, array in state.items() if name == path or slot in name}


def give(steps, model, values):
    """Let training go on from these weights."""
    names = names_of(model)
    steps.restore({**dict(steps.snapshot()), **{names[path]: value for path, value in values.items()}})


def blocks(source):
    """Yield all single steps of a recipe's training."""
    left = source.recipe.total_steps(len(source.subset))
    epoch = 0
    while left:
        for block in source.epoch(epoch, 1, stop=left):
            left -= block.steps
            yield block
        epoch += 1


def assert_close(found, expected):
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-4, atol=1e-6, err_msg=path)


# ---- averages of weights


def kept(kind, number, every, decay, total):
    """Return what is kept of the average at a step, counted from 1, as its paper says."""
    if kind == "lookahead":
        return decay * (number / total) ** 3
    updates = number // every
    return min(decay, (1 + updates) / (10 + updates))


@pytest.mark.parametrize(
    ("kind", "every", "decay"), [("ema", 1, 0.3), ("ema", 3, 0.9), ("lookahead", 1, 0.9), ("lookahead", 3, 0.95)]
)
def test_the_average_is_that_of_numpy_and_lookahead_goes_on_from_it(kind, every, decay):
    """Statistics of batch normalisation too. The reference takes plain steps, from wherever NumPy says to go on."""
    source, model, reference = data(epochs=1.5, **SGD), net(), net()
    total = source.recipe.total_steps(len(source.subset))
    steps, *_ = prepared(source, model, averaging=Averaging(kind, every, decay, total))
    plain, *_ = prepared(source, reference)
    average = weights_of(plain, reference)
    assert {*average} == {*BACKBONE, *STATISTICS, *HEAD}
    for number, block in enumerate(blocks(source), 1):
        losses = [each.train(each.place(block)).result()[0] for each in (steps, plain)]
        np.testing.assert_allclose(*losses, rtol=1e-4)
        now = weights_of(plain, reference)
        if number % every == 0:
            keeps = kept(kind, number, every, decay, total)
            average = {path: keeps * old + (1 - keeps) * now[path] for path, old in average.items()}
            if kind == "lookahead":
                give(plain, reference, average)
                now = average
        assert_close(weights_of(steps, model), now)
    assert number == total == 8
    steps.settle()
    assert_close(weights_of(steps, model), average)
    give(plain, reference, average)
    images = source.subset.split.images
    np.testing.assert_allclose(steps.predict(images), plain.predict(images), rtol=1e-3, atol=1e-4)
    moved = [path for path in average if np.abs(average[path] - now[path]).max() > 1e-4]
    went_on_from_it = kind == "lookahead" and total % every == 0
    assert moved == ([] if went_on_from_it else [*average])


def test_the_last_epoch_is_validated_with_the_average_and_ends_with_it():
    source, model = data(epochs=2, **SGD), net()
    averaging = Averaging("ema", 1, 0.9, 10)
    _, epochs, seen = trained(source, model, everything(source.subset.split), averaging=averaging)
    logits = keras.ops.convert_to_numpy(model(source.subset.split.images.astype(np.float32) / 128 - 1))
    loss = -log_softmax(logits, axis=1)[np.arange(40), source.subset.split.labels].mean()
    assert epochs[-1].validation_loss == pytest.approx(loss, rel=1e-3)
    without, _, plain = trained(source, net())
    assert_close(
        seen[1], {path: plain[1][path] for path in (*BACKBONE, *STATISTICS, *HEAD)}
    )  # beside the average, training went on as without one
    assert np.abs(seen[2]["body/kernel"] - plain[2]["body/kernel"]).max() > 1e-3
    assert without.steps == 10


def test_without_averages_nothing_takes_their_place():
    source, model = data(epochs=1, **SGD), net()
    steps, *_ = prepared(source, model)
    before = weights_of(steps, model)
    steps.settle()
    assert_same(before, weights_of(steps, model))


# ---- weights that are frozen for some epochs

ADAMW = {"optimizer": "adamw", "weight_decay": 0.1, "learning_rate": 0.01, "l2": 0.01}
THAWED = [{"match": "backbone", "from_epoch": 1.0}]
AND_FROZEN = [*THAWED, {"match": "head", "until_epoch": 2.0}]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion", "lamb", "muon"])
def test_frozen_weights_stay_to_the_bit_and_so_does_what_the_optimizer_keeps_of_them(optimizer):
    own = {**SGD, "momentum": 0.9, "l2": 0.01} if optimizer == "sgd" else {**ADAMW, "optimizer": optimizer}
    source, model = data(epochs=3, groups=AND_FROZEN, **own), net()
    result, epochs, seen = trained(source, model)
    start, first, second, third = seen
    for path in BACKBONE:
        assert len(of(start, path)) > 1, path
        assert_same(of(start, path), of(first, path))
    for path in HEAD:
        assert_same(of(second, path), of(third, path))
    moving = [(start, first, HEAD), (first, second, [*BACKBONE, *HEAD]), (second, third, BACKBONE)]
    for before, after, paths in moving:
        for path in paths:
            assert all((before[name] != after[name]).any() for name in of(before, path)), path
    assert [(each.epoch, each.steps) for each in epochs] == [(1, 5), (2, 10), (3, 15)]
    assert (result.epochs, result.steps) == (3, 15)


def test_each_phase_is_compiled_once_and_its_first_step_is_not_timed():
    source = data(epochs=3, groups=AND_FROZEN, **ADAMW)
    steps, _, schedule = prepared(source, net())
    result = train(steps, schedule, source, None, lambda _: None)
    assert result.retraced == 0
    assert steps.compilations() == (0 if keras.backend.backend() == "torch" else 3)
    assert sum(block.images for block in result.blocks) == (15 - 3) * 8
    assert result.first_step_seconds > 0


def test_a_phase_that_comes_again_is_not_compiled_again():
    source = data(epochs=4, groups=[{"match": "*/beta", "from_epoch": 1.0, "until_epoch": 2.0}], **ADAMW)
    steps, _, schedule = prepared(source, net())
    assert len(schedule.phases) == 3
    result = train(steps, schedule, source, None, lambda _: None)
    assert result.retraced == 0
    assert steps.compilations() == (0 if keras.backend.backend() == "torch" else 2)
    assert sum(block.images for block in result.blocks) == (20 - 2) * 8


def test_statistics_of_batch_normalisation_are_never_frozen():
    source, model = data(epochs=1, groups=[{"match": "body/*", "from_epoch": 5.0}], **SGD), net()
    _, _, (start, end) = trained(source, model)
    np.testing.assert_array_equal(start["body/kernel"], end["body/kernel"])
    assert all((start[path] != end[path]).any() for path in (*BACKBONE[1:], *HEAD, *STATISTICS))


# ---- images that are mixed


def gradient_of(weights, images, labels, others, share, smoothing):
    """Return the loss of mixed float images (N, features) under `linear`, and its gradient, in NumPy."""
    kernel, bias = (weights[path].astype(np.float64) for path in HEAD)
    logits = images @ kernel + bias
    hard = share[:, None] * np.eye(3)[labels] + (1 - share[:, None]) * np.eye(3)[others]
    target = (1 - smoothing) * hard + smoothing / 3
    slope = (softmax(logits, axis=1) - target) / len(labels)
    return -(target * log_softmax(logits, axis=1)).sum(axis=1).mean(), (images.T @ slope, slope.sum(axis=0))


def mixed_in_numpy(images, mix):
    ended = []
    for number, (partner, share, (top, left, bottom, right)) in enumerate(zip(*mix, strict=True)):
        image = images[number].copy()
        if bottom > top and right > left:
            image[top:bottom, left:right] = images[partner][top:bottom, left:right]
        else:
            image = share * image + (1 - share) * images[partner]
        ended.append(image)
    return np.stack(ended)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_step_on_mixed_images_is_that_of_numpy(smoothing):
    """Some averaged, some with a part of another, some as they are; labels by their shares."""
    random = np.random.default_rng(1)
    images, labels = random.integers(0, 256, (6, *SHAPE), np.uint8), np.array([0, 1, 2, 0, 1, 2], np.int32)
    partner = np.array([1, 0, 3, 2, 5, 4], np.int32)
    share = np.array([0.3, 0.9, 0.75, 0.5, 1.0, 0.25], np.float32)
    box = np.array([[0, 0, 0, 0], [1, 1, 1, 3], [0, 0, 2, 2], [1, 0, 3, 4], [2, 2, 2, 2], [0, 1, 4, 4]], np.int32)
    model = linear()
    steps, *_ = make_steps(model, recipe_of(epochs=1, label_smoothing=smoothing, **SGD))
    before = weights_of(steps, model)
    block = Block(images[None], labels[None], Mix(partner[None], share[None], box[None]))
    losses, _ = steps.train(steps.place(block)).result()
    seen = mixed_in_numpy(images.astype(np.float64) / 128 - 1, (partner, share, box)).reshape(6, -1)
    loss, slopes = gradient_of(before, seen, labels, labels[partner], share.astype(np.float64), smoothing)
    assert losses[0] == pytest.approx(loss, rel=1e-5)
    after = weights_of(steps, model)
    assert_close(after, {path: before[path] - 0.1 * slope for path, slope in zip(HEAD, slopes, strict=True)})


@pytest.mark.parametrize("mix", [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}])
def test_a_training_on_mixed_images_learns(mix):
    source = data(count=44, epochs=6, drop_remainder=False, **{**ADAMW, "l2": 0.0}, **mix)
    assert all(block.mix is not None for block in blocks(source))
    _, epochs, _ = trained(source, net(), everything(source.subset.split))
    assert epochs[-1].validation_loss < epochs[0].validation_loss
    assert epochs[-1].validation_accuracy > 0.5


# ---- rates of their own


def test_each_group_has_its_own_rate():
    groups = [{"match": "*/bias", "rate": 4.0}, {"match": "*/kernel", "rate": 0.5}]
    source = data(count=8, epochs=1, **SGD)
    model = linear()
    (block,) = blocks(source)
    steps, *_ = prepared(data(count=8, epochs=1, groups=groups, **SGD), model)
    before = weights_of(steps, model)
    steps.train(steps.place(block)).result()
    images, labels = block.inputs[0].reshape(8, -1) / 128.0 - 1, block.labels[0]
    _, (kernel, bias) = gradient_of(before, images, labels, labels, np.ones(8), 0.0)
    expected = {"head/kernel": before["head/kernel"] - 0.05 * kernel, "head/bias": before["head/bias"] - 0.4 * bias}
    assert_close(weights_of(steps, model), expected)


# ---- a training that ends within an epoch


@pytest.mark.parametrize(
    ("overrides", "count", "ends"),
    [
        ({"epochs": 2.5}, 40, [5, 10, 13]),
        ({"epochs": 2.5, "drop_remainder": False}, 44, [6, 12, 15]),
        ({"epochs": 0.2}, 40, [1]),
        ({"epochs": 1.0, "min_steps": 7}, 40, [5, 10]),  # whole epochs, as before
    ],
)
def test_a_part_of_an_epoch_is_trained_and_reported_as_one(overrides, count, ends):
    source = data(count=count, schedule="cosine", optimizer="adamw", weight_decay=0.0, **overrides)
    steps, optimizer, schedule = prepared(source, net(), steps_per_block=2)
    events = []
    result = train(steps, schedule, source, everything(source.subset.split), events.append)
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert [each.steps for each in epochs] == ends
    assert [each.epoch for each in epochs] == [*range(1, len(ends) + 1)]
    assert [each.learning_rate for each in epochs] == [pytest.approx(schedule.rates[end - 1]) for end in ends]
    assert result.steps == ends[-1] == len(schedule.rates)
    assert result.epochs == pytest.approx(ends[-1] / source.recipe.steps_per_epoch(count))
    assert int(keras.ops.convert_to_numpy(iterations(steps, optimizer))) == ends[-1]
    last = [event for event in events if not isinstance(event, Epoch)][-1]
    assert last.step == last.steps == ends[-1] - (ends[-2] if len(ends) > 1 else 0)
    assert epochs[-1].validation_accuracy == result.validation_accuracy


def iterations(steps, optimizer):
    steps.finish()
    return optimizer.iterations


# ---- what is saved of all that


@pytest.mark.parametrize(("kind", "cut"), [("ema", [2]), ("lookahead", [4, 3]), ("none", [7])])
def test_averages_and_phases_go_on_to_the_bit(kind, cut, tmp_path):
    """60 images make 7 steps of 8 and one of 4 an epoch; the body is frozen in the first of two and a half."""
    groups = [{"match": "backbone", "from_epoch": 1.0}, {"match": "head", "rate": 2.0}]
    source = checkpoint_data(epochs=2.5, groups=groups, mixup=0.4, weight_decay=0.1)
    averaging = None if kind == "none" else Averaging(kind, 3, 0.9, source.recipe.total_steps(60))
    whole = Part(source, None, averaging=averaging)
    result = whole.run()
    last, continued = interrupted(source, tmp_path, cut, averaging=averaging)
    assert_same(whole.state(), last.state())
    assert scores([*last.of(Resumed)[0].history, *last.of(Epoch)]) == scores(whole.of(Epoch))
    assert continued.validation_accuracy == result.validation_accuracy
    assert (continued.steps, continued.epochs) == (20, 2.5)
    assert continued.retraced == 0


# ---- on a GPU, a call runs several steps, under XLA


@pytest.mark.parametrize("kind", ["ema", "lookahead"])
def test_steps_in_one_call_end_as_one_by_one(kind):
    source = data(epochs=2.4, groups=THAWED, mixup=0.3, **ADAMW)
    averaging = Averaging(kind, 2, 0.9, 12)
    ended = []
    for tuning in (Tuning(False, 1, 1, False), Tuning(True, 4, 4, keras.backend.backend() == "jax")):
        model = net()
        result, _, seen = trained(source, model, averaging=averaging, tuning=tuning)
        assert (result.steps, result.retraced) == (12, 0)
        ended.append({path: seen[-1][path] for path in (*BACKBONE, *STATISTICS, *HEAD)})
    assert_close(*ended)


def test_steps_after_the_end_do_no_harm():
    """The speed of a step is measured with more of them."""
    source, model = data(epochs=1, **SGD), net()
    steps, *_ = prepared(source, model, averaging=Averaging("lookahead", 1, 0.99, 5))
    (block, *_) = blocks(source)
    placed = steps.place(block)
    assert all(np.isfinite(steps.train(placed).result()[0]).all() for _ in range(60))


# ---- float16


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_float16_scales_the_loss_for_frozen_and_averaged_weights_too(optimizer):
    own = {**SGD, "momentum": 0.9} if optimizer == "sgd" else {**ADAMW, "l2": 0.0, "optimizer": optimizer}
    source = data(epochs=10, groups=THAWED, **own)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = net()
        averaging = Averaging("ema", 1, 0.5, 50)
        steps, scaled, schedule = prepared(source, model, precision="mixed_float16", averaging=averaging)
        seen, losses = [weights_of(steps, model)], []

        def report(event):
            if isinstance(event, Epoch):
                seen.append(weights_of(steps, model))
                losses.append(event.train_loss)

        result = train(steps, schedule, source, None, report)
        steps.finish()
    finally:
        keras.config.set_dtype_policy("float32")
    assert_same({path: seen[0][path] for path in BACKBONE}, {path: seen[1][path] for path in BACKBONE})
    assert all((seen[1][path] != seen[-1][path]).any() for path in BACKBONE)
    assert losses[-1] < losses[0]
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
    assert skipped_steps(scaled, result.steps) < 25
