"""The steps on JAX: pure functions of the weights, whose buffers they take over, so that nothing is copied.

On a GPU one call scans over several steps; on a CPU each step is a call of its own, which runs beside Python.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else all of a GPU's memory is taken at once

import jax
import jax.numpy as jnp
import keras
import numpy as np
import numpy.typing as npt

from bench.backends.interface import (
    Array,
    Averaging,
    Placed,
    Task,
    Tuning,
    assign,
    averaged_variables,
    check_fits,
    count_correct,
    global_seeds,
    named,
    penalty,
    stored,
)
from bench.backends.pictures import Pictures, step_loss
from bench.data.draws import Draw
from bench.data.pipeline import Block
from bench.environment import Device, usable_cores
from bench.errors import BackendError
from bench.optimizers import train_only

GROUPS = ("trainable", "others", "optimizer", "averages")  # of what a training changes


def prepare_process(device: Device, devices: int = 1) -> None:
    """Choose CPU or GPU."""
    if device.kind == "CPU":
        jax.config.update("jax_platforms", "cpu")
        if devices > 1:  # one is the default; it can only be changed before JAX has computed anything
            jax.config.update("jax_num_cpu_devices", devices)
    elif not count_gpus():
        raise BackendError(f"{device.name} is there, but JAX cannot use it any more. Run `bench doctor`.")


def count_gpus() -> int:
    """Return how many GPUs JAX can use."""
    try:
        return len(jax.devices("gpu"))
    except RuntimeError:  # no GPU, or a JAX that was built without
        return 0


def tune(device: Device, steps_per_block: int, devices: int = 1) -> Tuning:  # noqa: ARG001 - the same for any number
    """Several steps in a call on a GPU alone: on a CPU the next call is dispatched while this one computes."""
    steps = steps_per_block if device.kind == "GPU" else 1
    return Tuning(jit_compile=True, steps_per_block=steps_per_block, steps_per_execution=steps, runs_ahead=True)


def replicated(devices: int) -> AbstractContextManager[Any]:
    """Within this, variables are on all devices, and batches are shared out over them (keras.distribution)."""
    if devices == 1:
        return nullcontext()
    names = [f"{each.platform}:{number}" for number, each in enumerate(jax.devices()[:devices])]
    return cast("AbstractContextManager[Any]", keras.distribution.DataParallel(devices=names).scope())


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled by XLA."""
    return jax.jit(function)  # type: ignore[no-any-return]


def threads() -> int:
    """Return how many threads one operation may use on the CPU."""
    return usable_cores()


def peak_memory_bytes() -> int:
    """Return the peak memory of the GPU in use."""
    return int(jax.devices()[0].memory_stats()["peak_bytes_in_use"])


def uses_tf32() -> bool:
    """Return whether float32 products on the GPU may use TF32: JAX's default precision does."""
    return jax.config.jax_default_matmul_precision not in ("float32", "highest")


def compile_steps(model: keras.Model, optimizer: Any, task: Task, tuning: Tuning) -> JaxSteps:
    """Return the training and inference functions of a model; they are compiled on their first call."""
    return JaxSteps(model, optimizer, task, tuning)


@dataclass(frozen=True)
class JaxPending:
    """Steps that were started: a loss and a count for each call."""

    losses: list[Any]
    correct: list[Any]

    def result(self) -> tuple[npt.NDArray[np.float32], int]:
        """Wait for the last step."""
        losses = np.concatenate([np.atleast_1d(np.asarray(each)) for each in self.losses])
        return losses, int(sum(np.sum(np.asarray(each)) for each in self.correct))


class JaxSteps:
    """The functions of one model, and the weights while they are being trained."""

    def __init__(self, model: keras.Model, optimizer: Any, task: Task, tuning: Tuning) -> None:
        self.model, self.optimizer, self.task, self.tuning = model, optimizer, task, tuning
        self.pictures = Pictures(task)
        self.trained = frozenset(range(len(model.trainable_variables)))
        optimizer.build(model.trainable_variables)
        self.mesh = _mesh()
        self.resident = None if task.resident is None else self._on_all(jnp.asarray(task.resident.images))
        self.state = tuple(  # copies, to donate
            [self._on_all(jnp.array(each.value)) for each in part] for part in self._variables()
        )
        others = {id(each) for each in averaged_variables(model)}
        self.statistics = [n for n, each in enumerate(model.non_trainable_variables) if id(each) in others]
        averages = [jnp.array(each) for each in self._averaged(self.state)] + [jnp.zeros((), jnp.int32)]
        self.state = *self.state, (list(map(self._on_all, averages)) if task.averaging else [])
        self.traces = 0
        self.compiled: dict[frozenset[int], tuple[Any, Any]] = {}
        self._compile()
        self.infer = jax.jit(self._infer)

    def place(self, block: Block) -> Placed:
        """Bring a block to the device: whole for a scan, else a step at a time."""
        images = block.inputs.arrays() if isinstance(block.inputs, Draw) else block.inputs
        inputs = images, block.mix.arrays() if block.mix else ()
        if self._scans(block):
            share = functools.partial(self._share_out, axis=1)
            return Placed(block, jax.tree.map(share, inputs), share(block.labels))
        each = [jax.tree.map(lambda array: self._share_out(array[step]), inputs) for step in range(block.steps)]  # noqa: B023
        return Placed(block, each, [self._share_out(labels) for labels in block.labels])

    def train(self, placed: Placed) -> JaxPending:
        """Start training on a block; returns while the device computes."""
        if self._scans(placed.block):
            self.state, (losses, correct) = self.many(self.state, self.resident, placed.inputs, placed.labels)
            return JaxPending([losses], [correct])
        pending = JaxPending([], [])
        for inputs, labels in zip(placed.inputs, placed.labels, strict=True):
            self.state, (loss, right) = self.one(self.state, self.resident, inputs, labels)
            pending.losses.append(loss)
            pending.correct.append(right)
        return pending

    def train_only(self, trained: frozenset[int]) -> None:
        """From now on train only those variables; another set is compiled anew."""
        if trained != self.trained:
            self.trained = trained
            train_only(self.optimizer, trained)
            self._compile()

    def settle(self) -> None:
        """Let the average of the weights take their place, where there is one."""
        *_, optimizer, averages = self.state
        if averages:
            self.state = *self._with_averaged(self.state, list(map(jnp.array, averages[:-1]))), optimizer, averages

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return logits float32 (batch, classes), on the host."""
        return np.asarray(self.infer(self.state[:2], images))

    def compilation(self, block: Block) -> Hashable:
        """Return what is trained, the batch size, and whether steps are scanned over, and how many."""
        return self.trained, block.batch_size, block.steps if self._scans(block) else 1

    def compilations(self) -> int:
        """Return how often the training functions were traced, and so compiled."""
        return self.traces

    def finish(self) -> None:
        """Bring what was trained back into the model's and the optimizer's variables."""
        for variables, values in zip(self._variables(), self.state[:3], strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def snapshot(self) -> Iterator[tuple[str, Array]]:
        """Yield all that training changes, by name; of copies, since views of the state would forbid to donate it."""
        state = named(**dict(zip(GROUPS, self.state, strict=True)), seeds=global_seeds())
        return ((name, stored(jnp.array(each))) for name, each in state.items())

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take what `snapshot` gave."""
        seeds = global_seeds(create="seeds.0" in arrays)
        check_fits(arrays, self.snapshot())
        self.state = tuple(
            [jnp.array(arrays[name].view(each.dtype)) for name, each in named(**{group: part}).items()]
            for group, part in zip(GROUPS, self.state, strict=True)
        )
        self.state = jax.tree.map(self._on_all, self.state)
        for name, variable in named(seeds=seeds).items():
            assign(variable, arrays[name])

    def _variables(self) -> tuple[list[Any], list[Any], list[Any]]:
        return self.model.trainable_variables, self.model.non_trainable_variables, self.optimizer.variables

    def _compile(self) -> None:
        """Take the functions that train what is trained now; new ones, unless they are there from before."""
        if self.trained not in self.compiled:
            one, many = (functools.partial(each) for each in (self._one, self._many))  # equal methods share traces
            self.compiled[self.trained] = jax.jit(one, donate_argnums=0), jax.jit(many, donate_argnums=0)
        self.one, self.many = self.compiled[self.trained]

    def _averaged(self, state: Any) -> list[Any]:
        """Return the part of a state that is averaged: weights, and after them moving statistics."""
        trainable, others, *_ = state
        return [*trainable, *(others[index] for index in self.statistics)]

    def _with_averaged(self, state: Any, values: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return weights and other variables with those values in place of what is averaged."""
        trainable, others, *_ = state
        statistics = dict(zip(self.statistics, values[len(trainable) :], strict=True))
        return values[: len(trainable)], [statistics.get(index, each) for index, each in enumerate(others)]

    def _share_out(self, array: npt.NDArray[Any], axis: int = 0) -> Any:
        """Return an array on the devices, its axis of images shared out over them."""
        if self.mesh is None:
            return jnp.asarray(array)
        parts = [None] * axis + ["batch"]
        return jax.device_put(array, jax.NamedSharding(self.mesh, jax.P(*parts)))

    def _on_all(self, array: Any) -> Any:
        """Return an array, whole on each device."""
        return array if self.mesh is None else jax.device_put(array, jax.NamedSharding(self.mesh, jax.P()))

    def _scans(self, block: Block) -> bool:
        return self.tuning.steps_per_execution > 1 and block.steps > 1

    def _one(self, state: Any, resident: Any, inputs: Any, labels: Any) -> Any:
        self.traces += 1
        return self._step(state, resident, (inputs, labels))

    def _many(self, state: Any, resident: Any, inputs: Any, labels: Any) -> Any:
        self.traces += 1
        return jax.lax.scan(lambda carry, batch: self._step(carry, resident, batch), state, (inputs, labels))

    def _step(self, state: Any, resident: Any, batch: Any) -> Any:
        trainable, others, optimizer, averages = state
        losses = functools.partial(self._losses, resident=resident, batch=batch)
        gradients, (loss, correct, others) = jax.grad(losses, has_aux=True)(trainable, others, optimizer)
        gradients = [  # of frozen weights none, so that XLA computes none
            each if number in self.trained else jnp.zeros_like(each) for number, each in enumerate(gradients)
        ]
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        state = trainable, others, optimizer, averages
        if self.task.averaging:
            state = self._average(state, self.task.averaging)
        if self.mesh is not None:  # else XLA might leave a part of it on each device
            state = jax.lax.with_sharding_constraint(state, jax.NamedSharding(self.mesh, jax.P()))
        return state, (loss, correct)

    def _average(self, state: Any, averaging: Averaging) -> Any:
        *averages, step = state[3]
        step = step + 1

        def update(averages: list[Any], weights: list[Any]) -> Any:
            return averaging.updated(averages, weights, step)

        due = step % averaging.every == 0
        averages, weights = jax.lax.cond(due, update, lambda *same: same, averages, self._averaged(state))
        return *self._with_averaged(state, weights), state[2], [*averages, step]

    def _losses(self, trainable: Any, others: Any, optimizer: Any, resident: Any, batch: Any) -> Any:
        (inputs, mix), labels = batch
        images = self.pictures(resident, inputs, mix)
        outputs, others, extra = self.model.stateless_call(trainable, others, images, training=True, return_losses=True)
        logits = outputs.astype(jnp.float32)
        loss = step_loss(logits, labels, mix, self.task.objective.label_smoothing)
        total = loss + sum((each.astype(jnp.float32) for each in extra), start=0.0)
        total = total + penalty(trainable, self.task.objective)
        with keras.StatelessScope(state_mapping=list(zip(self.optimizer.variables, optimizer, strict=True))):
            scaled = self.optimizer.scale_loss(total)
        return scaled, (loss, count_correct(logits, labels), others)

    def _infer(self, weights: Any, images: Any) -> Any:
        outputs, _ = self.model.stateless_call(*weights, self.pictures(None, images, ()), training=False)
        return outputs.astype(jnp.float32)


def _mesh() -> Any:
    """Return the devices that Keras distributes over, as JAX's mesh of one axis `batch`; None for a single one."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return None
    devices = np.array(jax.devices()[: math.prod(distribution.device_mesh.shape)])
    return jax.sharding.Mesh(devices, ("batch",))
