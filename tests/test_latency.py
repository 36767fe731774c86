import dataclasses

import numpy as np
import pytest

from bench.measurement.latency import (
    batch_sweep,
    percentile,
    single_image_latency,
)

IMAGES = np.arange(64 * 2 * 2, dtype=np.uint8).reshape(64, 2, 2, 1)


class FakeModel:
    """Takes the seconds that `seconds(call, batch size)` says, on a clock of its own."""

    def __init__(self, seconds):
        self.seconds, self.now, self.batches = seconds, 0.0, []

    def __call__(self, images):
        self.now += self.seconds(len(self.batches), len(images))
        self.batches.append(images)
        return np.zeros((len(images), 10), np.float32)

    def clock(self):
        return self.now


@pytest.mark.parametrize(
    ("count", "known"),
    [(19, []), (20, [50]), (199, [50]), (200, [50, 95]), (999, [50, 95]), (1_000, [50, 95, 99])],
)
def test_a_percentile_needs_ten_observations_beyond_it(count, known):
    values = np.random.default_rng(count).exponential(size=count).tolist()
    assert [percent for percent in (50, 95, 99) if percentile(values, percent) is not None] == known
    for percent in known:
        assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))


def test_latency_keeps_the_first_call_and_the_warmup_apart():
    counted = np.random.default_rng(0).exponential(0.004, 2_000)

    def seconds(call, size):
        if call == 0:
            return 3.0
        return 0.5 if call <= 5 else 0.004 if call <= 15 else counted[call - 16]

    model = FakeModel(seconds)
    latency = single_image_latency(model, IMAGES, budget_seconds=1_000, clock=model.clock)
    assert latency.first_call_ms == pytest.approx(3_000)
    assert (latency.warmup_calls, latency.settled, latency.calls) == (15, True, 1_000)
    for percent in (50, 95, 99):
        expected = 1_000 * np.percentile(counted[:1_000], percent)
        assert getattr(latency, f"p{percent}_ms") == pytest.approx(expected)


def test_latency_is_of_single_images_in_turn():
    model = FakeModel(lambda call, size: 0.1)
    single_image_latency(model, IMAGES, budget_seconds=1.0, clock=model.clock)
    assert {each.shape for each in model.batches} == {(1, 2, 2, 1)}
    np.testing.assert_array_equal(np.concatenate(model.batches[:20]), IMAGES[:20])


def test_latency_keeps_to_the_budget_and_leaves_out_what_it_cannot_know():
    model = FakeModel(lambda call, size: 0.02)
    latency = single_image_latency(model, IMAGES, budget_seconds=10.0, clock=model.clock)
    assert model.now < 11
    assert 200 <= latency.calls < 1_000
    assert latency.p95_ms == pytest.approx(20)
    assert latency.p99_ms is None


def test_a_very_slow_model_is_called_twenty_times_all_the_same():
    model = FakeModel(lambda call, size: 60.0)
    latency = single_image_latency(model, IMAGES, budget_seconds=1.0, clock=model.clock)
    assert (latency.calls, latency.settled) == (20, False)
    assert latency.p50_ms == pytest.approx(60_000)
    assert latency.p95_ms is None


def test_calls_that_keep_becoming_faster_have_not_settled():
    model = FakeModel(lambda call, size: 0.5 * 0.97**call)
    assert not single_image_latency(model, IMAGES, budget_seconds=10.0, clock=model.clock).settled


def test_the_best_batch_size_is_marked():
    model = FakeModel(lambda call, size: 0.001 + (0.0001 if size <= 32 else 0.0002) * size)
    sweep = batch_sweep(model, IMAGES, clock=model.clock)
    speeds = {each.batch_size: each.images_per_second for each in sweep.speeds}
    assert speeds == {
        size: pytest.approx(size / (0.001 + (0.0001 if size <= 32 else 0.0002) * size)) for size in (1, 8, 32, 128, 512)
    }
    assert [each.batch_size for each in sweep.speeds if each.best] == [32]
    assert sweep.best.batch_size == 32
    assert sweep.note == ""


def test_batch_speed_is_the_median_with_quartiles_and_the_first_call_apart():
    times = np.random.default_rng(0).uniform(0.01, 0.03, 10_000)
    model = FakeModel(lambda call, size: 9.0 if call == 0 else times[call])
    (speed,) = batch_sweep(model, IMAGES, sizes=[16], clock=model.clock, budget_seconds=2.0).speeds
    counted = times[1 + speed.warmup_calls :][: speed.calls]
    expected = np.quantile(16 / counted, (0.25, 0.5, 0.75))
    assert speed.first_call_seconds == pytest.approx(9.0)
    assert (speed.q1, speed.images_per_second, speed.q3) == pytest.approx(tuple(expected))
    assert len(model.batches) == 1 + speed.warmup_calls + speed.calls


def test_a_batch_larger_than_the_images_repeats_them():
    model = FakeModel(lambda call, size: 0.1)
    batch_sweep(model, IMAGES, sizes=[100], clock=model.clock, budget_seconds=100)
    np.testing.assert_array_equal(model.batches[0], np.concatenate([IMAGES, IMAGES[:36]]))


class OutOfMemoryError(Exception):
    pass


def test_running_out_of_memory_ends_the_sweep_and_keeps_what_was_measured():
    def seconds(call, size):
        if size > 32:
            raise OutOfMemoryError
        return 0.01

    model = FakeModel(seconds)
    sweep = batch_sweep(
        model, IMAGES, is_out_of_memory=lambda error: isinstance(error, OutOfMemoryError), clock=model.clock
    )
    assert [each.batch_size for each in sweep.speeds] == [1, 8, 32]
    assert sweep.best.batch_size == 32
    assert sweep.note == "out of memory at a batch of 128"
    with pytest.raises(OutOfMemoryError):
        batch_sweep(model, IMAGES, clock=model.clock)


def test_no_memory_for_a_single_image_is_no_figure():
    def predict(images):
        raise MemoryError

    sweep = batch_sweep(predict, IMAGES)
    assert (sweep.speeds, sweep.best) == ((), None)
    assert "out of memory" in sweep.note


def test_batches_of_too_many_bytes_are_not_tried():
    model = FakeModel(lambda call, size: 0.001 * size)
    sweep = batch_sweep(model, IMAGES, most_input_bytes=32 * 4, clock=model.clock)
    assert [each.batch_size for each in sweep.speeds] == [1, 8, 32]
    assert "a batch of 128 has 512 bytes, more than 128" in sweep.note


def test_batches_that_would_take_too_long_are_not_tried():
    model = FakeModel(lambda call, size: 0.01 * size)
    sweep = batch_sweep(model, IMAGES, clock=model.clock, budget_seconds=2.0)
    assert [each.batch_size for each in sweep.speeds] == [1, 8, 32]
    assert "5 batches of 128 would take about 6 s" in sweep.note


def test_what_is_measured_is_plain_json():
    model = FakeModel(lambda call, size: 0.01)
    latency = single_image_latency(model, IMAGES, clock=model.clock)
    sweep = batch_sweep(model, IMAGES, clock=model.clock)
    values = [*dataclasses.asdict(latency).values(), *dataclasses.asdict(sweep.speeds[0]).values(), sweep.note]
    assert {type(each) for each in values} <= {int, float, bool, str, type(None)}


def test_a_real_clock_gives_real_figures():
    latency = single_image_latency(lambda images: images.sum(), IMAGES, budget_seconds=0.2)
    assert latency.p50_ms > 0
