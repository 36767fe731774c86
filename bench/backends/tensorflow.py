"""The steps on TensorFlow: one call of a compiled function runs a whole block of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bench.backends.interface import (
    Array,
    Pictures,
    Placed,
    Task,
    Tuning,
    assign,
    check_fits,
    count_correct,
    cross_entropy,
    decayed_variables,
    global_seeds,
    named,
    penalty,
    stored,
)
from bench.data.pipeline import Block, Draw
from bench.environment import Device, usable_cores
from bench.errors import BackendError


def prepare_process(device: Device, devices: int = 1) -> None:
    """Let TensorFlow see the first GPUs alone, growing their memory as needed, or none."""
    gpus = tf.config.list_physical_devices("GPU")
    if device.kind == "GPU" and not gpus:
        raise BackendError(f"{device.name} is there, but TensorFlow cannot use it any more. Run `bench doctor`.")
    used = gpus[:devices] if device.kind == "GPU" else []
    tf.config.set_visible_devices(used, "GPU")
    for gpu in used:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    if device.kind == "CPU" and devices > 1:
        virtual = [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], virtual)


def count_gpus() -> int:
    """Return how many GPUs TensorFlow can use."""
    return len(tf.config.list_physical_devices("GPU"))


def tune(device: Device, steps_per_block: int, devices: int = 1) -> Tuning:
    """A call runs a whole block. XLA on a GPU alone: on a CPU it halves the speed of convolutions.

    On several devices there is no XLA either: gradients are summed between them in the middle of a step. Nothing is
    started ahead: bringing a loss to the host waits for all that was started, also what came after it.
    """
    jit_compile = device.kind == "GPU" and devices == 1
    return Tuning(jit_compile, steps_per_block, steps_per_execution=steps_per_block, runs_ahead=False)


def replicated(devices: int) -> AbstractContextManager[Any]:
    """Within this, variables are mirrored on the devices (tf.distribute.MirroredStrategy)."""
    if devices == 1:
        return nullcontext()
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return cast(
        "AbstractContextManager[Any]", tf.distribute.MirroredStrategy([f"{kind}:{n}" for n in range(devices)]).scope()
    )


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as a graph; without XLA, whose products on a CPU are slower."""
    return cast("Callable[..., Any]", _function(function))


def threads() -> int:
    """Return how many threads one operation may use on the CPU."""
    return int(tf.config.threading.get_intra_op_parallelism_threads() or usable_cores())


def peak_memory_bytes() -> int:
    """Return the peak memory of the GPU in use."""
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])


def uses_tf32() -> bool:
    """Return whether float32 products on the GPU may use TF32."""
    return bool(tf.config.experimental.tensor_float_32_execution_enabled())


def compile_steps(model: keras.Model, optimizer: Any, task: Task, tuning: Tuning) -> TensorFlowSteps:
    """Return the training and inference functions of a model; they are traced on their first call."""
    return TensorFlowSteps(model, optimizer, task, tuning)


@dataclass(frozen=True)
class TensorFlowPending:
    """Steps that were started, or on a CPU are done."""

    losses: Any
    correct: Any

    def result(self) -> tuple[npt.NDArray[np.float32], int]:
        """Wait for the last step."""
        return self.losses.numpy(), int(self.correct.numpy().sum())


class TensorFlowSteps:
    """The functions of one model: `train` over a block of any number of steps, `infer` over a batch of any size."""

    def __init__(self, model: keras.Model, optimizer: Any, task: Task, tuning: Tuning) -> None:
        self.model, self.optimizer, self.task, self.tuning = model, optimizer, task, tuning
        self.pictures = Pictures(task)
        self.variables = model.trainable_variables
        self.penalized = decayed_variables(model) if task.objective.l2 else []
        optimizer.build(self.variables)
        self.strategy: Any = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
        if self.strategy:
            _sum_before_clipping(optimizer)
        self.resident = None if task.resident is None else tf.constant(task.resident.images)
        self.step = self._step_of_all if self.strategy else _function(self._step, jit_compile=tuning.jit_compile)
        self.function = _function(self._train, input_signature=self._signature())
        spec = tf.TensorSpec((None, *task.shape), tf.uint8)
        self.infer = _function(self._infer, input_signature=(spec,), jit_compile=tuning.jit_compile)

    def place(self, block: Block) -> Placed:
        """Bring a block to the device."""
        inputs = block.inputs.arrays() if isinstance(block.inputs, Draw) else block.inputs
        return Placed(block, tf.nest.map_structure(tf.convert_to_tensor, inputs), tf.convert_to_tensor(block.labels))

    def train(self, placed: Placed) -> TensorFlowPending:
        """Start training on a block."""
        return TensorFlowPending(*self.function(placed.inputs, placed.labels))

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return logits float32 (batch, classes), on the host."""
        return np.asarray(self.infer(images).numpy())

    def compilation(self, block: Block) -> Hashable:
        """Return the batch size under XLA; without it, one trace serves all."""
        return block.batch_size if self.tuning.jit_compile else None

    def compilations(self) -> int:
        """Return how often the training function was traced."""
        return int(self.function.experimental_get_tracing_count())

    def finish(self) -> None:
        """Do nothing: variables are trained in place."""

    def snapshot(self) -> Iterator[tuple[str, Array]]:
        """Yield all that training changes, by name."""
        return ((name, stored(each)) for name, each in self._state().items())

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take what `snapshot` gave."""
        global_seeds(create="seeds.0" in arrays)
        check_fits(arrays, self.snapshot())
        for name, variable in self._state().items():
            assign(variable, arrays[name])

    def _state(self) -> dict[str, Any]:
        return named(model=self.model.variables, optimizer=self.optimizer.variables, seeds=global_seeds())

    def _signature(self) -> tuple[Any, Any]:
        labels = tf.TensorSpec((None, None), tf.int32)
        if self.task.resident is None:
            return tf.TensorSpec((None, None, *self.task.shape), tf.uint8), labels
        return (labels, labels, labels, tf.TensorSpec((None, None), tf.bool)), labels

    def _train(self, inputs: Any, labels: Any) -> tuple[Any, Any]:
        steps = tf.shape(labels)[0]

        def one(index: Any, losses: Any, correct: Any) -> tuple[Any, Any, Any]:
            loss, right = self.step(tf.nest.map_structure(lambda each: each[index], inputs), labels[index])
            return index + 1, losses.write(index, loss), correct.write(index, right)

        start = 0, tf.TensorArray(tf.float32, steps), tf.TensorArray(tf.int32, steps)
        _, losses, correct = tf.while_loop(lambda index, *_: index < steps, one, start)
        return losses.stack(), correct.stack()

    def _step_of_all(self, inputs: Any, labels: Any) -> tuple[Any, Any]:
        """Run a step on all devices; the shares of the loss, and the counts, add up to those of the batch."""
        loss, right = self.strategy.run(self._step_of_one, (inputs, labels))
        total = tf.distribute.ReduceOp.SUM
        return self.strategy.reduce(total, loss, axis=None), self.strategy.reduce(total, right, axis=None)

    def _step_of_one(self, inputs: Any, labels: Any) -> tuple[Any, Any]:
        """Run a device's share of a step: batches divide evenly."""
        context, devices = tf.distribute.get_replica_context(), self.strategy.num_replicas_in_sync
        size = tf.shape(labels)[0] // devices
        start = context.replica_id_in_sync_group * size
        inputs, labels = tf.nest.map_structure(lambda each: each[start : start + size], (inputs, labels))
        return self._step(inputs, labels, devices)

    def _step(self, inputs: Any, labels: Any, devices: int = 1) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = self._logits(self.pictures(self.resident, inputs), training=True)
            loss = cross_entropy(logits, labels, self.task.objective.label_smoothing) / devices
            extra = sum((tf.cast(each, tf.float32) for each in self.model.losses), start=0.0)
            total = loss + (extra + penalty(self.penalized, self.task.objective.l2)) / devices
            scaled = self.optimizer.scale_loss(total)
        gradients = tape.gradient(scaled, self.variables)
        if devices > 1:
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        self.optimizer.apply(gradients, self.variables)
        return loss, count_correct(logits, labels)

    def _infer(self, images: Any) -> Any:
        return self._logits(self.pictures(None, images), training=False)

    def _logits(self, images: Any, training: bool) -> Any:
        return tf.cast(self.model(images, training=training), tf.float32)


def _function(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function as it is: AutoGraph would read its source again, which may have been edited by then."""
    return tf.function(function, autograph=False, **options)


def _sum_before_clipping(optimizer: Any) -> None:
    """Leave it to the step to sum gradients over devices: Keras would do so after it has clipped each one's share."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not hasattr(inner, "_all_reduce_sum_gradients"):
        raise BackendError("--devices: this version of Keras sums gradients in another way than Keras 3.15 does.")
    inner._all_reduce_sum_gradients = lambda pairs: pairs
