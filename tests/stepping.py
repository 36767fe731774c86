"""Compiled steps for tests, on whichever backend Keras runs on."""

import keras

from bench.backends.interface import Normalization, Objective, Task, load_backend
from bench.environment import Device
from bench.groups import phases, resolve_groups
from bench.optimizers import build_optimizer
from bench.schedules import Tabulated, rates
from bench.training import Schedule

BACKEND = load_backend(keras.backend.backend())
CPU = Device("CPU", "a processor")


def make_steps(
    model,
    recipe,
    *,
    total_steps=100,
    steps_per_block=4,
    precision="float32",
    resident=None,
    tuning=None,
    averaging=None,
):
    """Return the steps, their optimizer, and the schedule that `train` takes."""
    shape = model.input_shape[1:]
    table = rates(recipe, total_steps)
    optimizer = build_optimizer(recipe, model, Tabulated(table), precision)
    normalization = Normalization((1 / 128,) * shape[2], (-1.0,) * shape[2])
    weights = resolve_groups(recipe.groups, model)
    decay = tuple(each.decay for each in weights)
    task = Task(shape, normalization, Objective(recipe.label_smoothing, recipe.l2, decay), resident, averaging)
    tuning = tuning or BACKEND.tune(CPU, steps_per_block)
    schedule = Schedule(total_steps, table, phases(weights, total_steps))  # an epoch has one step at least
    return BACKEND.compile_steps(model, optimizer, task, tuning), optimizer, schedule
