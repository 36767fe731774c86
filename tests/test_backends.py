"""One plugin file, one set of weights, three backends: the same logits and the same training.

In this process the backend is the one that Keras runs on (KERAS_BACKEND); the others are processes of their own, and
skip where their package is not installed.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from bench.api import Split
from bench.backends.interface import Tuning
from bench.backends.pictures import drawn
from bench.contract.architectures import check_architecture
from bench.data.augmentation import Allowed
from bench.data.pipeline import TrainingData
from bench.data.splits import everything
from bench.environment import BACKENDS, Device
from bench.plugins import PluginChoice, discover
from bench.recipes import resolve_recipe
from bench.store import Store
from tests.conftest import command
from tests.stepping import BACKEND, make_steps

SHAPE = (32, 32, 3)
EXACT = {"batch_size": 8, "warmup": 0.0, "learning_rate": 1e-3, "label_smoothing": 0.1, "l2": 1e-4}
PLUGINS = discover("architecture").plugins
COMPARED = {  # for their operations, all of which have to agree; comparing every architecture would take CI too long
    "airbench94": {},  # exact GELU, global max pooling, a frozen kernel
    "baseline_cnn_bn": {},
    "resnet_cifar": {"depth": 8},
    "shufflenet_v2": {},  # depthwise convolutions, channels split and shuffled
    "swin": {"drop_path": 0.0},  # attention in shifted windows, layer normalisation
}  # without what is drawn at random, which each backend draws in its own way


def images_for(side):
    return np.random.default_rng(1).integers(0, 256, (16, side, side, 3), np.uint8)


def training_images(side):
    images = np.random.default_rng(2).integers(0, 256, (48, side, side, 3), np.uint8)
    return Split(images, np.arange(48) % 10)


def small_net(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5, seed=1)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def small_data(*, resident=False, padding=0.25):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (52, 8, 8, 3), np.uint8)
    recipe = resolve_recipe("standard", {**EXACT, "epochs": 1, "crop_padding": padding})
    split = Split(images, np.arange(52) % 3)
    return TrainingData(everything(split), (8, 8, 3), recipe, Allowed(flip=True), 3, resident)


@pytest.fixture(scope="session")
def computed(tmp_path_factory):
    """What each backend computes from the same weights, made once a session."""
    folder, results = tmp_path_factory.mktemp("backends"), {}

    def of(backend):
        if importlib.util.find_spec(BACKENDS[backend].package) is None:
            pytest.skip(f"{BACKENDS[backend].title} is not installed: {BACKENDS[backend].install}")
        if backend not in results:
            environment = {**os.environ, "KERAS_BACKEND": backend}
            script = [sys.executable, "-m", "tests.backend_script", str(folder)]
            ended = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, ended.stderr
            results[backend] = dict(np.load(folder / f"{backend}.npz"))
        return results[backend]

    return of


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("backend", ["jax", "torch"])
class TestAgreement:
    def test_the_same_weights_give_the_same_logits(self, computed, backend, name):
        got, expected = (computed(each)[f"{name}/logits"] for each in (backend, "tensorflow"))
        scale = np.std(expected)  # next to nothing in some networks before they are trained
        np.testing.assert_allclose(got / scale, expected / scale, rtol=1e-3, atol=1e-3)
        assert np.std(expected, axis=0).max() > 0  # of a deep one, images differ in training alone: see the losses

    def test_the_same_steps_give_the_same_losses(self, computed, backend, name):
        """AdamW with decay, clipping, smoothing and a penalty, on augmented images: rounding grows with the steps."""
        got, expected = (computed(each)[f"{name}/losses"] for each in (backend, "tensorflow"))
        assert len(got) == 6
        for steps, tolerance in ((2, 1e-3), (4, 0.05), (6, 0.2)):  # small batches, so that rounding grows fast
            np.testing.assert_allclose(got[:steps], expected[:steps], rtol=tolerance)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="TensorFlow is held to more; JAX compiles for minutes")
@pytest.mark.parametrize("name", sorted(PLUGINS))
def test_every_architecture_is_built_and_answers(name):
    plugin = PLUGINS[name]
    choice = PluginChoice(plugin, {**plugin.parameters, **plugin.info.quick})
    results = check_architecture(choice, only=["build"])
    assert [str(finding) for result in results for finding in result.findings] == []


class TestImagesOnTheDevice:
    def test_the_device_draws_what_the_host_draws_to_the_bit(self):
        host, device = (next(small_data(resident=resident).epoch(1, 4)) for resident in (False, True))
        images = small_data().subset.split.images
        for step, expected in enumerate(host.inputs):
            draw = tuple(keras.ops.convert_to_tensor(each[step]) for each in device.inputs.arrays())
            got = drawn(keras.ops.convert_to_tensor(images), draw, small_data().how)
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(got), expected)
        assert any(each.any() for each in device.inputs.arrays()[1:])

    def test_training_on_them_gives_the_same_losses(self):
        losses = []
        for resident in (False, True):
            data = small_data(resident=resident)
            steps, _, _ = make_steps(small_net(), data.recipe, resident=data.residents())
            blocks = list(data.epoch(0, 4, first_block=1))
            losses.append(np.concatenate([steps.train(steps.place(block)).result()[0] for block in blocks]))
        assert len(losses[0]) == 6
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


class TestSteps:
    def test_one_call_of_several_steps_equals_several_calls(self):
        """As on a GPU, where JAX scans over the steps of a block."""
        data, weights = small_data(), []
        for together in (1, 4):
            model = small_net()
            tuning = Tuning(True, 4, steps_per_execution=together, runs_ahead=True)
            steps, _, _ = make_steps(model, data.recipe, tuning=tuning if keras.backend.backend() == "jax" else None)
            for block in data.epoch(0, 4 if together > 1 else 1):
                steps.train(steps.place(block)).result()
            steps.finish()
            weights.append(model.get_weights())
        for one, other in zip(*weights, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    def test_nothing_is_compiled_twice(self):
        data = small_data()
        steps, _, _ = make_steps(small_net(), data.recipe)
        needed = set()
        for epoch in range(2):
            for block in data.epoch(epoch, 4, first_block=1):
                steps.train(steps.place(block)).result()
                needed.add(steps.compilation(block))
        assert steps.compilations() <= len(needed)

    def test_finish_leaves_the_trained_weights_in_the_model(self):
        data, model = small_data(), small_net()
        steps, optimizer, _ = make_steps(model, data.recipe)
        for block in data.epoch(0, 4):
            steps.train(steps.place(block)).result()
        images = data.subset.split.images[:5]
        trained = steps.predict(images)
        steps.finish()
        normalised = images.astype(np.float32) / 128 - 1
        np.testing.assert_allclose(keras.ops.convert_to_numpy(model(normalised)), trained, rtol=1e-4, atol=1e-5)
        assert int(optimizer.iterations) == 6

    def test_the_cpu_has_no_gpus_and_no_tf32(self):
        BACKEND.prepare_process(Device("CPU", "a processor"))
        assert BACKEND.count_gpus() == 0


def test_a_backend_that_is_not_installed_is_named_with_its_installation(run, monkeypatch):
    for backend, title in (("jax", "JAX"), ("torch", "PyTorch")):
        monkeypatch.setitem(sys.modules, backend, None)  # as if it were not there
        code, _, err = run("--backend", backend)
        assert code == 2
        assert f'--backend {backend} needs {title}, which is not installed: pip install -e ".[{backend}]"' in err


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_no_tensorflow_is_needed_where_the_data_is_cached(backend, plugins, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{BACKENDS[backend].title} is not installed")
    for absent in ("tensorflow", "tensorflow_datasets"):
        (tmp_path / f"{absent}.py").write_text("raise ImportError('not here')")
    ended = command(
        *("run", "--arch", "tiny_net", "--dataset", "tiny_data", "--epochs", 2, "--batch-size", 16),
        *("--backend", backend, "--plugins", plugins, "--results", tmp_path / "results"),
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"},
    )
    out, err = ended.communicate()
    assert ended.returncode == 0, out + err
    (record,) = Store(tmp_path / "results").records()
    assert (record.spec.backend, record.environment.packages.get("tensorflow")) == (backend, None)
    assert record.environment.packages[backend] in record.environment.software
