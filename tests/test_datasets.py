"""Every data set there is: a new file is tested by existing."""

import numpy as np
import pytest

from bench.data.cache import DataSource, open_splits, prepare
from bench.data.images import fingerprint, gather
from bench.data.tfds import on_disk
from bench.plugins import PluginChoice, discover

PLUGINS = discover("dataset").plugins
NAMES = sorted(PLUGINS)


@pytest.fixture(scope="module")
def opened(tmp_path_factory, cache_dir, request):
    """Open a data set by name, from the real data where it is not made on the fly."""
    known = {}

    def open_(name):
        if name not in known:
            plugin = PLUGINS[name]
            folder = tmp_path_factory.getbasetemp()
            if "version" in plugin.functions:  # it lies in a TFDS data directory
                folder = request.getfixturevalue("real_data")
                if name not in on_disk(folder):
                    pytest.skip(f"{name} is not in {folder}")
            source = DataSource(PluginChoice(plugin, plugin.parameters), folder, cache_dir)
            prepared = prepare(source, lambda *_: None)
            known[name] = (prepared.info, open_splits(source, prepared))
        return known[name]

    return open_


@pytest.mark.parametrize("name", NAMES)
def test_the_plugin_is_whole(name):
    assert PLUGINS[name].error == ""
    assert PLUGINS[name].summary.endswith(".")
    assert bool(PLUGINS[name].info.download) == bool(PLUGINS[name].info.download_size)


@pytest.mark.parametrize("name", NAMES)
def test_its_splits_are_what_its_description_says(name, opened):
    info, splits = opened(name)
    for split_name, split in splits.named().items():
        assert len(split) == len(split.images) == info.counts[split_name]
        some = gather(split.images, np.arange(min(len(split), 10)), info.image_shape)
        assert some.dtype == np.uint8
        assert some.shape[1:] == info.image_shape
        assert set(np.unique(split.labels)) == set(range(len(info.class_names)))
    assert len(set(info.class_names)) == len(info.class_names)


@pytest.mark.parametrize("name", NAMES)
def test_its_fingerprint_is_that_of_its_content(name, opened):
    info, splits = opened(name)
    if not isinstance(splits.train.images, np.ndarray):
        pytest.skip(f"{name} hands over encoded images with a fingerprint of its own")
    assert info.fingerprint == fingerprint(splits)


@pytest.mark.parametrize("name", NAMES)
def test_its_channel_statistics_are_those_of_its_training_images(name, opened):
    info, splits = opened(name)
    if not isinstance(splits.train.images, np.ndarray):
        pytest.skip(f"{name} hands over encoded images, whose statistics are of a sample")
    pixels = np.asarray(splits.train.images, np.float64).reshape(-1, info.image_shape[2]) / 255
    np.testing.assert_allclose(info.channel_mean, pixels.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(info.channel_std, pixels.std(axis=0), rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_no_test_image_is_a_training_image(name, opened):
    if PLUGINS[name].info.download:
        pytest.skip(f"what {name} downloads is its source's business; some famous sets have a few duplicates")
    _, splits = opened(name)
    train = {image.tobytes() for image in splits.train.images}
    assert not any(image.tobytes() in train for image in splits.test.images)


def test_cifar10_is_the_real_one(opened):
    info, _ = opened("cifar10")
    assert info.counts == {"train": 50_000, "test": 10_000}
    np.testing.assert_allclose(info.channel_mean, (0.49140, 0.48216, 0.44653), atol=1e-5)


def test_synthetic_images_have_any_size_and_number():
    plugin = PLUGINS["synthetic"]
    from bench.plugins import load_module

    splits = load_module(plugin).load(size=20, channels=1, classes=7, number=35)
    assert splits.train.images.shape == (35, 20, 20, 1)
    assert len(splits.test) == 7
    assert len(splits.class_names) == 7
