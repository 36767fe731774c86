import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from bench.measurement.cost import parameter_counts
from bench.measurement.memory import peak_memory_bytes
from bench.measurement.phases import Stopwatch


def test_parameters_count_frozen_weights_but_no_moving_statistics():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, trainable=False),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    assert parameter_counts(model) == (25 + 10 + 12, 10 + 12)


def test_a_phase_entered_twice_adds_up():
    watch = Stopwatch()
    for _ in range(2):
        with watch.phase("data"):
            pass
    first = watch.seconds["data"]
    with watch.phase("data"):
        sum(range(10_000))
    assert watch.seconds["data"] > first
    assert list(watch.seconds) == ["data"]


def test_peak_memory_counts_what_the_process_held():
    before = peak_memory_bytes()
    block = np.ones(before // 8 + 50_000_000)  # more than was ever held, in float64
    assert peak_memory_bytes() - before > 300_000_000
    del block
