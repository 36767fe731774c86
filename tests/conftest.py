"""Fixtures: a cache of its own for each test session, tiny plugins, and the command line as a user calls it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.data.tfds import default_data_dir

# A shell's background job ignores Ctrl-C, and so would every process that is started here to be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)

REAL_DATA = Path(os.environ.get("BENCH_TEST_DATA_DIR") or default_data_dir())

TINY_NET = '''"""A tiny net for tests."""
import keras
from bench.api import Architecture

INFO = Architecture(min_size=4)


def build(input_shape, num_classes, *, units: int = 8):
    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(x))
'''

TINY_DATA = '''"""Tiny images for tests: the class is the brightness."""
import numpy as np
from bench.api import Dataset, Split, Splits

INFO = Dataset(horizontal_flip=True)


def load(*, number: int = 64, size: int = 8):
    def draw(count, seed):
        labels = np.arange(count) % 4
        noise = np.random.default_rng(seed).integers(0, 40, (count, size, size, 1))
        return Split((labels[:, None, None, None] * 60 + noise).astype(np.uint8), labels.astype(np.int64))

    return Splits(train=draw(number, 0), test=draw(20, 1), class_names=("a", "b", "c", "d"))
'''


@pytest.fixture(autouse=True, scope="session")
def cache_dir(tmp_path_factory):
    """Keep the user's own cache out of it."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["BENCH_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def real_data():
    """The folder with the real data sets, in TFDS's format."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"needs real data in TFDS format: {REAL_DATA} does not exist (set BENCH_TEST_DATA_DIR)")
    return REAL_DATA


@pytest.fixture
def plugins(tmp_path):
    """A plugin folder with `tiny_net` and `tiny_data`; `add` puts another file into it."""
    folder = tmp_path / "plugins"
    for kind, name, text in (("architectures", "tiny_net", TINY_NET), ("datasets", "tiny_data", TINY_DATA)):
        (folder / kind).mkdir(parents=True)
        (folder / kind / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def bench(capfd, plugins, tmp_path):
    """Call the command line in this process, whose fork server imports TensorFlow once for all tests.

    Returns (exit code, standard output, standard error).
    """
    from bench.cli.main import main

    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            code = error.code
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def run(bench, plugins, tmp_path):
    """Call `bench run` with the tiny plugins and a results folder of the test's own."""

    def call(*arguments, arch="tiny_net", dataset="tiny_data", epochs=2, batch=16):
        named = ["--arch", *arch.split(), "--dataset", *dataset.split()] if arch else []
        recipe = ["--epochs", epochs, "--batch-size", batch] if epochs else []
        basic = [] if "--measure" in arguments else ["--measure", "basic"]  # the rest takes seconds a trial
        return bench(
            "run", *named, *recipe, *basic, "--plugins", plugins, "--results", tmp_path / "results", *arguments
        )

    return call


@pytest.fixture
def records(tmp_path):
    """Read the records in the test's results folder."""
    from bench.store import Store

    return lambda: Store(tmp_path / "results").records()


def command(*arguments, **options):
    """Start the command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
