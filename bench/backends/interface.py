"""What every backend offers, and what they share: the loss, which weights decay, and which images a step sees.

The shared functions are `keras.ops`, so that one text runs on all backends, inside the compiled step.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
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


@dataclass(frozen=True)
class Normalization:
    """Maps uint8 pixels to float32: `pixels * scale + offset`, each a number a channel."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]


@dataclass(frozen=True)
class Objective:
    """What training minimises: smoothed cross-entropy, plus l2/2 times the squared norms of weights.

    `decay` says how strongly that acts on each trainable variable; an empty one means not at all.
    """

    label_smoothing: float = 0.0
    l2: float = 0.0
    decay: tuple[float, ...] = ()


@dataclass(frozen=True)
class Averaging:
    """A moving average of the weights, brought up to date every so many steps.

    Attributes:
        kind: `ema`: training goes on beside it; `lookahead`: training goes on from it.
        every: steps from one update to the next.
        decay: what an update keeps of the average; of `lookahead` at the end.
        total_steps: of the training.

    """

    kind: str
    every: int
    decay: float
    total_steps: int

    def keeps(self, step: Any) -> Any:
        """Return what the update after that step (int32, from 1) keeps of the average, float32.

        An `ema` begins with less, so that the first weights are forgotten: (1+n)/(10+n) at the n-th update, as
        TensorFlow's ExponentialMovingAverage does. `lookahead` grows with the third power (Jordan 2024, listing 4).
        """
        if self.kind == "lookahead":
            done = ops.minimum(ops.cast(step, "float32") / self.total_steps, 1.0)  # its speed is measured with more
            return self.decay * ops.power(done, 3)
        updates = ops.cast(step // self.every, "float32")
        return ops.minimum(self.decay, (1 + updates) / (10 + updates))

    def updated(self, averages: list[Any], weights: list[Any], step: Any) -> tuple[list[Any], list[Any]]:
        """Return averages and weights as they are after the update at that step."""
        keeps = self.keeps(step)
        new = [keeps * old + (1 - keeps) * each for old, each in zip(averages, weights, strict=True)]
        return new, new if self.kind == "lookahead" else weights


@dataclass(frozen=True)
class Task:
    """What is computed in a step, whichever backend computes it.

    `resident` is the training data where it lives on the device; blocks then say only which of it a step sees.
    """

    shape: ImageShape
    normalization: Normalization
    objective: Objective
    resident: Resident | None = None
    averaging: Averaging | None = None


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

    def train_only(self, trained: frozenset[int]) -> None:
        """From now on train only those of the model's trainable variables; another set is compiled anew."""

    def settle(self) -> None:
        """Let the average of the weights take their place, where there is one."""

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


def cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """Return the mean cross-entropy of float32 logits (batch, classes) with labels int32 (batch,)."""
    return ops.mean(cross_entropies(logits, labels, smoothing))


def cross_entropies(logits: Any, labels: Any, smoothing: float) -> Any:
    """Return each image's cross-entropy (batch,).

    With smoothing s, the target is (1-s) on the label plus s/classes everywhere (Szegedy et al. 2016, section 7).
    """
    hard = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    if not smoothing:
        return hard
    uniform = -ops.mean(ops.log_softmax(logits, axis=-1), axis=-1)
    return (1 - smoothing) * hard + smoothing * uniform


def penalty(variables: Sequence[Any], objective: Objective) -> Any:
    """Return l2/2 times the squared norms of the trainable variables, each times its decay; float32.

    So the gradient is l2 times decay times the variable, which published SGD recipes call weight decay.
    """
    if not objective.l2:
        return 0.0
    pairs = [(decay, each) for decay, each in zip(objective.decay, variables, strict=True) if decay]
    norms = (decay * ops.sum(ops.square(ops.cast(each, "float32"))) for decay, each in pairs)
    return 0.5 * objective.l2 * sum(norms, start=0.0)


def averaged_variables(model: keras.Model) -> list[Any]:
    """Return what is averaged: the trainable variables, and after them the moving statistics."""
    others = [each for each in model.non_trainable_variables if each.dtype.startswith(("float", "bfloat"))]
    return [*model.trainable_variables, *others]


def count_correct(logits: Any, labels: Any) -> Any:
    """Return how many labels have the highest logit, int32."""
    return ops.sum(ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels), "int32"))
