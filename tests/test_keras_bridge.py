"""The bridge to keras.applications: what each network is given, where its weights come from, and finetuning."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import inspect
import sys
from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import applications

from bench.api import Split
from bench.data.augmentation import Allowed
from bench.data.pipeline import TrainingData
from bench.data.splits import everything
from bench.errors import DataError, UsageError
from bench.events import Epoch
from bench.layers.applications import InferenceMode, preprocessed, resized
from bench.measurement.cost import count_cost
from bench.plugins import discover, load_module
from bench.recipes import resolve_recipe
from bench.training import train
from tests.stepping import make_steps

REGISTRY = discover("architecture")
PLUGIN = load_module(REGISTRY.plugins["keras"])
NAMES = sorted(name for name, value in vars(applications).items() if inspect.isfunction(value))
SMALL = {"name": "MobileNet", "alpha": 0.25}  # the quickest to build of those with batch norms
WITHOUT_CHECK = {"MobileNetV3Large", "MobileNetV3Small"}  # Keras does not tell what sizes they take


def build(shape=(32, 32, 3), classes=2, **parameters):
    return PLUGIN.build(shape, classes, **{**SMALL, **parameters})


def numpy(values):
    return [keras.ops.convert_to_numpy(each) for each in values]


def predict(model, images, *, training=False):
    return keras.ops.convert_to_numpy(model(images, training=training))


def backbone(model):
    layer = model.layers[-2]
    return layer.layer if isinstance(layer, InferenceMode) else layer


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A network whose batch norms have seen images: its file, and its weights."""
    keras.utils.set_random_seed(3)
    model = applications.MobileNet(weights=None, include_top=False, alpha=0.25, input_shape=(32, 32, 3))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pixels(32, 32, 32, 3) / 127.5 - 1, training=True)
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    model.save_weights(path)
    return path, model.get_weights()


class TestNetworks:
    def test_the_bare_value_is_the_network(self):
        choice = REGISTRY.choose("keras:EfficientNetV2B0,weights=imagenet")
        assert choice.parameters == {
            "name": "EfficientNetV2B0",
            "weights": "imagenet",
            "size": 0,
            "alpha": 1.0,
            "dropout": 0.0,
        }
        assert choice.label == "keras:EfficientNetV2B0,weights='imagenet'"

    @pytest.mark.parametrize(
        ("name", "mode"), [("MobileNet", "tf"), ("DenseNet121", "torch"), ("VGG16", "caffe"), ("MobileNetV3Small", "")]
    )
    def test_a_model_is_the_network_on_preprocessed_pixels_and_a_head(self, name, mode):
        model = PLUGIN.build((32, 32, 1), 2, name=name)
        images = pixels(2, 32, 32, 1)
        given = np.repeat(images, 3, axis=-1)
        given = applications.imagenet_utils.preprocess_input(given, mode=mode) if mode else given
        expected = predict(model.get_layer("head"), backbone(model)(given))
        assert expected.shape == (2, 2)
        np.testing.assert_allclose(predict(model, images), expected, rtol=1e-4, atol=1e-5)
        cost = count_cost(model)
        assert cost.unknown == ()
        assert cost.macs > 1e6

    def test_the_width_of_a_mobilenet(self):
        assert build(alpha=0.5).layers[-2].output.shape[-1] == 512  # of 1,024

    def test_dropout_acts_in_training_alone(self, pretrained):
        model = build(dropout=0.5, weights=str(pretrained[0]), size=32)  # in which nothing else does
        images = pixels(4, 32, 32, 3)
        assert np.array_equal(predict(model, images), predict(model, images))
        assert not np.allclose(predict(model, images, training=True), predict(model, images, training=True))

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"name": "mobilenetv2"}, "unknown network of keras.applications 'mobilenetv2'. Did you mean MobileNetV2"),
            ({"name": "Resnet"}, "Available: ConvNeXtBase, .*Xception"),
            ({"name": "VGG16", "alpha": 0.5}, "alpha, the width, must be above 0, and 1.0 for all but MobileNets"),
            ({"alpha": -1.0}, "alpha, the width, must be above 0"),
            ({"size": 16}, "size must be at least 32 pixels for MobileNet, got 16"),
            ({"dropout": 1.0}, "dropout must be from 0 to below 1, got 1.0"),
            ({"weights": "/nowhere/at.h5"}, "weights must be imagenet or the path of a file, and there is no file"),
        ],
        ids=str,
    )
    def test_what_makes_no_sense_is_refused(self, parameters, message):
        with pytest.raises((ValueError, UsageError), match=message):
            build(**parameters)

    def test_images_have_one_channel_or_three(self):
        with pytest.raises(ValueError, match=r"expected images of 1 channel .* or 3 .*, got 2"):
            build((32, 32, 2))


class TestImages:
    @pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_CHECK))
    def test_the_sizes_are_those_that_keras_says(self, name, monkeypatch):
        def stop(_shape, *, default_size, min_size, **_):
            raise StopIteration(min_size, default_size)

        utils = sys.modules[applications.imagenet_utils.preprocess_input.__module__]
        monkeypatch.setattr(utils, "obtain_input_shape", stop)
        with pytest.raises(StopIteration) as stopped:
            getattr(applications, name)(weights=None, include_top=False)
        assert (PLUGIN.LEAST.get(name, 32), PLUGIN.TRAINED_AT.get(name, 224)) == stopped.value.args

    @pytest.mark.parametrize("name", NAMES)
    def test_the_preprocessing_is_that_of_keras(self, name):
        module = getattr(applications, getattr(applications, name).__module__.rpartition(".")[2])
        inputs = keras.Input((4, 5, 3))
        model = keras.Model(inputs, keras.layers.Identity()(preprocessed(inputs, module.preprocess_input)))
        images = pixels(2, 4, 5, 3)
        expected = module.preprocess_input(images.copy())
        np.testing.assert_allclose(predict(model, images), expected, rtol=1e-5, atol=1e-4)

    def test_preprocessing_is_exact_in_low_precision(self):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            inputs = keras.Input((4, 4, 3))
            outputs = preprocessed(resized(inputs, 8), applications.vgg16.preprocess_input)
        finally:
            keras.config.set_dtype_policy("float32")
        images = np.full((1, 4, 4, 3), 201, np.float32)
        expected = applications.vgg16.preprocess_input(images.copy())[0, 0, 0]
        np.testing.assert_allclose(predict(keras.Model(inputs, outputs), images)[0, 0, 0], expected, rtol=1e-5)

    @pytest.mark.parametrize(
        ("shape", "side", "expected"),
        [((28, 28, 1), 32, (32, 32)), ((24, 48, 3), 32, (32, 64)), ((80, 60, 3), 45, (60, 45))],
        ids=str,
    )
    def test_images_are_resized_in_proportion(self, shape, side, expected):
        assert resized(keras.Input(shape), side).shape[1:3] == expected

    @pytest.mark.parametrize(
        ("shape", "size", "expected"),
        [((40, 50, 3), 0, (40, 50)), ((24, 24, 1), 0, (32, 32)), ((32, 32, 3), 40, (40, 40))],
        ids=str,
    )
    def test_from_scratch_images_are_resized_where_they_are_too_small_or_it_is_wished(self, shape, size, expected):
        assert backbone(build(shape, size=size)).input_shape[1:3] == expected

    def test_a_pretrained_network_sees_the_size_that_it_was_trained_at(self, pretrained):
        assert backbone(build((30, 60, 3), weights=str(pretrained[0]))).input_shape[1:3] == (224, 448)

    def test_shrinking_averages(self):
        """A pattern of single black and white pixels becomes grey, not black or white."""
        inputs = keras.Input((16, 16, 3))
        model = keras.Model(inputs, resized(inputs, 4))
        board = np.indices((16, 16)).sum(axis=0) % 2 * 255.0
        shrunk = predict(model, np.repeat(board[None, ..., None], 3, axis=-1).astype(np.float32))
        np.testing.assert_allclose(shrunk[:, 1:-1, 1:-1], 127.5, atol=1)


class TestWeights:
    def test_they_come_from_a_file(self, pretrained):
        path, weights = pretrained
        model = build(weights=str(path), size=32)
        for loaded, saved in zip(backbone(model).get_weights(), weights, strict=True):
            np.testing.assert_array_equal(loaded, saved)

    def test_a_pretrained_network_keeps_its_statistics_and_can_be_trained(self, pretrained):
        model = build(weights=str(pretrained[0]), size=32)
        before = numpy(model.non_trainable_variables)
        assert before  # there are statistics
        trained, tested = (predict(model, pixels(4, 32, 32, 3), training=each) for each in (True, False))
        np.testing.assert_array_equal(trained, tested)
        assert all(map(np.array_equal, numpy(model.non_trainable_variables), before))
        assert len(model.trainable_variables) == len(backbone(model).trainable_variables) + 2

    def test_from_scratch_the_statistics_move(self):
        model = build((24, 24, 1))
        before = numpy(model.non_trainable_variables)
        model(pixels(4, 24, 24, 1), training=True)
        assert not all(map(np.array_equal, numpy(model.non_trainable_variables), before))

    def test_a_pretrained_model_is_saved_and_loaded_whole(self, pretrained, tmp_path):
        model = build((20, 20, 1), weights=str(pretrained[0]), size=32)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        images = pixels(3, 20, 20, 1)
        expected = predict(model, images)
        np.testing.assert_allclose(predict(loaded, images, training=True), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.filterwarnings("ignore:Skipping nested container")  # Keras looks for what is not there
    def test_weights_of_another_network_are_refused(self, pretrained):
        with pytest.raises(ValueError, match=r"small\.weights\.h5 does not hold the weights of MobileNet") as error:
            build(weights=str(pretrained[0]), size=32, alpha=0.5)
        assert len(str(error.value)) < 600  # Keras's own message prints the weights

    def test_a_file_that_holds_no_weights_is_refused(self, tmp_path):
        (tmp_path / "text.weights.h5").write_text("no weights")
        with pytest.raises(ValueError, match="does not hold the weights of MobileNet"):
            build(weights=str(tmp_path / "text.weights.h5"))

    def test_keras_own_efficientnet_files_need_the_name(self, tmp_path):
        """Keras gives EfficientNet another scaling with weights="imagenet" than with a path."""
        (tmp_path / "efficientnetb0_notop.h5").touch()
        with pytest.raises(ValueError, match=r"Put the file into ~/\.keras/models and say that"):
            PLUGIN.build((32, 32, 3), 2, name="EfficientNetB0", weights=str(tmp_path / "efficientnetb0_notop.h5"))


class TestDownloads:
    FILE = "mobilenet_2_5_224_tf_no_top.h5"

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        return tmp_path / "models"

    def test_without_a_network_the_message_says_what_to_bring_and_where(self, folder, monkeypatch):
        monkeypatch.setattr(PLUGIN, "unreachable", lambda url: "no route to host")
        with pytest.raises(DataError) as error:
            build(weights="imagenet", size=224)
        message = str(error.value)
        assert f"the weights are not at {folder / self.FILE}" in message
        assert f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/{self.FILE}" in message
        assert "cannot be downloaded: no route to host. Download that file where there is a network" in message
        assert "KERAS_HOME" in message

    def test_what_fails_under_way_is_told_likewise(self, folder, monkeypatch):
        def fail(*_, **__):
            raise Exception("URL fetch failure: 403 -- Forbidden")  # as Keras does

        files = sys.modules[keras.utils.get_file.__module__]
        monkeypatch.setattr(PLUGIN, "unreachable", lambda url: "")
        monkeypatch.setattr(files, "get_file", fail)
        with pytest.raises(DataError, match="cannot be downloaded: URL fetch failure: 403 -- Forbidden"):
            build(weights="imagenet", size=224)
        assert files.get_file is fail  # as it was

    def test_a_file_that_is_there_needs_no_network(self, folder, monkeypatch):
        source = applications.MobileNet(weights=None, include_top=False, alpha=0.25, input_shape=(224, 224, 3))
        folder.mkdir()
        source.save(folder / self.FILE)  # Keras's own files are of that old format, too
        monkeypatch.setattr(PLUGIN, "unreachable", lambda url: pytest.fail("the network was asked for"))
        model = build((32, 32, 1), weights="imagenet")
        for loaded, saved in zip(backbone(model).get_weights(), source.get_weights(), strict=True):
            np.testing.assert_array_equal(loaded, saved)


class TestFinetuning:
    def test_the_backbone_is_frozen_first_and_then_trained(self, pretrained):
        keras.utils.set_random_seed(0)
        model = build((32, 32, 3), weights=str(pretrained[0]), size=32)
        recipe = resolve_recipe("finetune", {"epochs": 4, "batch_size": 8})
        labels = np.arange(32) % 2
        images = (labels[:, None, None, None] * 120 + pixels(32, 32, 32, 3) / 3).astype(np.uint8)
        data = TrainingData(everything(Split(images, labels)), (32, 32, 3), recipe, Allowed(), 0)
        steps, _, schedule = make_steps(model, recipe, total_steps=16)
        parts = {
            "kernels": backbone(model).trainable_variables,
            "statistics": backbone(model).non_trainable_variables,
            "head": model.layers[-1].trainable_variables,
        }
        seen = [{part: numpy(variables) for part, variables in parts.items()}]

        def look(event):
            if isinstance(event, Epoch):
                steps.finish()
                seen.append({part: numpy(variables) for part, variables in parts.items()})

        train(steps, schedule, data, None, look)
        changed = {part: [any(map(_differ, old[part], new[part])) for old, new in pairwise(seen)] for part in parts}
        assert changed == {
            "kernels": [False, False, False, True],
            "statistics": [False] * 4,
            "head": [True] * 4,
        }
        assert all(map(_differ, seen[0]["kernels"], seen[-1]["kernels"]))  # every single one of them

    def test_the_command_finetunes_and_tells_of_a_name_that_there_is_not(self, run, records, pretrained):
        arch = f"keras:MobileNet,weights='{pretrained[0]}',alpha=0.25,size=32 keras:MobileNett"
        _, out, _ = run("--recipe", "finetune", arch=arch, epochs=4)
        failed, trained = sorted(records(), key=lambda record: record.status)
        assert (failed.status, trained.status) == ("failed", "ok")
        assert "Did you mean MobileNet" in failed.message
        assert trained.spec.architecture.parameters["name"] == "MobileNet"
        assert trained.metrics["macs"] > 0
        assert "keras:MobileNet," in out


def _differ(one, other):
    return not np.array_equal(one, other)
