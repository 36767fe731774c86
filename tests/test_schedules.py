import math
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

from bench.recipes import RECIPES, resolve_recipe
from bench.schedules import Tabulated, rates


def table(steps=200, schedule="cosine", **overrides):
    return rates(resolve_recipe("standard", {"schedule": schedule, "warmup": 0.0, **overrides}), steps)


def triangle(steps, start, end, peak):
    """The schedule of airbench94 (github.com/KellerJordan/cifar10-airbench): straight lines between three points."""
    return np.interp(np.arange(steps), [0, int(peak * steps), steps], [start, 1, end])


@pytest.mark.parametrize("steps", [1, 7, 1_000])
@pytest.mark.parametrize("name", ["standard", "document", "finetune"])
def test_shipped_cosine_and_constant_recipes_follow_keras(name, steps):
    recipe = RECIPES[name]
    warmup = round(recipe.warmup * steps)
    expected = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else recipe.learning_rate,
        decay_steps=max(1, steps - warmup),
        alpha=1.0 if recipe.schedule == "constant" else 0.0,
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    got = rates(recipe, steps)
    assert got.shape == (steps,)
    assert got.dtype == np.float32
    picked = sorted(
        {0, 1, warmup - 1, warmup, warmup + 1, steps - 2, steps - 1, *range(0, steps, 97)} & set(range(steps))
    )
    np.testing.assert_allclose(
        got[picked], [float(expected(step)) for step in picked], atol=2e-7 * recipe.learning_rate
    )


@pytest.mark.parametrize("steps", [100, 200, 1_000])
def test_triangular_is_airbenchs_triangle(steps):
    shape = {"learning_rate": 11.5, "warmup": 0.23, "start_factor": 0.2, "end_factor": 0.07}
    got = table(steps, "triangular", **shape)
    np.testing.assert_allclose(got, 11.5 * triangle(steps, start=0.2, end=0.07, peak=0.23), rtol=1e-6)
    assert got.argmax() == round(0.23 * steps)


@pytest.mark.parametrize(
    ("schedule", "overrides", "expected"),
    [
        ("constant", {}, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("constant", {"warmup": 0.4}, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]),
        ("constant", {"warmup": 0.2, "start_factor": 0.5}, [0.5, 0.75, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("multistep", {"milestones": [0.5, 0.8]}, [1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]),
        (
            "multistep",
            {"milestones": [0.5], "decay_factor": 0.2, "warmup": 0.1},
            [0, 1, 1, 1, 1, 0.2, 0.2, 0.2, 0.2, 0.2],
        ),
        ("triangular", {"end_factor": 0.5}, [1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55]),
    ],
)
def test_each_schedule_step_by_step(schedule, overrides, expected):
    np.testing.assert_allclose(table(10, schedule, learning_rate=3.0, **overrides), 3 * np.array(expected), rtol=1e-6)


def test_a_cosine_may_end_above_zero():
    got = table(100, "cosine", learning_rate=1.0, end_factor=0.1)
    np.testing.assert_allclose(
        got, [0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)], rtol=1e-5
    )


def torch_rates(steps, make):
    """Return what a scheduler of PyTorch gives at each step, from a rate of 0.5."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_multistep_is_pytorchs():
    expected = torch_rates(164, lambda schedulers, optimizer: schedulers.MultiStepLR(optimizer, [82, 123], gamma=0.1))
    np.testing.assert_allclose(table(164, "multistep", learning_rate=0.5, milestones=[0.5, 0.75]), expected, rtol=1e-6)


def test_a_cosine_is_pytorchs():
    expected = torch_rates(90, lambda schedulers, optimizer: schedulers.CosineAnnealingLR(optimizer, 90, eta_min=0.05))
    np.testing.assert_allclose(table(90, "cosine", learning_rate=0.5, end_factor=0.1), expected, rtol=1e-5)


def test_a_linear_warm_up_is_pytorchs():
    expected = torch_rates(50, lambda schedulers, optimizer: schedulers.LinearLR(optimizer, 0.2, total_iters=10))
    got = table(50, "constant", learning_rate=0.5, warmup=0.2, start_factor=0.2)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_onecycle_is_pytorchs_with_its_last_step_one_after_ours():
    """PyTorch's ends with the last step, and its peak is at pct_start * steps - 1."""
    steps, warmup = 120, 36
    expected = torch_rates(
        steps,
        lambda schedulers, optimizer: schedulers.OneCycleLR(
            optimizer,
            max_lr=0.5,
            total_steps=steps + 1,
            pct_start=(warmup + 1) / (steps + 1),
            div_factor=25,
            final_div_factor=40,
            cycle_momentum=False,
        ),
    )
    shape = {"warmup": warmup / steps, "start_factor": 1 / 25, "end_factor": 1 / 25 / 40}
    np.testing.assert_allclose(table(steps, "onecycle", learning_rate=0.5, **shape), expected, rtol=1e-5)


class TestTabulated:
    def test_it_is_the_table_and_stays_at_the_last_rate(self):
        values = table(20, "cosine", warmup=0.2)
        schedule = Tabulated(values)
        assert [float(schedule(step)) for step in range(20)] == values.tolist()
        assert float(schedule(1_000)) == values[-1]

    def test_an_optimizer_looks_it_up_by_its_steps(self):
        variable = keras.Variable(np.zeros(1, np.float32))
        optimizer = keras.optimizers.SGD(Tabulated([1.0, 0.5, 0.25]))
        passed = []
        for _ in range(4):
            optimizer.apply([keras.ops.ones(1)], [variable])
            passed.append(-variable.numpy().item())
        assert passed == [1.0, 1.5, 1.75, 2.0]

    def test_its_config_makes_another_one(self):
        schedule = Tabulated(table(20))
        again = Tabulated.from_config(schedule.get_config())
        np.testing.assert_array_equal(again.table, schedule.table)
