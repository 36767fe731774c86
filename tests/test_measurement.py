import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from bench.measurement.cost import parameter_counts
from bench.measurement.latency import inference_images_per_second
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


def test_inference_speed_counts_images_of_counted_calls_alone():
    now = [0.0]
    calls = []

    def predict(images):
        calls.append(len(images))
        now[0] += 10.0 if len(calls) == 1 else 0.25  # the first one traces

    speed = inference_images_per_second(predict, np.zeros((64, 2, 2, 1), np.uint8), clock=lambda: now[0])
    assert speed == pytest.approx(64 / 0.25)
    assert len(calls) == 1 + 5


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
    before = peak_memory_bytes("CPU")
    block = np.ones(before // 8 + 50_000_000)  # more than was ever held, in float64
    assert peak_memory_bytes("CPU") - before > 300_000_000
    del block
