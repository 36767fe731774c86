"""Data sets of TensorFlow Datasets: the files for some of them, and the bridge to all others.

Data that is absent here is written small by TFDS's own builders: only where their examples come from is replaced.
"""

import os
import socket
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from bench.api import Split, TestSets
from bench.data import network, tfds
from bench.data.cache import DataSource, find, open_splits, open_test_sets, prepare
from bench.data.images import check_test_sets, gather
from bench.data.jpeg import JpegImages
from bench.data.test_sets import require_fit, require_trainable
from bench.errors import DataError, PluginError, UsageError
from bench.plugins import discover, load_module

REGISTRY = discover("dataset")
DOCS = Path(__file__).resolve().parent.parent / "docs" / "datasets.md"
SMALL = 20  # images a split


@dataclass(frozen=True)
class Fact:
    """What is known of a data set: `counts` are of its splits here, `splits` are TFDS's, `shape` is what is loaded."""

    name: str
    counts: dict
    splits: tuple
    shape: tuple
    classes: int
    source: str


CATALOG = "https://www.tensorflow.org/datasets/catalog/"
FACTS = {
    "mnist": Fact("mnist", {"train": 60_000, "test": 10_000}, ("train", "test"), (28, 28, 1), 10, CATALOG + "mnist"),
    "cifar10": Fact(
        "cifar10", {"train": 50_000, "test": 10_000}, ("train", "test"), (32, 32, 3), 10, CATALOG + "cifar10"
    ),
    "cifar100": Fact(
        "cifar100", {"train": 50_000, "test": 10_000}, ("train", "test"), (32, 32, 3), 100, CATALOG + "cifar100"
    ),
    "fashion_mnist": Fact(
        "fashion_mnist",
        {"train": 60_000, "test": 10_000},
        ("train", "test"),
        (28, 28, 1),
        10,
        CATALOG + "fashion_mnist",
    ),
    "svhn_cropped": Fact(
        "svhn_cropped",
        {"train": 73_257, "test": 26_032},
        ("train", "test", "extra"),
        (32, 32, 3),
        10,
        "http://ufldl.stanford.edu/housenumbers/",
    ),
    "imagenette": Fact(
        "imagenette/160px-v2",
        {"train": 9_469, "test": 3_925},
        ("train", "validation"),
        (128, 128, 3),
        10,
        CATALOG + "imagenette",
    ),
    "imagenet2012": Fact(
        "imagenet2012",
        {"train": 1_281_167, "test": 50_000},
        ("train", "validation"),
        (224, 224, 3),
        1_000,
        "https://www.image-net.org/challenges/LSVRC/2012/",
    ),
    "oxford_flowers102": Fact(
        "oxford_flowers102",
        {"train": 1_020, "test": 6_149, "validation": 1_020},
        ("train", "test", "validation"),
        (128, 128, 3),
        102,
        CATALOG + "oxford_flowers102",
    ),
    "celeb_a": Fact(
        "celeb_a",
        {"train": 162_770, "test": 19_962, "validation": 19_867},
        ("train", "test", "validation"),
        (64, 64, 3),
        2,
        CATALOG + "celeb_a",
    ),
    "gtsrb": Fact(
        "visual_domain_decathlon/gtsrb",
        {"train": 31_367, "test": 7_842},
        ("train", "test", "validation"),
        (48, 48, 3),
        43,
        CATALOG + "visual_domain_decathlon",
    ),
    "patch_camelyon": Fact(
        "patch_camelyon",
        {"train": 262_144, "test": 32_768, "validation": 32_768},
        ("train", "test", "validation"),
        (96, 96, 3),
        2,
        "https://github.com/basveeling/pcam",
    ),
    "pneumonia_mnist": Fact(
        "pneumonia_mnist",
        {"train": 4_708, "test": 624, "validation": 524},
        ("train", "test", "val"),
        (28, 28, 1),
        2,
        "https://doi.org/10.5281/zenodo.10519652",
    ),
}
ABSENT = sorted(FACTS.keys() - {"cifar10", "fashion_mnist"})
CORRUPTED = 'cifar10_corrupted:corruptions=["fog","snow"],severities=[1,5]'


def quiet(*_):
    pass


def example(features, number, label, random):
    """Return an example of these features, with images of the sizes they may have."""
    import tensorflow_datasets

    made = {}
    for key, feature in features.items():
        if isinstance(feature, tensorflow_datasets.features.FeaturesDict):
            made[key] = example(feature, number, label, random)
        elif isinstance(feature, tensorflow_datasets.features.Image):
            sides = [side or int(random.integers(170, 200)) for side in feature.shape[:2]]
            made[key] = random.integers(0, 256, (*sides, feature.shape[2]), np.uint8)
        elif isinstance(feature, tensorflow_datasets.features.ClassLabel):
            made[key] = label if label < 0 else label % feature.num_classes
        elif isinstance(feature, tensorflow_datasets.features.Text):
            made[key] = f"number {number}"
        else:
            made[key] = bool(label % 2) if feature.np_dtype == np.bool_ else number
    return made


def write(name, folder, splits, count=SMALL, withheld=(), step=1):
    """Have TFDS's builder of that name write a few images a split; returns its features."""
    import tensorflow_datasets

    base, _, config = name.partition("/")
    real = tensorflow_datasets.builder_cls(base)

    def generate(self, split):
        random = np.random.default_rng(len(split))
        for number in range(count):
            yield number, example(self.info.features, number, -1 if split in withheld else number * step, random)

    body = {
        "name": base,
        "__module__": real.__module__,
        "_split_generators": lambda self, manager: {split: self._generate_examples(split) for split in splits},
        "_generate_examples": generate,
    }
    with tensorflow_datasets.core.registered.skip_registration():
        kind = type("Small", (real,), body)
    builder = kind(data_dir=folder, file_format="tfrecord", **({"config": config} if config else {}))
    builder.download_and_prepare()
    return builder.info.features


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """The folder of this test run that all of pytest-xdist's workers share; without them, this session's own."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def data_dir(shared):
    """A TFDS data directory with a few images of every data set that is absent here; one worker writes it for all."""
    folder = shared / "tfds_sets"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(dir=shared))
            write_all(unfinished)
            unfinished.rename(folder)
    return folder


def write_all(folder):
    for name in ABSENT:
        write(FACTS[name].name, folder, FACTS[name].splits, withheld=("test",) if name == "gtsrb" else ())
    for config in ("fog_1", "fog_5", "snow_1", "snow_5"):
        write(f"cifar10_corrupted/{config}", folder, ("test",))
    write("tf_flowers", folder, ("train",), count=40)


@pytest.fixture(scope="session")
def source(data_dir, shared):
    cache = shared / "tfds_sets_cache"  # it has locks of its own
    return lambda reference, folder=data_dir: DataSource(REGISTRY.choose(reference), folder, cache)


@pytest.fixture(scope="session")
def opened(source):
    """Prepare and open a data set by its reference, once."""
    known = {}

    def open_(reference):
        if reference not in known:
            chosen = source(reference)
            prepared = prepare(chosen, quiet)
            known[reference] = prepared.info, open_splits(chosen, prepared)
        return known[reference]

    return open_


@pytest.fixture(scope="session")
def corrupted(source):
    chosen = source(CORRUPTED)
    return chosen, prepare(chosen, quiet)


def real_info(name, folder):
    """Return what TFDS wrote of a data set that lies there in full."""
    import tensorflow_datasets

    return tensorflow_datasets.builder_from_directory(max((folder / name).iterdir())).info


def without_network(monkeypatch):
    monkeypatch.setattr(network, "unreachable", lambda url: "no answer")


class TestFacts:
    @pytest.mark.parametrize("name", sorted(FACTS))
    def test_tfds_knows_the_same_shape_and_classes(self, name, tmp_path):
        import tensorflow_datasets

        fact = FACTS[name]
        features = tensorflow_datasets.builder(fact.name, data_dir=tmp_path, try_gcs=False).info.features
        stored = features["image"].shape
        assert all(side in (None, loaded) for side, loaded in zip(stored, fact.shape, strict=True)) or name == "celeb_a"
        if name == "celeb_a":
            assert set(load_module(REGISTRY.plugins[name]).ATTRIBUTES) == set(features["attributes"])
        else:
            assert features["label"].num_classes == fact.classes

    @pytest.mark.parametrize("name", sorted(FACTS))
    def test_the_file_and_the_table_say_how_many_images_there_are(self, name):
        doc = REGISTRY.plugins[name].source.decode()
        row = next(line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{name}`"))
        for count in FACTS[name].counts.values():
            assert f"{count:,}" in row
            assert f"{count:,}" in doc or name in ("cifar10", "fashion_mnist")  # theirs give the sum

    def test_the_table_has_every_data_set(self):
        rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
        assert {row.split("`")[1].partition(":")[0] for row in rows} >= set(REGISTRY.plugins)

    def test_the_documentation_says_which_augmentation_each_data_set_allows(self):
        text = DOCS.read_text().partition("## What augmentation may do")[2].partition("## ")[0]
        rows = [line.split("|")[1:5] for line in text.splitlines() if line.startswith("| `")]
        said = {
            name.partition(":")[0]: tuple(cell.strip().startswith("yes") for cell in cells)
            for names, *cells in rows
            for name in names.split("`")[1::2]
        }
        infos = {name: plugin.info for name, plugin in REGISTRY.plugins.items() if not plugin.info.evaluation_only}
        assert said == {name: (info.horizontal_flip, info.crop, info.recolor) for name, info in infos.items()}

    @pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
    def test_real_data_has_these_sizes(self, name, real_data):
        info = real_info(name, real_data)
        assert {split: each.num_examples for split, each in info.splits.items()} == FACTS[name].counts

    def test_all_corruptions_are_configurations_of_tfds(self):
        import tensorflow_datasets

        module = load_module(REGISTRY.plugins["cifar10_corrupted"])
        configs = module._configs((), module.SEVERITIES)
        known = tensorflow_datasets.builder_cls("cifar10_corrupted").builder_configs
        assert len(configs) == 75
        assert {config.partition("/")[2] for config in configs.values()} <= set(known)


class TestFiles:
    @pytest.mark.parametrize("name", ABSENT)
    def test_its_data_is_loaded(self, name, opened):
        info, splits = opened(name)
        fact = FACTS[name]
        assert info.image_shape == fact.shape
        assert len(info.class_names) == fact.classes
        assert info.counts == dict.fromkeys(fact.counts, SMALL)
        for split in splits.named().values():
            expected = sorted(number % fact.classes for number in range(SMALL))
            assert sorted(split.labels.tolist()) == expected
            images = gather(split.images, np.arange(3), fact.shape)
            assert images.shape == (3, *fact.shape)
            assert images.std() > 10

    def test_images_of_one_size_are_loaded_to_the_bit(self, opened):
        _, splits = opened("mnist")
        random = np.random.default_rng(len("train"))
        expected = {random.integers(0, 256, (28, 28, 1), np.uint8).tobytes() for _ in range(SMALL)}
        assert {image.tobytes() for image in splits.train.images} == expected

    def test_a_face_has_the_attribute_that_was_asked_for(self, opened):
        info, _ = opened("celeb_a:attribute='Eyeglasses'")
        assert info.class_names == ("not Eyeglasses", "Eyeglasses")

    @pytest.mark.parametrize("name", ["celeb_a", "gtsrb", "imagenet2012", "imagenette", "oxford_flowers102"])
    def test_a_size_of_no_pixels_is_an_error(self, name, source):
        with pytest.raises(UsageError, match=f"{name}: expected a size of at least 1 pixel, got 0"):
            source(f"{name}:size=0").load(quiet)

    def test_an_unknown_attribute_is_an_error_that_lists_them(self, source):
        with pytest.raises(UsageError, match=r"unknown attribute of celeb_a 'Smilling'. Did you mean Smiling"):
            source("celeb_a:attribute='Smilling'").load(quiet)

    def test_a_larger_size_takes_a_larger_variant_of_imagenette(self, source):
        assert "imagenette/160px-v2" in source("imagenette:size=160").version()
        assert source("imagenette:size=161").version() is None

    def test_imagenets_archives_are_asked_for_by_name(self, source, tmp_path):
        with pytest.raises(DataError, match=r"put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into .*manual"):
            find(source("imagenet2012", tmp_path))
        manual = tmp_path / "downloads" / "manual"
        manual.mkdir(parents=True)
        for name in load_module(REGISTRY.plugins["imagenet2012"]).ARCHIVES:
            (manual / name).write_text("")
        assert find(source("imagenet2012", tmp_path)) is None  # it can be prepared


class TestBridge:
    def test_images_of_one_size_stay_as_they_are(self, opened):
        info, splits = opened("tfds:name='svhn_cropped'")
        assert info.fingerprint == opened("svhn_cropped")[0].fingerprint
        assert isinstance(splits.train.images, np.memmap)
        assert (info.notes, info.counts) == ((), {"train": SMALL, "test": SMALL})

    def test_a_size_is_followed(self, opened):
        info, splits = opened("tfds:name='svhn_cropped',size=16")
        assert info.image_shape == splits.test.images.shape[1:] == (16, 16, 3)

    def test_images_that_differ_in_size_are_brought_to_the_default(self, opened):
        info, _ = opened("tfds:name='visual_domain_decathlon/gtsrb'")
        assert info.image_shape == (tfds.DEFAULT_SIZE, tfds.DEFAULT_SIZE, 3)

    def test_withheld_labels_make_the_validation_split_the_test_set(self, opened):
        info, splits = opened("tfds:name='visual_domain_decathlon/gtsrb'")
        assert info.notes == (
            "the labels of visual_domain_decathlon/gtsrb's split test are not public: its split validation is the "
            "test set.",
        )
        assert splits.validation is None
        assert set(splits.test.labels) == set(range(SMALL))

    def test_without_a_test_split_the_validation_split_is_the_test_set(self, opened):
        info, _ = opened("tfds:name='imagenette/160px-v2'")
        assert info.notes == ("imagenette/160px-v2 has no test split: its split validation is the test set.",)
        assert info.counts == {"train": SMALL, "test": SMALL}

    def test_without_both_a_stratified_fifth_is_the_test_set(self, opened, source):
        info, splits = opened("tfds:name='tf_flowers'")
        assert "tf_flowers has no test split: a stratified fifth of its training images" in info.notes[0]
        assert info.counts == {"train": 32, "test": 8}
        assert np.bincount(splits.train.labels).min() >= 6
        train = {image.tobytes() for image in splits.train.images}
        assert not train & {image.tobytes() for image in splits.test.images}
        again = source("tfds:name='tf_flowers'").load(quiet)
        np.testing.assert_array_equal(again.test.labels, splits.test.labels)

    def test_a_split_and_a_feature_can_be_named(self, opened):
        info, splits = opened("tfds:name='cifar100',label='coarse_label',train='test',test='train'")
        assert len(info.class_names) == 20
        assert len(splits.test) == SMALL

    def test_a_default_configuration_that_was_prepared_is_found(self, source, tmp_path):
        write("imagenette/full-size-v2", tmp_path, ("train", "validation"), count=2)
        assert "1.0.0" in source("tfds:name='imagenette'", tmp_path).version()

    @pytest.mark.parametrize("name", ["tf_flowers", "imagenette/160px-v2"])
    def test_what_is_too_large_for_arrays_stays_jpegs(self, name, source, monkeypatch):
        monkeypatch.setattr(tfds, "LARGEST_ARRAYS", 1_000)
        splits = source(f"tfds:name='{name}'").load(quiet)
        assert isinstance(splits.train.images, JpegImages)
        assert splits.fingerprint
        assert gather(splits.test.images, np.arange(2), (64, 64, 3)).shape == (2, 64, 64, 3)
        assert len(np.unique(splits.test.images.index["offset"])) == len(splits.test)

    def test_what_is_no_jpeg_becomes_arrays_however_large(self, source, monkeypatch):
        monkeypatch.setattr(tfds, "LARGEST_ARRAYS", 1_000)
        assert isinstance(source("tfds:name='patch_camelyon',size=8").load(quiet).train.images, np.ndarray)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ("name='mnist',train='training'", r"mnist has no split 'training'. Available: train, test"),
            ("name='mnist',test='exam'", r"mnist has no split 'exam'"),
            ("name='mnist',validation='exam'", r"mnist has no split 'exam'"),
            ("name='mnist',label='digit'", r"mnist is no classification set .* classes in: label;"),
            ("name='celeb_a'", r"celeb_a is no classification set .*'label'.* classes in: .*attributes/Smiling"),
            ("name='mnist',size=-1", r"expected a size of at least 1 pixel, or 0"),
            ("name='mnist',train='test'", r"must be different splits, .* got train='test', test='test', validation=''"),
            ("name='mnist',validation='test'", r"tfds:mnist: train, test and validation must be different splits"),
            ("name='mnist',validation='train'", r"tfds:mnist: train, test and validation must be different splits"),
        ],
    )
    def test_what_does_not_fit_the_data_is_one_message(self, source, parameters, message):
        with pytest.raises((DataError, UsageError), match=message):
            source(f"tfds:{parameters}").load(quiet)

    def test_too_few_images_of_a_class_for_a_test_set_are_an_error(self, source, tmp_path):
        write("eurosat", tmp_path, ("train",), count=10)
        with pytest.raises(DataError, match="eurosat has no test split, and none can be carved"):
            source("tfds:name='eurosat'", tmp_path).load(quiet)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("mnits", r"TFDS has no data set 'mnits'. Did you mean mnist"),
            ("MNIST", r"Did you mean mnist"),
            ("flowers", r"Did you mean .*tf_flowers"),
            ("zzzzzz", r"TFDS has no data set 'zzzzzz'. Expected the name of one of its \d+ data sets"),
            ("imagenette/160px-v3", r"no configuration '160px-v3'. Did you mean 160px-v2 or .* It has: full-size-v2,"),
            ("mnist/large", r"TFDS's data set mnist has no configuration 'large'. It has: none."),
            ("cifar10_corrupted/rain_1", r"brightness_2, .*, \.\.\. \(95 in all\)"),
            ("ag_news_subset", r"ag_news_subset is no classification set .* images in: none; classes in: label"),
            ("resisc45", r"cannot download it. Its instructions: .*OneDrive.* manual_dir is .*downloads/manual"),
        ],
    )
    def test_what_tfds_cannot_have_is_said_before_anything_is_downloaded(
        self, source, tmp_path, monkeypatch, name, message
    ):
        without_network(monkeypatch)
        with pytest.raises((DataError, UsageError), match=message):
            find(source(f"tfds:name='{name}'", tmp_path))

    def test_absent_data_without_a_network_is_one_message(self, source, tmp_path, monkeypatch):
        without_network(monkeypatch)
        with pytest.raises(DataError, match=r"eurosat.* is not on disk and cannot be downloaded: tried .*no answer"):
            find(source("tfds:name='eurosat'", tmp_path))

    def test_another_variant_that_was_prepared_is_not_taken_for_this_one(self, source, opened, tmp_path, monkeypatch):
        opened("imagenette")
        without_network(monkeypatch)
        with pytest.raises(DataError, match=r"On disk there: none\.$"):
            find(source("imagenette:size=320", tmp_path))

    def test_one_host_that_answers_is_enough(self, source, tmp_path, monkeypatch):
        monkeypatch.setattr(network, "unreachable", lambda url: "" if "robots" in url else "no answer")
        assert find(source("tfds:name='visual_domain_decathlon/dtd'", tmp_path)) is None

    def test_a_download_that_fails_does_so_soon(self, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise OSError("no such host")

        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        start = time.monotonic()
        with pytest.raises(DataError, match=r"TFDS cannot prepare pneumonia_mnist in .*"):
            tfds.load("pneumonia_mnist", tmp_path, quiet)
        assert time.monotonic() - start < 60  # TFDS's own retries take more than three minutes


class TestTestSets:
    def test_they_are_prepared_described_and_mapped(self, corrupted):
        chosen, prepared = corrupted
        info = prepared.info
        assert find(chosen) == prepared
        assert info.counts == dict.fromkeys(("fog/1", "fog/5", "snow/1", "snow/5"), SMALL)
        assert (info.image_shape, info.channel_mean, info.cached) == ((32, 32, 3), (), True)
        opened = open_test_sets(chosen, prepared)
        assert list(opened.sets) == ["fog/1", "fog/5", "snow/1", "snow/5"]
        assert all(isinstance(split.images, np.memmap) and len(split) == SMALL for split in opened.sets.values())

    def test_their_classes_are_those_of_the_data_that_is_trained_on(self, corrupted, real_data):
        assert corrupted[1].info.class_names == tuple(real_info("cifar10", real_data).features["label"].names)

    def test_the_fingerprint_is_over_all_sets(self, corrupted, source):
        fewer = prepare(source('cifar10_corrupted:corruptions=["fog"],severities=[1,5]'), quiet)
        assert fewer.info.fingerprint != corrupted[1].info.fingerprint

    def test_absent_sets_have_no_version(self, source):
        assert source("cifar10_corrupted").version() is None

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ('corruptions=["fogg"]', "unknown corruption 'fogg'. Did you mean fog"),
            ("severities=[0]", r"expected severities from 1 to 5, got \[0\]"),
        ],
    )
    def test_unknown_corruptions_are_errors(self, source, parameters, message):
        with pytest.raises(UsageError, match=message):
            find(source(f"cifar10_corrupted:{parameters}"))

    def test_there_is_nothing_to_train_on(self, corrupted):
        chosen, prepared = corrupted
        message = r"cifar10_corrupted.* has no training images: .* --evaluate-also cifar10_corrupted"
        with pytest.raises(UsageError, match=message):
            require_trainable(chosen.choice)
        with pytest.raises(UsageError, match=message):
            open_splits(chosen, prepared)

    def test_another_data_sets_test_images_are_the_one_set(self, source):
        chosen = source("mnist")
        prepared = prepare(chosen, quiet)
        require_trainable(chosen.choice)
        sets, splits = open_test_sets(chosen, prepared), open_splits(chosen, prepared)
        assert sets.class_names == splits.class_names
        assert list(sets.sets) == ["test"]
        np.testing.assert_array_equal(sets.sets["test"].images, splits.test.images)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"class_names": ("a", "b")}, r"pneumonia does not fit trained: .* It has 10 classes, expected 2"),
            ({"class_names": tuple("0123456798")}, r"Class 8 is '8', expected '9'"),
            ({"image_shape": (32, 32, 3)}, r"its images are 28×28×1, expected 32×32×3 .* size="),
        ],
    )
    def test_what_does_not_fit_is_an_error(self, opened, change, message):
        info, _ = opened("mnist")
        with pytest.raises(UsageError, match=message):
            require_fit("pneumonia", info, "trained", replace(info, **change))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (None, r"data is evaluation_only: `load` must return bench\.api\.TestSets, got NoneType"),
            (TestSets(sets={}, class_names=("a", "b")), "at least one set of test images, got none"),
            (
                TestSets(sets={"x/1": Split([b"jpeg"], np.zeros(1, int))}, class_names=("a", "b")),
                "set x/1: images must be uint8 N×H×W×C, got list",
            ),
            (
                TestSets(
                    sets={
                        "x/1": Split(np.zeros((1, 4, 4, 1), np.uint8), np.zeros(1, int)),
                        "x/2": Split(np.zeros((1, 5, 5, 1), np.uint8), np.zeros(1, int)),
                    },
                    class_names=("a", "b"),
                ),
                r"set x/2: images are \(5, 5, 1\), expected \(4, 4, 1\)",
            ),
        ],
    )
    def test_what_a_plugin_hands_over_is_checked(self, value, message):
        with pytest.raises(PluginError, match=message):
            check_test_sets(value, "data")

    def test_generated_sets_are_opened_without_a_copy(self, tmp_path):
        folder = tmp_path / "datasets"
        folder.mkdir()
        (folder / "noise.py").write_text(
            '"""Noise."""\n'
            "import numpy as np\n"
            "from bench.api import Dataset, Split, TestSets\n\n"
            "INFO = Dataset(evaluation_only=True, cache=False)\n\n\n"
            "def load():\n"
            "    images = np.arange(64, dtype=np.uint8).reshape(4, 4, 4, 1)\n"
            '    return TestSets(sets={"noise/1": Split(images, np.arange(4) % 2)}, class_names=("a", "b"))\n'
        )
        chosen = DataSource(discover("dataset", [tmp_path]).choose("noise"), tmp_path, tmp_path / "cache")
        prepared = prepare(chosen, quiet)
        assert not prepared.info.cached
        assert open_test_sets(chosen, prepared).sets["noise/1"].images.shape == (4, 4, 4, 1)
