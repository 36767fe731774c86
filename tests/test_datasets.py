"""Every data set there is: a new file is tested by existing."""

import numpy as np
import pytest

from bench.contract.datasets import check_dataset
from bench.contract.descriptions import check_description
from bench.data.cache import DataSource, prepare
from bench.errors import UsageError
from bench.plugins import PluginChoice, discover, load_module

PLUGINS = discover("dataset").plugins
USABLE = sorted(name for name, plugin in PLUGINS.items() if not plugin.info.argument)  # others are told of what


@pytest.fixture
def source(tmp_path, cache_dir, request):
    """Return a data set by name: the real data where it is not made on the fly."""

    def source_of(name):
        choice = PluginChoice(PLUGINS[name], PLUGINS[name].parameters)
        is_stored = "version" in PLUGINS[name].functions  # it lies in a TFDS data directory
        folder = request.getfixturevalue("real_data") if is_stored else tmp_path
        found = DataSource(choice, folder, cache_dir)
        if found.version() is None:
            pytest.skip(f"{name} is not in {folder}")
        return found

    return source_of


@pytest.mark.parametrize("name", sorted(PLUGINS))
def test_its_description_keeps_the_contract(name):
    assert check_description(PLUGINS[name]).findings == ()


@pytest.mark.parametrize("name", USABLE)
def test_it_keeps_the_contract(name, source):
    results = check_dataset(source(name))
    assert [f"{result.check}: {finding}" for result in results for finding in result.findings] == []


def test_cifar10_is_the_real_one(source):
    info = prepare(source("cifar10"), lambda *_: None).info
    assert info.counts == {"train": 50_000, "test": 10_000}
    np.testing.assert_allclose(info.channel_mean, (0.49140, 0.48216, 0.44653), atol=1e-5)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"channels": 2}, {"classes": 1}, {"classes": 7, "number": 6}])
def test_synthetic_images_need_sensible_parameters(wrong):
    key, value = list(wrong.items())[-1]
    with pytest.raises(UsageError, match=f"synthetic: expected size >= 1, .* got .*{key}={value}"):
        load_module(PLUGINS["synthetic"]).load(**wrong)


def test_synthetic_images_have_any_size_and_number():
    splits = load_module(PLUGINS["synthetic"]).load(size=20, channels=1, classes=7, number=35)
    assert splits.train.images.shape == (35, 20, 20, 1)
    assert len(splits.test) == 7
    assert len(splits.class_names) == 7
