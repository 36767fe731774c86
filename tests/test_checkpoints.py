"""A training that is interrupted ends as one that is not; what is in a file that does not fit does no harm.

The tests marked so run on each backend, in a process of its own where it is not the one of this process.
"""

import errno
import importlib.util
import json
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import time
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from bench.api import Split
from bench.atomic import process_tag
from bench.checkpoints import Keeper, Past, Progress, read, write
from bench.data.augmentation import Allowed
from bench.data.pipeline import TrainingData
from bench.data.splits import everything
from bench.data.tfds import load_jpegs
from bench.environment import BACKENDS
from bench.errors import StoppedError
from bench.events import Epoch, Resumed, Saved, Step
from bench.measurement.windows import TimedBlock
from bench.recipes import resolve_recipe
from bench.stopping import StopRequest
from bench.training import train
from tests.stepping import make_steps

HERE = keras.backend.backend()
SHAPE = (8, 8, 3)
EVERYTHING = {  # what has a state, and what is drawn
    "optimizer": "adamw",
    "schedule": "cosine",
    "warmup": 0.2,
    "crop_padding": 0.25,
    "flip": True,
    "label_smoothing": 0.1,
    "batch_size": 8,
    "epochs": 3,
    "drop_remainder": False,
}


def net(seed=0, dtype=None):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3, use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    x = keras.layers.Dense(5, dtype=dtype)(x)
    return keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(x))


def data(count=60, **overrides):
    labels = np.arange(count) % 3
    images = np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)
    recipe = resolve_recipe("standard", {**EVERYTHING, **overrides})
    return TrainingData(everything(Split(images, labels)), SHAPE, recipe, Allowed(flip=True), 0)


class Part:
    """One process's part of a training: a model of its own, and what was reported."""

    def __init__(self, source, folder, *, stop_after=None, seconds=0.0, build=net, seed=0, validate=True, **options):
        self.source, self.stop, self.events = source, StopRequest(), []
        self.stop_after, self.seen = stop_after, 0
        self.model = build(seed)
        total = source.recipe.total_steps(len(source.subset))
        self.steps, self.optimizer, self.schedule = make_steps(self.model, source.recipe, total_steps=total, **options)
        path = folder / "checkpoint.npz" if folder else None
        self.keeper = Keeper(path, "key", seconds, send=self.events.append, stop=self.stop)
        self.validation = everything(Split(source.subset.split.images[:20], np.arange(20) % 3)) if validate else None

    def report(self, event):
        self.events.append(event)
        self.seen += isinstance(event, Step)
        if self.stop_after is not None and self.seen >= self.stop_after:
            self.stop.requested = True

    def run(self):
        return train(self.steps, self.schedule, self.source, self.validation, self.report, keeper=self.keeper)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def state(self):
        return {name: array.copy() for name, array in self.steps.snapshot()}


def interrupted(source, folder, blocks, **options):
    """Train in parts: one for each number of blocks, and the last to the end."""
    for seed, count in enumerate(blocks):
        part = Part(source, folder, stop_after=count, seed=seed, seconds=3_600, **options)
        with pytest.raises(StoppedError):
            part.run()
    last = Part(source, folder, seed=99, seconds=3_600, **options)
    return last, last.run()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def scores(history):
    return [
        (e.epoch, e.steps, e.train_loss, e.train_accuracy, e.validation_loss, e.validation_accuracy) for e in history
    ]


# 60 images make 7 steps of 8 and one of 4 an epoch: blocks of 1, 4, 1, 1, 1 steps, then 4, 1, 1, 1, 1
@pytest.mark.parametrize(
    ("blocks", "overrides"),
    [
        pytest.param([2], {}, id="middle"),
        pytest.param([5], {}, id="end"),  # of an epoch, before its validation
        pytest.param([8], {"drop_remainder": True}, id="whole_batches"),
        pytest.param([1, 1, 3, 2], {}, id="often"),  # also right after it was continued
        pytest.param([3], {"optimizer": "sgd", "weight_decay": 0.0, "l2": 1e-3, "schedule": "constant"}, id="sgd"),
    ],
)
def test_an_interrupted_training_ends_exactly_as_another(blocks, overrides, tmp_path):
    """On each backend."""
    source = data(**overrides)
    whole = Part(source, None)
    result = whole.run()
    last, continued = interrupted(source, tmp_path, blocks)
    assert_same(whole.state(), last.state())
    history = [*last.of(Resumed)[0].history, *last.of(Epoch)]
    assert scores(history) == scores(whole.of(Epoch))
    assert (continued.steps, continued.epochs) == (result.steps, result.epochs)
    assert continued.validation_accuracy == result.validation_accuracy
    for part in (whole, last):
        part.steps.finish()
    for one, other in zip(whole.model.variables, last.model.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), one.path)
    assert len(continued.past.continued_at) == len(blocks)
    assert continued.past.continued_at == tuple(sorted(continued.past.continued_at))


@pytest.mark.parametrize("stop_after", [1, 7, 24])
def test_saving_after_each_block_changes_nothing_and_any_file_will_do(stop_after, tmp_path):
    """On each backend. Blocks are single steps."""
    source = data()
    whole = Part(source, None, steps_per_block=1)
    whole.run()
    part = Part(source, tmp_path, stop_after=stop_after, steps_per_block=1)
    with pytest.raises(StoppedError):
        part.run()
    assert {event.step for event in part.of(Saved)} == {*range(1, stop_after + 1)}
    last = Part(source, tmp_path, seed=1, steps_per_block=1)
    last.run()
    assert_same(whole.state(), last.state())


def test_seed_generators_are_part_of_the_state_although_save_weights_leaves_them_out(tmp_path):
    """On each backend."""
    part = Part(data(), tmp_path)
    (dropout,) = [layer for layer in part.model.layers if isinstance(layer, keras.layers.Dropout)]
    state = dropout.seed_generator.state
    assert not any(state is weight for weight in part.model.weights)
    assert any(state is variable for variable in part.model.variables)
    part.run()
    part.steps.finish()
    saved = read(tmp_path / "checkpoint.npz", "key")[1]
    value = keras.ops.convert_to_numpy(state)
    assert any(array.shape == value.shape and (array == value).all() for array in saved.values())
    assert value[1] > 0 or HERE == "torch"  # it has drawn; PyTorch's dropout draws from PyTorch's own generator


@pytest.mark.skipif(HERE == "jax", reason="JAX needs a seed generator in each layer")
def test_the_generator_that_keras_draws_from_without_a_seed_goes_on(tmp_path):
    """On each backend."""

    class Noise(keras.layers.Layer):
        def call(self, x, training=False):
            return x + keras.random.normal(keras.ops.shape(x)) if training else x

    def build(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(SHAPE)
        return keras.Model(inputs, keras.layers.Dense(3)(Noise()(keras.layers.Flatten()(inputs))))

    source = data()
    whole = Part(source, None, build=build)
    whole.run()
    expected = whole.state()
    last, _ = interrupted(source, tmp_path, [3], build=build)
    assert "seeds.0" in expected
    assert_same(expected, last.state())


@pytest.mark.skipif(HERE != "torch", reason="of PyTorch")
def test_what_pytorch_draws_and_keeps_by_itself_goes_on(tmp_path):
    """On each backend."""
    import torch

    class Own(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(8 * 8 * 3)

        def call(self, x, training=False):
            return torch.nn.functional.dropout(self.norm.train(training)(x), 0.5, training)

    def build(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(SHAPE)
        return keras.Model(inputs, keras.layers.Dense(3)(Own()(keras.layers.Flatten()(inputs))))

    source = data(drop_remainder=True)
    whole = Part(source, None, build=build)
    whole.run()
    expected = whole.state()
    last, _ = interrupted(source, tmp_path, [3], build=build)
    assert any(name.startswith("buffers.") for name in expected)
    assert_same(expected, last.state())


def test_weights_in_bfloat16_and_the_scale_of_float16_go_on_exactly(tmp_path):
    """On each backend."""
    source = data(epochs=2)
    build, options = (lambda seed: net(seed, "bfloat16")), {"precision": "mixed_float16"}
    whole = Part(source, None, build=build, **options)
    whole.run()
    last, _ = interrupted(source, tmp_path, [4], build=build, **options)
    assert {variable.dtype for variable in last.model.variables} >= {"bfloat16", "float32"}
    assert_same(whole.state(), last.state())
    assert isinstance(last.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.parametrize("backend", sorted({*BACKENDS} - {HERE}))
def test_the_other_backends_do_the_same(backend):
    if importlib.util.find_spec(BACKENDS[backend].package) is None:
        pytest.skip(f"{BACKENDS[backend].title} is not installed: {BACKENDS[backend].install}")
    tests = [
        test_an_interrupted_training_ends_exactly_as_another.__name__ + "[often]",
        test_an_interrupted_training_ends_exactly_as_another.__name__ + "[end]",
        test_the_generator_that_keras_draws_from_without_a_seed_goes_on.__name__,
        test_what_pytorch_draws_and_keeps_by_itself_goes_on.__name__,
        test_weights_in_bfloat16_and_the_scale_of_float16_go_on_exactly.__name__,
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *(f"{__file__}::{name}" for name in tests)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5_000:]
    assert f"{5 if backend == 'torch' else 3 if backend == 'jax' else 4} passed" in ended.stdout


@pytest.mark.parametrize("source", [data(), data(drop_remainder=True), data(count=64)])
def test_an_epoch_goes_on_from_any_step_as_it_would_have(source):
    count = source.recipe.steps_per_epoch(len(source.subset))
    whole = flat(source.epoch(1, 3))
    assert len(whole) == count
    for start in range(count + 1):
        assert_same_steps(flat(source.epoch(1, 3, first_block=1, start=start)), whole[start:])


def test_so_does_an_epoch_of_stored_jpegs(tmp_path):
    from tests.test_jpeg import jpegs

    images = {"train": jpegs.examples(45, 10), "validation": jpegs.examples(10, 10, seed=1)}
    jpegs.write(tmp_path, images, 10, 2)
    splits = load_jpegs("imagenet2012", tmp_path, lambda *_: None, (48, 48, 3), test="validation")
    recipe = resolve_recipe("standard", {**EVERYTHING, "batch_size": 10})
    source = TrainingData(everything(splits.train), (48, 48, 3), recipe, Allowed(flip=True), 0)
    whole = flat(source.epoch(1, 2))
    assert len(whole) == 5
    for start in (1, 4, 5):
        assert_same_steps(flat(source.epoch(1, 2, first_block=1, start=start)), whole[start:])


def flat(blocks):
    return [step for block in blocks for step in zip(block.inputs, block.labels, strict=True)]


def assert_same_steps(one, other):
    assert len(one) == len(other)
    for (images, labels), (others, due) in zip(one, other, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, due)


# ---- whole trials, in processes that are killed

DROPOUT_NET = '''"""A tiny net with dropout."""
import keras
from bench.api import Architecture

INFO = Architecture()


def build(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(num_classes)(x))
'''

KILLED = """
import json, os, signal, sys, time
from pathlib import Path
import bench.execution.trial as trials
from bench.atomic import process_tag
from bench.backends.interface import load_backend
from bench.data.cache import DataSource, prepare
from bench.environment import Device
from bench.errors import StoppedError
from bench.execution.job import TrialJob
from bench.execution.planning import Trial
from bench.plugins import discover
from bench.recipes import resolve_recipe
from bench.spec import PluginSpec, TrialSpec

backend, folder, plugins = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
load_backend(backend)  # touches no device: what is forked may use one


def spec_of(choice):
    about = choice.plugin
    return PluginSpec(name=about.name, label=choice.label, parameters=choice.parameters, source_hash=about.source_hash)


architecture = discover("architecture", [plugins]).choose("dropout_net")
dataset = discover("dataset", [plugins]).choose("tiny_data")
source = DataSource(dataset, folder, folder / "cache")
prepared = prepare(source, lambda *_: None)
recipe = resolve_recipe("standard", {"epochs": 60, "batch_size": 8, "min_steps": 0})
spec = TrialSpec(
    architecture=spec_of(architecture), dataset=spec_of(dataset), data_fingerprint=prepared.info.fingerprint,
    recipe=recipe, precision="float32", backend=backend, seed=0,
)
trial = Trial(spec, architecture.plugin, source, prepared)


def run(name, checkpoint, number=0, line="", times=1):
    # Run the trial in a fork, which is sent the signal when it has sent such a line so many times.
    (folder / name).mkdir()
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        def send(event):
            os.write(theirs, f"{event!r}\\n".encode())
            time.sleep(0.02 if number else 0)  # so that the signal finds it training

        work(folder / name, checkpoint, send)
        os._exit(0)
    os.close(theirs)
    with open(ours) as events:
        for event in events:
            times -= event.startswith(line)
            if number and not times:
                os.kill(child, number)
                number = 0
    (folder / name / "status").write_text(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))


def work(attempt, checkpoint, send):
    job = TrialJob(
        trial, Device("CPU", "a processor"), attempt, "float32",
        checkpoint=checkpoint, checkpoint_seconds=0, checkpoint_key="key",
    )
    try:
        outcome = trials.run_trial(job, send)
    except StoppedError as error:
        (attempt / "stopped").write_text(str(error))
    else:
        (attempt / "outcome.json").write_text(json.dumps(vars(outcome), default=str))


state = folder / "state" / "checkpoint.npz"
run("whole", None)
run("killed", state, signal.SIGKILL, "Saved", times=12)
run("loading", state, signal.SIGTERM, "Phase(name='loading')")
run("stopped", state, signal.SIGTERM, "Saved", times=8)
run("evaluating", state, signal.SIGTERM, "Phase(name='evaluating')")
run("continued", state)
"""


def test_a_killed_trial_ends_exactly_as_another_and_its_record_says_so(plugins, tmp_path):
    (plugins / "architectures" / "dropout_net.py").write_text(DROPOUT_NET)
    script = [sys.executable, "-c", KILLED, HERE, tmp_path, plugins]
    ended = subprocess.run(
        script, env={**os.environ, "KERAS_BACKEND": HERE}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    parts = ("whole", "killed", "loading", "stopped", "evaluating", "continued")
    assert [(tmp_path / name / "status").read_text() for name in parts] == ["0", "-9", "0", "0", "0", "0"]
    assert (tmp_path / "loading" / "stopped").read_text() == (
        "stopped outside of its training; the same command runs it again."
    )
    message = (tmp_path / "stopped" / "stopped").read_text()
    stopped_at = int(
        re.fullmatch(r"stopped after (\d+) of 420 steps; the same command goes on from step \1\.", message)[1]
    )
    assert (tmp_path / "evaluating" / "stopped").read_text().endswith("the same command goes on from step 420.")
    whole, continued = (json.loads((tmp_path / name / "outcome.json").read_text()) for name in ("whole", "continued"))
    logits = [np.load(tmp_path / name / "predictions.npz")["logits"] for name in ("whole", "continued")]
    np.testing.assert_array_equal(*logits)
    assert whole["resolved"]["continued_at_steps"] == []
    first, *later = continued["resolved"]["continued_at_steps"]
    assert 21 <= first < stopped_at < 420
    assert later == [stopped_at, 420]
    assert continued["metrics"]["timing_notes"][-1] == (
        f"continued after 3 interruptions (at steps {first}, {stopped_at}, 420); "
        "sharing was watched in the last part only."
    )
    assert not any("continued" in note for note in whole["metrics"]["timing_notes"])
    assert continued["metrics"]["training_energy_joules"] is None
    assert tuple(continued["phases"]) == tuple(whole["phases"])
    assert continued["phases"]["training"] > 0


# ---- when it is saved, and what the process does when it is asked to end


def test_the_state_is_saved_when_its_time_has_come(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    part = Part(data(), tmp_path, seconds=100.0, steps_per_block=1, validate=False)
    report = part.report

    def a_step_takes_30_seconds(event):
        report(event)
        now[0] += 30.0 * isinstance(event, Step)

    part.report = a_step_takes_30_seconds
    part.run()
    assert [event.step for event in part.of(Saved)] == [4, 8, 12, 16, 20, 24, 24]  # as its last epoch ended


def test_a_short_training_is_not_saved_and_without_a_file_none_is(tmp_path):
    short, without = Part(data(), tmp_path, seconds=3_600), Part(data(), None)
    for part in (short, without):
        part.run()
        assert part.of(Saved) == []
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_training_is_saved_so_that_its_evaluation_can_be_repeated(tmp_path):
    first = Part(data(), tmp_path, seconds=0.0)
    result = first.run()
    again = Part(data(), tmp_path, seed=1)
    repeated = again.run()
    assert_same(first.state(), again.state())
    assert again.of(Step) == again.of(Epoch) == []
    (resumed,) = again.of(Resumed)
    assert (resumed.step, list(resumed.history)) == (24, first.of(Epoch))
    assert repeated.blocks == result.blocks
    assert repeated.past.continued_at == (24,)
    assert repeated.validation_accuracy == result.validation_accuracy


def test_the_parts_of_a_continued_training_are_timed_and_what_is_between_them_is_not(tmp_path):
    source = data()
    first = Part(source, tmp_path, stop_after=3, seconds=3_600)
    first.keeper.phases = {"data": 2.0, "build": 3.0}
    with pytest.raises(StoppedError):
        first.run()
    time.sleep(1.0)
    last = Part(source, tmp_path)
    result = last.run()
    progress, _ = read(tmp_path / "checkpoint.npz", "key")
    epochs = progress.history
    timed = sum(block.seconds for block in result.blocks)
    assert sum(each.seconds for each in epochs) == pytest.approx(timed + result.first_step_seconds)
    steps = sum(block.steps for block in result.blocks)
    assert steps == 24 - 2 - (2 if HERE == "jax" else 0)  # the first step of each process, and of each shape, compiles
    assert result.past.phases == {"data": 2.0, "build": 3.0}
    (resumed,) = last.of(Resumed)
    assert resumed.seconds == result.past.seconds > 0
    assert progress.past.seconds > result.past.seconds


def test_a_stopped_process_says_what_the_same_command_will_do(tmp_path):
    for part, message in [
        (Part(data(), None, stop_after=2), "stopped after 5 of 24 steps; the same command runs it again."),
        (Part(data(), tmp_path, stop_after=2), "stopped after 5 of 24 steps; the same command goes on from step 5."),
    ]:
        with pytest.raises(StoppedError) as error:
            part.run()
        assert str(error.value) == message


def test_a_request_during_validation_saves_what_was_trained(tmp_path):
    source = data()
    whole = Part(source, None)
    whole.run()
    part = Part(source, tmp_path, seconds=3_600)
    predict = part.steps.predict

    def predict_and_be_asked(images):
        os.kill(os.getpid(), signal.SIGTERM)
        return predict(images)

    part.steps.predict = predict_and_be_asked
    message = "stopped after 8 of 24 steps; the same command goes on from step 8"
    with pytest.raises(StoppedError, match=message), part.stop.listening():
        part.run()
    last = Part(source, tmp_path, seed=1)
    last.run()
    assert_same(whole.state(), last.state())
    assert scores([*last.of(Resumed)[0].history, *last.of(Epoch)]) == scores(whole.of(Epoch))


def be_asked():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def test_sigterm_ends_at_once_what_is_not_a_training():
    before = signal.getsignal(signal.SIGTERM)
    message = "stopped outside of its training; the same command runs it again"
    with pytest.raises(StoppedError, match=message), StopRequest().listening():
        be_asked()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("swallowed", [True, False])
def test_a_plugin_cannot_make_something_else_of_it(swallowed):
    def plugin():
        try:
            be_asked()
        except Exception as error:
            if not swallowed:
                raise ValueError("something else") from error

    with pytest.raises(StoppedError), StopRequest().listening():
        plugin()


def test_a_request_that_waited_ends_the_process_once_nobody_waits():
    stop, reached = StopRequest(), []

    def trial():
        with stop.patient():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("the end of the training")
        reached.append("its evaluation")

    with pytest.raises(StoppedError), stop.listening():
        trial()
    assert reached == ["the end of the training"]


def test_asking_whether_a_state_is_due_is_all_that_a_block_pays(tmp_path):
    part = Part(data(), tmp_path, seconds=3_600)
    asked = []
    is_due, snapshot = part.keeper.is_due, part.steps.snapshot
    part.keeper.is_due = lambda: asked.append(1) or is_due()
    part.steps.snapshot = lambda: pytest.fail("looked at the weights") or snapshot()
    part.run()
    assert len(asked) <= 3 * len(part.of(Step))


# ---- the file

PROGRESS = Progress(
    1, 2, 10, 3.5, 4, 16, 0.5, 0.25, 0.125, 0.75, [], [TimedBlock(4, 32, 0.1)], Past(9.0, {"data": 1.0})
)
ARRAYS = {"model.0": np.arange(6, dtype=np.float32).reshape(2, 3), "model.1": np.array(7, np.int64)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "state" / "checkpoint.npz"
    write(path, "key", PROGRESS, ARRAYS.items())
    return path


def test_what_is_written_is_read(file):
    progress, arrays = read(file, "key")
    assert progress == PROGRESS
    assert_same(arrays, ARRAYS)
    assert {name: array.dtype for name, array in arrays.items()} == {"model.0": np.float32, "model.1": np.int64}
    with np.load(file, allow_pickle=False) as stored:  # it is an ordinary .npz
        assert {*stored} == {"header", "blocks", *ARRAYS}
    assert [path.name for path in file.parent.iterdir()] == ["checkpoint.npz"]


def altered(file, **changes):
    """Write the file anew with other members; None leaves one out."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {**members, **changes}.items():
            if content is not None:
                archive.writestr(name, content)


def npy(array, tmp_path):
    np.save(tmp_path / "one.npy", array, allow_pickle=True)
    return (tmp_path / "one.npy").read_bytes()


def header(tmp_path, **changes):
    text = json.dumps({"format": 1, "key": "key", "progress": {}, **changes})
    return npy(np.frombuffer(text.encode(), np.uint8), tmp_path)


class Bomb:
    def __reduce__(self):
        return os.abort, ()


DAMAGE = {
    "empty": (lambda path, _: path.write_bytes(b""), "File is not a zip file"),
    "truncated": (lambda path, _: path.write_bytes(path.read_bytes()[:-200]), "File is not a zip file"),
    "garbage": (lambda path, _: path.write_bytes(os.urandom(1_000)), "File is not a zip file"),
    "a pickle": (lambda path, _: path.write_bytes(pickle.dumps(Bomb())), "File is not a zip file"),
    "a flipped bit": (
        lambda path, _: path.write_bytes(path.read_bytes().replace(ARRAYS["model.0"].tobytes(), b"\1" * 24)),
        "Bad CRC-32 for file 'model.0.npy'",
    ),
    "a pickle in it": (
        lambda path, tmp: altered(path, **{"model.0.npy": npy(np.array([Bomb()]), tmp)}),
        "Object arrays cannot be loaded when allow_pickle=False",
    ),
    "no header": (lambda path, _: altered(path, **{"header.npy": None}), "There is no item named 'header.npy'"),
    "another format": (
        lambda path, tmp: altered(path, **{"header.npy": header(tmp, format=2)}),
        "it has format 2, this bench reads 1",
    ),
    "another key": (
        lambda path, tmp: altered(path, **{"header.npy": header(tmp, key="other")}),
        "it is of another trial, machine or version of the software",
    ),
    "no progress": (lambda path, tmp: altered(path, **{"header.npy": header(tmp)}), "'history'"),
    "another model": (lambda *_: None, "model.0 is float32(2, 3) in it, and float32(3, 3, 3, 4) in the model"),
    "a folder": (lambda path, _: (path.unlink(), path.mkdir()), "Is a directory"),
    "compressed": (lambda path, _: np.savez_compressed(path, header=np.zeros(10**6)), "it is compressed"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_does_not_fit_is_left_aside_with_the_reason(damage, file, tmp_path, capsys):
    damaging, reason = DAMAGE[damage]
    damaging(file, tmp_path)
    part = Part(data(), None)
    before = part.state()
    part.keeper.path = file
    assert part.keeper.resume(part.steps) == Progress()
    out = capsys.readouterr().out
    assert f"{file} is not gone on with: " in out
    assert reason in out
    assert out.endswith("The training starts anew.\n")
    assert_same(before, part.state())
    assert part.of(Resumed) == []


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_a_line_in_the_log_and_the_training_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "fsync", full)
    part = Part(data(), tmp_path, seconds=0.0)
    result = part.run()
    assert result.steps == 24
    assert "the state of the training cannot be saved: [Errno 28] No space left on device. " in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert part.of(Saved) == []


def test_a_file_that_cannot_be_replaced_stays_as_it_was(file, monkeypatch):
    """The kernel itself refuses to write more than some bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    content = file.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(file, "key", PROGRESS, {"model.0": np.zeros(100_000)}.items())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == ["checkpoint.npz"]


def test_what_a_killed_process_left_half_written_is_replaced(file, tmp_path):
    partial, elsewhere = file.with_name(f".checkpoint.npz.{process_tag()}.tmp"), tmp_path / "elsewhere"
    partial.symlink_to(elsewhere)
    write(file, "key", PROGRESS, ARRAYS.items())
    assert not elsewhere.exists()
    assert [path.name for path in file.parent.iterdir()] == ["checkpoint.npz"]
