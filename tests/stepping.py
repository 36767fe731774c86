"""Compiled steps for tests, on whichever backend Keras runs on."""

import keras

from bench.backends.interface import Normalization, Objective, Task, load_backend
from bench.environment import Device
from bench.training import build_optimizer, learning_rate

BACKEND = load_backend(keras.backend.backend())
CPU = Device("CPU", "a processor")


def make_steps(model, recipe, *, total_steps=100, steps_per_block=4, precision="float32", resident=None, tuning=None):
    """Return the steps, their optimizer and its learning rate."""
    shape = model.input_shape[1:]
    rate = learning_rate(recipe, total_steps)
    optimizer = build_optimizer(recipe, model, rate, precision)
    normalization = Normalization((1 / 128,) * shape[2], (-1.0,) * shape[2])
    task = Task(shape, normalization, Objective(recipe.label_smoothing, recipe.l2), resident)
    tuning = tuning or BACKEND.tune(CPU, steps_per_block)
    return BACKEND.compile_steps(model, optimizer, task, tuning), optimizer, rate
