"""The steps on TensorFlow: one call of a compiled function runs a whole block of them."""

from __future__ import annotations

import functools
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


@dataclass
class _Compiled:
    """What trains one set of weights: the function of a step, and of a block, once a block has shown what it takes."""

    step: Callable[..., Any]
    function: Any = None


class TensorFlowSteps:
    """The functions of one model: `train` over a block of any number of steps, `infer` over a batch of any size."""

    def __init__(self, model: keras.Model, optimizer: Any, task: Task, tuning: Tuning) -> None:
        self.model, self.optimizer, self.task, self.tuning = model, optimizer, task, tuning
        self.pictures = Pictures(task)
        self.variables = model.trainable_variables
        self.trained = frozenset(range(len(self.variables)))
        self.compiled: dict[frozenset[int], _Compiled] = {}
        optimizer.build(self.variables)
        self.averaged = averaged_variables(model) if task.averaging else []
        self.averages = [tf.Variable(tf.cast(each, tf.float32)) for each in self.averaged]
        self.count = tf.Variable(0, dtype=tf.int64)  # TensorFlow keeps an int32 off the GPU, where XLA needs it
        self.strategy: Any = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
        if self.strategy:
            _sum_before_clipping(optimizer)
        self.resident = None if task.resident is None else tf.constant(task.resident.images)
        self._compile()
        spec = tf.TensorSpec((None, *task.shape), tf.uint8)
        self.infer = _function(self._infer, input_signature=(spec,), jit_compile=tuning.jit_compile)

    def place(self, block: Block) -> Placed:
        """Bring a block to the device."""
        inputs = block.inputs.arrays() if isinstance(block.inputs, Draw) else block.inputs
        both = inputs, block.mix.arrays() if block.mix else ()
        return Placed(block, tf.nest.map_structure(tf.convert_to_tensor, both), tf.convert_to_tensor(block.labels))

    def train(self, placed: Placed) -> TensorFlowPending:
        """Start training on a block."""
        compiled = self.compiled[self.trained]
        if compiled.function is None:  # of any number of steps, and of images in each
            specs = tf.nest.map_structure(
                lambda each: tf.TensorSpec((None, None, *each.shape[2:]), each.dtype), (placed.inputs, placed.labels)
            )
            compiled.function = _function(functools.partial(self._train, compiled.step), input_signature=specs)
        return TensorFlowPending(*compiled.function(placed.inputs, placed.labels))

    def train_only(self, trained: frozenset[int]) -> None:
        """From now on train only those variables; another set is traced anew."""
        if trained != self.trained:
            self.trained = trained
            train_only(self.optimizer, trained)
            self._compile()

    def settle(self) -> None:
        """Let the average of the weights take their place, where there is one."""
        for variable, average in zip(self.averaged, self.averages, strict=True):
            variable.assign(average)

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return logits float32 (batch, classes), on the host."""
        return np.asarray(self.infer(images).numpy())

    def compilation(self, block: Block) -> Hashable:
        """Return what is trained, and the batch size under XLA; without it, one trace serves all sizes."""
        return self.trained, block.batch_size if self.tuning.jit_compile else None

    def compilations(self) -> int:
        """Return how often the training function was traced."""
        functions = [each.function for each in self.compiled.values() if each.function]
        return sum(int(each.experimental_get_tracing_count()) for each in functions)

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
        averages = [*self.averages, self.count] if self.averages else []
        return named(
            model=self.model.variables, optimizer=self.optimizer.variables, averages=averages, seeds=global_seeds()
        )

    def _compile(self) -> None:
        """Make the functions that train what is trained now, unless they are there from before."""
        if self.trained not in self.compiled:
            self.compiled[self.trained] = _Compiled(
                self._step_of_all if self.strategy else _function(self._only_step, jit_compile=self.tuning.jit_compile)
            )

    def _train(self, step: Callable[..., Any], inputs: Any, labels: Any) -> tuple[Any, Any]:
        steps = tf.shape(labels)[0]

        def one(index: Any, losses: Any, correct: Any) -> tuple[Any, Any, Any]:
            loss, right = step(tf.nest.map_structure(lambda each: each[index], inputs), labels[index])
            return index + 1, losses.write(index, loss), correct.write(index, right)

        start = 0, tf.TensorArray(tf.float32, steps), tf.TensorArray(tf.int32, steps)
        _, losses, correct = tf.while_loop(lambda index, *_: index < steps, one, start)
        return losses.stack(), correct.stack()

    def _step_of_all(self, inputs: Any, labels: Any) -> tuple[Any, Any]:
        """Run a step on all devices; the shares of the loss, and the counts, add up to those of the batch."""
        loss, right = self.strategy.run(self._step_of_one, (inputs, labels))
        self._average()  # here, where a variable is one for all devices
        total = tf.distribute.ReduceOp.SUM
        return self.strategy.reduce(total, loss, axis=None), self.strategy.reduce(total, right, axis=None)

    def _step_of_one(self, inputs: Any, labels: Any) -> tuple[Any, Any]:
        """Run a device's share of a step: batches divide evenly."""
        context, devices = tf.distribute.get_replica_context(), self.strategy.num_replicas_in_sync
        size = tf.shape(labels)[0] // devices
        start = context.replica_id_in_sync_group * size
        inputs, labels = tf.nest.map_structure(lambda each: each[start : start + size], (inputs, labels))
        return self._step(inputs, labels, devices)

    def _only_step(self, inputs: Any, labels: Any) -> tuple[Any, Any]:
        """Run a step on the one device there is."""
        ended = self._step(inputs, labels, devices=1)
        self._average()
        return ended

    def _step(self, inputs: Any, labels: Any, devices: int) -> tuple[Any, Any]:
        inputs, mix = inputs
        variables = [self.variables[index] for index in sorted(self.trained)]
        with tf.GradientTape() as tape:
            logits = self._logits(self.pictures(self.resident, inputs, mix), training=True)
            loss = step_loss(logits, labels, mix, self.task.objective.label_smoothing) / devices
            extra = sum((tf.cast(each, tf.float32) for each in self.model.losses), start=0.0)
            total = loss + (extra + penalty(self.variables, self.task.objective)) / devices
            scaled = self.optimizer.scale_loss(total)
        gradients = tape.gradient(scaled, variables)
        if devices > 1:
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        self.optimizer.apply(gradients, variables)
        return loss, count_correct(logits, labels)

    def _average(self) -> None:
        """Count the step, and bring the average up to date where it is due; nothing where none is wanted."""
        if self.task.averaging:
            step = self.count.assign_add(1)
            update = functools.partial(self._update_average, self.task.averaging, step)
            tf.cond(step % self.task.averaging.every == 0, update, lambda: step)

    def _update_average(self, averaging: Averaging, step: Any) -> Any:
        weights = [tf.cast(each, tf.float32) for each in self.averaged]
        averages, weights = averaging.updated(self.averages, weights, step)
        for variable, average, weight, new in zip(self.averaged, self.averages, weights, averages, strict=True):
            average.assign(new)
            if averaging.kind == "lookahead":
                variable.assign(weight)
        return step

    def _infer(self, images: Any) -> Any:
        return self._logits(self.pictures(None, images, ()), training=False)

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
