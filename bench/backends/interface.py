"""What every backend offers, and what they share: the loss, which weights decay, and which images a step sees.

The shared functions are `keras.ops`, so that one text runs on all backends, inside the compiled step.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import keras
import numpy as np
import numpy.typing as npt
from keras import ops
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR, global_seed_generator

from bench.api import ImageShape
from bench.data.pipeline import Block, Resident
from bench.environment import Device

Array = npt.NDArray[Any]
NEVER_DECAYED = {"bias", "gamma", "beta"}


@dataclass(frozen=True)
class Normalization:
    """Maps uint8 pixels to float32: `pixels * scale + offset`, each a number a channel."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]


@dataclass(frozen=True)
class Objective:
    """What training minimises: smoothed cross-entropy, plus l2/2 times the squared norm of kernels and matrices."""

    label_smoothing: float = 0.0
    l2: float = 0.0


@dataclass(frozen=True)
class Task:
    """What is computed in a step, whichever backend computes it.

    `resident` is the training data where it lives on the device; blocks then say only which of it a step sees.
    """

    shape: ImageShape
    normalization: Normalization
    objective: Objective
    resident: Resident | None = None


@dataclass(frozen=True)
class Tuning:
    """What was picked for the device.

    Attributes:
        jit_compile: whether XLA compiles the step.
        steps_per_block: steps that are prepared, started and timed together.
        steps_per_execution: those of them that one call of the compiled function runs.
        runs_ahead: whether the device works while Python goes on, so that the next block can be started early.

    """

    jit_compile: bool
    steps_per_block: int
    steps_per_execution: int
    runs_ahead: bool


@dataclass(frozen=True)
class Placed:
    """A block where the compiled function reads it: on a GPU in its memory, on a CPU as the arrays it takes."""

    block: Block
    inputs: Any
    labels: Any


class Pending(Protocol):
    """Steps that were started."""

    def result(self) -> tuple[npt.NDArray[np.float32], int]:
        """Wait for the last step. Returns each step's loss, float32 (steps,), and the number of correct predictions."""


class Steps(Protocol):
    """The compiled functions of one model."""

    tuning: Tuning

    def place(self, block: Block) -> Placed:
        """Bring a block to the device; called in the input thread."""

    def train(self, placed: Placed) -> Pending:
        """Start training on a block; where the device works by itself, this returns before it is done."""

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return logits float32 (batch, classes) of uint8 (batch, H, W, C), on the host."""

    def compilation(self, block: Block) -> Hashable:
        """Return what the block needs compiled: equal for blocks that share it."""

    def compilations(self) -> int:
        """Return how often the training function was traced or compiled; 0 where nothing is compiled."""

    def finish(self) -> None:
        """Bring what was trained back into the model's variables, where they were not trained in place."""

    def snapshot(self) -> Iterator[tuple[str, Array]]:
        """Yield all that training changes, by name: weights, the optimizer's variables, states of random generators.

        To be read while no step is running, each array before the next.
        """

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take what `snapshot` gave, in a process that has built the same model.

        Raises:
            ValueError: the arrays are not this model's; nothing has been changed.

        """


class Backend(Protocol):
    """A module of `bench.backends`."""

    def prepare_process(self, device: Device, devices: int = 1) -> None:
        """Choose the device, or so many of its kind, before anything has touched one; on a CPU they are virtual."""

    def count_gpus(self) -> int:
        """Return how many GPUs the backend can use."""

    def tune(self, device: Device, steps_per_block: int, devices: int = 1) -> Tuning:
        """Pick XLA and the steps per execution."""

    def replicated(self, devices: int) -> AbstractContextManager[Any]:
        """Within this, models, optimizers and steps are made for so many devices: each takes its share of a batch.

        Raises:
            BackendError: the backend trains on one device here.

        """

    def compile_steps(self, model: keras.Model, optimizer: Any, task: Task, tuning: Tuning) -> Steps:
        """Return the training and inference functions of a model; they are compiled on their first call."""

    def compile_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of tensors compiled as the steps are; itself, where they are not."""

    def threads(self) -> int:
        """Return how many threads one operation may use on the CPU."""

    def peak_memory_bytes(self) -> int:
        """Return the peak memory of the GPU in use."""

    def uses_tf32(self) -> bool:
        """Return whether float32 products on the GPU may use TF32."""


def load_backend(name: str) -> Backend:
    """Return the backend of that name; imports its library."""
    return cast("Backend", importlib.import_module(f"bench.backends.{name}"))


def named(**groups: Iterable[Any]) -> dict[str, Any]:
    """Return the items of each group, named by their position: `model.0`, `model.1`, ..."""
    return {f"{group}.{index}": each for group, items in groups.items() for index, each in enumerate(items)}


def global_seeds(create: bool = False) -> list[Any]:
    """Return the state of the generator that Keras draws from where no seed is given, if there is one by now."""
    if create:
        return [global_seed_generator().state]
    generator = get_global_attribute(GLOBAL_SEED_GENERATOR)
    return [] if generator is None else [generator.state]


def stored(value: Any) -> Array:
    """Return a variable or array as an array of a type that every NumPy knows: bfloat16 as its bits, uint16."""
    array = np.asarray(value)
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "V" else array


def assign(variable: Any, array: Array) -> None:
    """Give a variable the value that `stored` returned."""
    variable.assign(array.view(np.asarray(variable).dtype))


def check_fits(arrays: Mapping[str, Array], own: Iterable[tuple[str, Array]]) -> None:
    """Raise ValueError unless arrays have the names, shapes and types of a process's own."""
    given = {name: f"{each.dtype}{each.shape}" for name, each in arrays.items()}
    due = {name: f"{each.dtype}{each.shape}" for name, each in own}
    for name in sorted(given.keys() | due.keys()):
        if given.get(name) != due.get(name):
            raise ValueError(f"{name} is {given.get(name, 'absent')} in it, and {due.get(name, 'absent')} in the model")


class Pictures:
    """Makes a step's images of what a block brings; its constants are on the device."""

    def __init__(self, task: Task) -> None:
        self.task = task
        row = (task.shape[1], task.shape[2])  # a whole row: TensorFlow is slow at repeating as little as three numbers
        self.scale = ops.convert_to_tensor(np.broadcast_to(np.array(task.normalization.scale, np.float32), row))
        self.offset = ops.convert_to_tensor(np.broadcast_to(np.array(task.normalization.offset, np.float32), row))

    def __call__(self, resident: Any, inputs: Any) -> Any:
        """Return a step's images, normalised: float32 (batch, H, W, C).

        Args:
            resident: all training images uint8 (N, H, W, C) on the device, or None.
            inputs: a step's images uint8 (batch, H, W, C), or, with resident images, its draws (see `Draw`).

        """
        images = inputs if resident is None else drawn(resident, self.task, inputs)
        return ops.cast(images, "float32") * self.scale + self.offset


def drawn(resident: Any, task: Task, draw: Any) -> Any:
    """Return resident images, shifted with zeros moving in, and mirrored: uint8 (batch, H, W, C).

    `bench.data.pipeline.augment` does the same on the host, to the bit. `draw` holds a step's four arrays of a `Draw`.
    """
    indices, top, left, flipped = draw
    images = ops.take(resident, indices, axis=0)
    height, width, _ = task.shape
    columns = ops.arange(width, dtype="int32")[None]
    columns = ops.where(flipped[:, None], width - 1 - columns, columns)
    images = _shifted(images, ops.arange(height, dtype="int32")[None] + top[:, None], axis=1)
    return _shifted(images, columns + left[:, None], axis=2)


def _shifted(images: Any, wanted: Any, axis: int) -> Any:
    """Take rows (axis 1) or columns (axis 2) at the wanted positions, zeros where there are none."""
    size = images.shape[axis]
    inside = ops.logical_and(wanted >= 0, wanted < size)
    form = (-1, wanted.shape[1], 1, 1) if axis == 1 else (-1, 1, wanted.shape[1], 1)
    position = ops.reshape(ops.clip(wanted, 0, size - 1), form)
    taken = ops.take_along_axis(images, position, axis=axis)
    return ops.where(ops.reshape(inside, form), taken, ops.zeros_like(taken))


def cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """Return the mean cross-entropy of float32 logits (batch, classes) with labels int32 (batch,).

    With smoothing s, the target is (1-s) on the label plus s/classes everywhere (Szegedy et al. 2016, section 7).
    """
    hard = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    if not smoothing:
        return ops.mean(hard)
    uniform = -ops.mean(ops.log_softmax(logits, axis=-1), axis=-1)
    return ops.mean((1 - smoothing) * hard + smoothing * uniform)


def penalty(variables: list[Any], l2: float) -> Any:
    """Return l2/2 times the squared norm of the variables, float32."""
    return sum((0.5 * l2 * ops.sum(ops.square(ops.cast(each, "float32"))) for each in variables), start=0.0)


def count_correct(logits: Any, labels: Any) -> Any:
    """Return how many labels have the highest logit, int32."""
    return ops.sum(ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels), "int32"))


def decayed_variables(model: keras.Model) -> list[Any]:
    """Return the trainable kernels and matrices, which are decayed; biases and normalisation scales are not.

    Names count beside shapes, since an attention layer's biases are matrices.
    """
    return [
        variable
        for variable in model.trainable_variables
        if len(variable.shape) >= 2 and variable.name not in NEVER_DECAYED
    ]
