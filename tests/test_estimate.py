"""Estimates of what planned trials will take."""

import dataclasses
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

import pytest

from bench.data.cache import DataSource, prepare
from bench.environment import Device, describe
from bench.execution.counting import Counts, count_missing, model_key, recorded_counts
from bench.execution.estimate import (
    BESIDES_SECONDS,
    FLOPS,
    PEAK_SHARE,
    RECORD_BYTES,
    Estimate,
    Estimator,
    Figure,
    disk_bytes,
    total,
)
from bench.execution.planning import Choice, plan
from bench.plugins import discover
from bench.recipes import resolve_recipe
from bench.records import Status, TrialRecord

COUNTS = Counts(parameters=1_000, macs=2_000, activations=300)
HERE = describe(Device("CPU", "a CPU"), "tensorflow")


@pytest.fixture
def plan_one(plugins, tmp_path):
    """Plan a trial of the tiny plugins."""
    architectures, datasets = discover("architecture", [plugins]), discover("dataset", [plugins])

    def make(arch="tiny_net", dataset="tiny_data", seed=0, devices=1, name="standard", **overrides):
        source = DataSource(datasets.choose(dataset), tmp_path, tmp_path / "cache")
        choice = Choice(
            architecture=architectures.choose(arch),
            source=source,
            recipe=resolve_recipe(name, {"epochs": 5, "batch_size": 16, "validation_fraction": 0.0, **overrides}),
            precision="float32",
            backend="tensorflow",
            devices=devices,
            seed=seed,
        )
        (trial,) = plan([choice], {source.choice.label: prepare(source, lambda *_: None)})
        return trial

    return make


def record_of(trial, *, seconds=10.0, speed=64.0, memory=5 * 10**8, environment=HERE, status=Status.OK, macs=None):
    """Return the record of a trial: of 64 images in 5 epochs, trained for 5 seconds at 64 images/s."""
    return TrialRecord(
        trial_id=trial.spec.trial_id,
        attempt="a",
        status=status,
        spec=trial.spec,
        environment=environment,
        started_at=datetime.now(UTC).isoformat(),
        seconds=seconds,
        metrics={
            "train_images_per_second": speed,
            "peak_memory_bytes": memory,
            **({"parameters": 1_000, "macs": macs, "activations": 300} if macs else {}),
        },
        resolved={"steps": 20},
    )


def estimate(trial, records=(), counts=MappingProxyType({}), peak=None, environment=HERE):
    estimator = Estimator(records, {"tensorflow": environment}, counts, lambda backend, precision: peak)
    return estimator.estimate(trial, "float32")


def test_the_same_setting_with_other_seeds_tells_most(plan_one):
    records = [record_of(plan_one(seed=seed), seconds=10.0 + seed, memory=100 + seed) for seed in range(3)]
    records.append(record_of(plan_one(epochs=50), seconds=1_000))
    found = estimate(plan_one(seed=9), records)
    assert found.seconds == Figure(11.0, "3 records of the same setting")
    assert found.memory_bytes == Figure(102, "3 records of the same setting")


def test_the_same_architecture_on_the_same_images_is_scaled_by_the_images_to_train(plan_one):
    found = estimate(plan_one(epochs=50), [record_of(plan_one())])
    assert found.seconds == Figure(64 * 50 / 64.0 + 5.0, "speed of 1 record on these images")
    assert found.memory_bytes == Figure(5 * 10**8, "1 record of the same model and batch size")


def test_the_same_architecture_on_other_images_is_scaled_by_macs_too(plan_one):
    trial, before = plan_one(dataset="tiny_data:size=16"), plan_one()
    counts = {model_key(trial.spec): COUNTS, model_key(before.spec): dataclasses.replace(COUNTS, macs=500)}
    other = record_of(plan_one("tiny_net:units=4"), speed=10**6, macs=700)
    found = estimate(trial, [record_of(before), other], {**recorded_counts([other]), **counts})
    assert found.seconds.value == pytest.approx(64 * 5 / (64.0 / 4) + 5.0)
    assert found.seconds.basis == "MACs at 0.000192 GFLOP/s, from 1 record of the architecture"


def test_other_architectures_tell_the_speed_of_multiply_adds(plan_one):
    trial = plan_one("tiny_net:units=4")
    records = [record_of(plan_one(seed=seed), macs=4_000) for seed in range(2)]
    found = estimate(trial, records, {**recorded_counts(records), model_key(trial.spec): COUNTS})
    assert found.seconds.value == pytest.approx(64 * 5 / 128.0 + 5.0)
    assert found.seconds.basis.endswith("GFLOP/s, from 2 records of other architectures")
    assert found.memory_bytes.value == 5 * 10**8 + 4 * 4 * 1_000 + 4 * 300 * 16
    assert found.memory_bytes.basis == "parameters and activations on top of the smallest trial here"


def test_without_records_the_peak_and_the_macs_tell(plan_one):
    trial = plan_one()
    found = estimate(trial, [], {model_key(trial.spec): COUNTS}, peak=1e9)
    assert found.seconds.value == pytest.approx(64 * 5 * 2_000 * FLOPS / (PEAK_SHARE * 1e9) + BESIDES_SECONDS)
    assert found.seconds.basis == "MACs at 25% of the matrix-product peak of 1 GFLOP/s"
    assert found.memory_bytes == Figure(
        4e8 + 16_000 + 19_200, "parameters and activations on top of 400MB for the backend"
    )
    assert found.state_bytes == 2 * 3 * 4 * 1_000


def test_a_budget_in_flops_needs_the_cost_of_the_model(plan_one):
    trial = plan_one(budget_flops=6 * 2_000 * 16 * 20.0)
    records = [record_of(plan_one())]
    unknown = Figure(None, "unknown: no records of the same setting, and no count of MACs")
    assert estimate(trial, records).seconds == unknown
    known = estimate(trial, records, {model_key(trial.spec): COUNTS}).seconds
    assert known.value == estimate(plan_one(epochs=5, seed=1), records).seconds.value  # 20 steps, too


def test_what_is_not_known_is_said_so(plan_one):
    trial = plan_one()
    found = estimate(trial)
    assert found.seconds == Figure(None, "unknown: no records on these images, and no count of MACs")
    assert found.memory_bytes == Figure(None, "unknown: no such records, and no count of activations")
    assert found.state_bytes is None
    with_macs = estimate(trial, [], {model_key(trial.spec): COUNTS})
    assert with_macs.seconds == Figure(None, "unknown: no records to go by")


@pytest.mark.parametrize(
    "other",
    [
        {"environment": dataclasses.replace(HERE, machine="another")},
        {"environment": dataclasses.replace(HERE, cores_used=1)},
        {"status": Status.FAILED},
        {"status": Status.INTERRUPTED},
    ],
)
def test_trials_of_other_machines_and_failed_ones_tell_nothing(plan_one, other):
    assert estimate(plan_one(), [record_of(plan_one(), **other)]).seconds.value is None


def test_records_without_speed_or_memory_are_left_aside(plan_one):
    records = [record_of(plan_one(), speed=None, memory=None, macs="many")]
    assert recorded_counts(records) == {}
    found = estimate(plan_one(epochs=50), records)
    assert (found.seconds.value, found.memory_bytes.value) == (None, None)
    assert estimate(plan_one(seed=1), records).seconds.value == 10.0


def test_predictions_decide_the_disk(plan_one):
    trial = plan_one()
    assert disk_bytes(trial, "float32") == 20 * (4 * 4 + 4) + 4 * 16 + RECORD_BYTES
    assert disk_bytes(trial, "float32") - disk_bytes(trial, "float16") == 20 * 4 * 2


def test_totals_of_trials_side_by_side(plan_one):
    def one(seconds, memory, devices=1):
        return Estimate(plan_one(devices=devices), Figure(seconds, ""), Figure(memory, ""), 10, 7)

    estimates = [one(4, 30), one(2, 10), one(3, 20), one(None, None)]
    at_once = partial(total, estimates)
    assert (at_once(1).seconds, at_once(2).seconds, at_once(9).seconds) == (9, 5, 4)
    assert at_once(2).unknown == 1
    assert (at_once(1).memory_bytes, at_once(2).memory_bytes) == (30, 50)
    assert at_once(2).disk_bytes == 4 * 10 + 2 * 7
    assert total([one(4, 30), one(2, 10, devices=2)], 2).seconds == 6
    assert total([one(None, None)], 1).memory_bytes is None
    assert total([], 1).seconds == 0


def test_models_without_records_are_counted_in_forks(plan_one, plugins):
    faults = {"broken": "raise ValueError", "deadly": "import os; os._exit(3)", "endless": "while True: pass"}
    for name, line in faults.items():
        text = (plugins / "architectures" / "tiny_net.py").read_text()
        (plugins / "architectures" / f"{name}.py").write_text(text.replace("    inputs =", f"    {line}\n    inputs ="))
    known = plan_one("tiny_net:units=2")
    architectures = discover("architecture", [plugins])
    small = plan_one()
    faulty = {}
    for name in faults:
        spec = dataclasses.replace(small.spec.architecture, name=name, label=name)
        spec = dataclasses.replace(small.spec, architecture=spec)
        faulty[name] = dataclasses.replace(small, spec=spec, architecture=architectures.plugins[name])
    trials = [known, small, plan_one(seed=1), faulty["broken"], faulty["deadly"]]
    counts = count_missing(trials, {model_key(known.spec): COUNTS})
    assert count_missing([faulty["endless"]], {}, seconds=1) == {}
    assert counts == {
        model_key(known.spec): COUNTS,
        model_key(small.spec): Counts(parameters=64 * 8 + 8 + 8 * 4 + 4, macs=64 * 8 + 8 * 4, activations=64 + 8 + 4),
    }
