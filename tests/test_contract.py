"""The contract finds what is wrong with a plugin, says where, and passes what is right."""

import os
import textwrap

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

from bench.contract.architectures import CHECKS, check_architecture
from bench.contract.datasets import check_dataset
from bench.contract.descriptions import kind_of
from bench.data.cache import DataSource
from bench.errors import UsageError
from bench.plugins import PluginChoice, read_plugin

NET = '''"""{doc}"""
import os
import time

import keras
import numpy as np

from bench.api import Architecture

INFO = Architecture({info})


def build(input_shape, num_classes, *, units: int = 4):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same", activation="gelu")(inputs)
    x = keras.layers.Flatten()(x)
    {before}
    {logits}
    return {result}
'''
DENSE = "logits = keras.layers.Dense(num_classes)(x)"
DATA = '''"""{doc}"""
import time

import numpy as np

from bench.api import Dataset, Split, Splits

INFO = Dataset({info})


def load(*, number: int = 40):
    random = np.random.default_rng({seed})
    def draw():
        images = random.integers(0, 256, (number, 4, 4, 1)).astype(np.uint8){dim}
        return Split(images, np.arange(number) % {classes})
    train = draw()
    return Splits(train=train, test={test}, class_names={names})
{more}'''


def findings_of(results):
    return [(result.check, str(finding)) for result in results for finding in result.findings]


@pytest.fixture
def check_net(tmp_path):
    def check(doc="A net.", info="", before="", logits=DENSE, result="keras.Model(inputs, logits)", text=None, more=""):
        path = tmp_path / "net.py"
        net = NET.format(doc=doc, info=info, before=before, logits=logits, result=result)
        path.write_text(text if text is not None else net + textwrap.dedent(more))
        plugin = read_plugin("architecture", path)
        return list(check_architecture(PluginChoice(plugin, plugin.parameters)))

    return check


@pytest.fixture
def check_data(tmp_path, cache_dir):
    def check(
        doc="Images.", info="cache=False", seed="0", classes=4, test="draw()", names=tuple("abcd"), more="", dim=""
    ):
        path = tmp_path / "images.py"
        text = DATA.format(doc=doc, info=info, seed=seed, classes=classes, test=test, names=names, more=more, dim=dim)
        path.write_text(text)
        plugin = read_plugin("dataset", path)
        choice = PluginChoice(plugin, plugin.parameters)
        return list(check_dataset(DataSource(choice, tmp_path, cache_dir)))

    return check


def test_a_sound_architecture_passes_every_check(check_net):
    results = check_net(info="trainable_params={'32x32x3/10': 5354, '32x32x3/10:units=8': 5354}, quick={'units': 2}")
    assert findings_of(results) == []
    assert [result.check for result in results] == ["description", *(name for name in CHECKS if name != "adapt")]


def test_logits_may_be_scaled(check_net):
    assert findings_of(check_net(result="keras.Model(inputs, keras.layers.Rescaling(0.5)(logits))")) == []


def test_without_a_published_count_the_count_is_told(check_net):
    notes = {result.check: result.note for result in check_net()}
    assert notes["parameter count"] == "5,354 at 32x32x3/10; INFO.trainable_params names none to hold it to"


@pytest.mark.parametrize(
    ("wrong", "line", "message"),
    [
        ({"doc": "A net"}, 1, "the docstring's first line must be a sentence that ends with a full stop, got 'A net'"),
        ({"info": "min_size=0"}, 10, "INFO.min_size must be at least 1 pixel, got 0"),
        ({"info": "normalization='raw'"}, 10, "normalization must be"),
        ({"info": "accuracy={'cifar10': 91.2}"}, 10, "INFO.accuracy holds fractions between 0 and 1, got 91.2"),
        ({"info": "quick={'depth': 2}"}, 10, "INFO.quick: INFO.quick has no parameter 'depth'. It has: units=4"),
        ({"info": "recipe={'epoch': 2}"}, 10, "INFO.recipe: "),
        ({"info": "trainable_params={'32x32/10': 2}"}, 10, "expected a key like 32x32x3/10 or 32x32x3/10:depth=56"),
        ({"info": "trainable_params={'8x8x3/10:w=2': 2}"}, 10, "has no parameter 'w'"),
        ({"text": "def build(:\n"}, 1, "syntax error in line 1"),
        ({"info": "min_size=2 * n"}, 10, "must be literal keyword arguments"),
    ],
)
def test_what_is_wrong_with_a_description_is_found_in_its_line(check_net, wrong, line, message):
    (result,) = check_net(**wrong)
    (finding,) = result.findings
    assert result.check == "description"
    assert message in finding.message
    assert finding.line == line


@pytest.mark.parametrize(
    ("wrong", "check", "message"),
    [
        ({"before": "units.no"}, "build", "line 17: `build` for images of 32x32x3 and 10 classes raised Attr"),
        ({"result": "1"}, "build", "must return a keras.Model, got int"),
        ({"logits": "logits = x"}, "build", "must have shape (None, 10), one logit a class, got (None, 512)"),
        ({"logits": f"{DENSE[:-4]}, activation='softmax')(x)"}, "build", "outputs are probabilities"),
        ({"result": "keras.Model(inputs, logits * float('inf'))"}, "build", "under float32 are not finite"),
        (
            {
                "info": "recipe={'epochs': 2, 'batch_size': 8, 'optimizer': 'sgd', 'learning_rate': 0.1, "
                "'groups': [{'match': 'no*', 'rate': 2.0}]}"
            },
            "build",
            "'no*'",
        ),
        (
            {"result": "keras.Model(again := keras.Input(input_shape), keras.Model(inputs, logits)("
             "keras.layers.Rescaling(1 / 255)(again)))"},
            "build",
            "the model has a Rescaling layer",
        ),
        (
            {"info": "trainable_params={'32x32x3/10': 5355}"},
            "parameter count",
            "32x32x3/10 has 5,354 trainable parameters, INFO.trainable_params says 5,355",
        ),
        ({"before": "assert input_shape[2] == 3"}, "sizes, channels, classes", "images of 28x28x1 and 2 classes"),
        (
            {"info": "min_size=2", "before": "assert input_shape[0] % 2 == 0"},
            "sizes, channels, classes",
            "`build` for images of 21x21x3 and 2 classes raised AssertionError",
        ),
        (
            {"before": "assert keras.config.dtype_policy().name != 'mixed_bfloat16'"},
            "mixed precision",
            "raised AssertionError",
        ),
        (
            {"logits": f"{DENSE[:-4]}, bias_initializer=keras.initializers.Constant(time.monotonic()))(x)"},
            "seed",
            "the same seed gives other weights. Draw them with Keras's initializers",
        ),
        (
            {"before": "keras.utils.set_random_seed(0); x = keras.layers.Conv2D(8, 1, 4)(inputs); "
             "x = keras.layers.Flatten()(x)"},
            "seed",
            "another seed gives the same weights",
        ),
        ({"before": "x = x * 0"}, "gradients", "leaves trainable weights as they are: conv2d"),
        ({"result": "keras.Model(inputs, logits / 1e4)"}, "training", "20 steps of AdamW at rate 0.001 on 8 images"),
        ({"more": "def adapt(model, images):\n    images.no\n"}, "adapt", "`adapt` for 64 images raised Attribute"),
        (
            {"more": "def adapt(model, images):\n    model.layers[-1].bias.assign(np.full(10, np.nan))\n"},
            "adapt",
            "after `adapt` for 64 images, weights are not finite",
        ),
        (
            {
                "before": "x = Own()(x)",
                "more": "class Own(keras.layers.Layer):\n    def call(self, x):\n        return x + 1\n",
            },
            "saving",
            "saving and loading the model raised",
        ),
    ],
)  # fmt: skip
def test_what_an_architecture_does_wrong_is_found_by_its_check(check_net, wrong, check, message):
    found = findings_of(check_net(**wrong))
    assert check in [name for name, _ in found]
    assert message in next(text for name, text in found if name == check)


def test_an_odd_size_may_be_refused_by_the_architecture_itself(check_net):
    results = check_net(info="min_size=2", before="if input_shape[0] % 2: raise ValueError('sides must be even')")
    assert findings_of(results) == []
    assert "refuses images of 21x21" in {result.note for result in results}


def test_a_model_that_takes_pixels_is_given_pixels(check_net):
    assert findings_of(check_net(info="normalization='pixels'", before="x = x / 255")) == []


def test_a_sound_data_set_passes_every_check(check_data):
    results = check_data()
    assert findings_of(results) == []
    assert {result.check: result.note for result in results}["loading"] == (
        "40 train, 40 test images of 4x4x1, 4 classes"
    )


@pytest.mark.parametrize(
    ("wrong", "check", "message"),
    [
        ({"doc": "Images"}, "description", "line 1: the docstring's first line must be a sentence"),
        ({"info": "download='http://x'"}, "description", "INFO.download and INFO.download_size must both be there"),
        (
            {"more": "\n\ndef version(*, size: int = 2):\n    return ''\n"},
            "description",
            "`version` takes size, which `load` does not have as a parameter",
        ),
        ({"test": "1"}, "loading", "split test: expected bench.api.Split, got int"),
        ({"test": "train.no"}, "loading", "`load` raised AttributeError"),
        ({"classes": 3}, "classes", "train has no image of 1 of 4 classes: d"),
        ({"names": tuple("abca")}, "classes", "class_names has 'a' more than once"),
        ({"dim": " // 128"}, "channel statistics", "the training images have a channel without contrast"),
        ({"seed": "time.monotonic_ns()", "info": ""}, "same again", "loading it twice gives two contents"),
        ({"test": "train"}, "test images apart", "40 of 40 test images are training images too"),
        ({"test": "Split(train.images * 0 + 7, train.labels)"}, "images", "test: 10 images from its start to its end"),
    ],
)
def test_what_a_data_set_does_wrong_is_found_by_its_check(check_data, wrong, check, message):
    found = findings_of(check_data(**wrong))
    assert check in [name for name, _ in found]
    assert message in next(text for name, text in found if name == check)


def test_the_kind_of_a_file_is_that_of_its_info_or_function_or_folder(tmp_path):
    for text, kind in (("INFO = Dataset()", "dataset"), ("def build(s, n): ...", "architecture")):
        path = tmp_path / "plugin.py"
        path.write_text(text)
        assert kind_of(path) == kind
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / "empty.py").write_text("")
    assert kind_of(folder / "empty.py") == "dataset"
    path.write_text("print('hello')")
    with pytest.raises(UsageError, match=r"plugin.py is no plugin: expected `INFO = Architecture"):
        kind_of(path)
