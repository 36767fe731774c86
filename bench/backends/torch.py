"""The steps on PyTorch, run eagerly: on a CPU there is little to gain from compiling them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import torch
from keras.src.backend.torch import nn

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

PERMUTATIONS = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}


def channels_first(images: torch.Tensor) -> torch.Tensor:
    """Return a view of N×...×C as N×C×..., in PyTorch's channels-last memory format."""
    return images.contiguous().permute(PERMUTATIONS[images.ndim])


# Keras 3.15 copies the images of each convolution and pooling into channels-first memory, and back again, which halves
# the speed. PyTorch takes the view as it is; a Keras without that function is left alone.
if hasattr(nn, "_transpose_spatial_inputs"):
    nn._transpose_spatial_inputs = channels_first


def prepare_process(device: Device, devices: int = 1) -> None:  # noqa: ARG001 - `replicated` refuses more than one
    """Choose CPU or GPU, and as many threads as there are cores: fewer, perhaps, than when torch was imported."""
    torch.set_num_threads(usable_cores())
    if device.kind == "GPU" and not count_gpus():
        raise BackendError(f"{device.name} is there, but PyTorch cannot use it any more. Run `bench doctor`.")
    keras.device("gpu:0" if device.kind == "GPU" else "cpu:0").__enter__()  # for the rest of the process


def count_gpus() -> int:
    """Return how many GPUs PyTorch can use."""
    return int(torch.cuda.device_count())


def tune(device: Device, steps_per_block: int, devices: int = 1) -> Tuning:  # noqa: ARG001 - alike on all
    """Nothing is compiled, and every step is a call of its own, started while a GPU computes the one before.

    No block is started ahead: bringing a loss to the host waits for all that was started, also what came after it.
    """
    return Tuning(False, steps_per_block, steps_per_execution=1, runs_ahead=False)


def replicated(devices: int) -> AbstractContextManager[Any]:
    """Do nothing for one device; there is no more here."""
    if devices > 1:
        raise BackendError("PyTorch trains on one device here; --backend tensorflow and jax on several.")
    return nullcontext()


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function: nothing is compiled."""
    return function


def threads() -> int:
    """Return how many threads one operation may use on the CPU."""
    return int(torch.get_num_threads())


def peak_memory_bytes() -> int:
    """Return the peak memory of the GPU in use."""
    return int(torch.cuda.max_memory_allocated())


def uses_tf32() -> bool:
    """Return whether float32 products or convolutions on the GPU may use TF32."""
    return bool(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)


def compile_steps(model: keras.Model, optimizer: Any, task: Task, tuning: Tuning) -> TorchSteps:
    """Return the training and inference functions of a model."""
    return TorchSteps(model, optimizer, task, tuning)


@dataclass(frozen=True)
class TorchPending:
    """Steps that were started, or on a CPU are done."""

    losses: list[torch.Tensor]
    correct: list[torch.Tensor]

    def result(self) -> tuple[npt.NDArray[np.float32], int]:
        """Wait for the last step."""
        return torch.stack(self.losses).cpu().numpy(), int(torch.stack(self.correct).sum())


class TorchSteps:
    """The functions of one model."""

    def __init__(self, model: keras.Model, optimizer: Any, task: Task, tuning: Tuning) -> None:
        self.model, self.optimizer, self.task, self.tuning = model, optimizer, task, tuning
        self.pictures = Pictures(task)
        self.variables = model.trainable_variables
        self.trained = frozenset(range(len(self.variables)))
        self.averaged = averaged_variables(model) if task.averaging else []
        self.averages = [keras.Variable(each.value.detach().clone(), trainable=False) for each in self.averaged]
        self.count = keras.Variable(0, dtype="int32", trainable=False)
        optimizer.build(self.variables)
        self.device = self.variables[0].value.device
        self.resident = None if task.resident is None else self._place(task.resident.images)

    def place(self, block: Block) -> Placed:
        """Bring a block to the device."""
        if isinstance(block.inputs, Draw):
            inputs: Any = tuple(map(self._place, block.inputs.arrays()))
        else:
            inputs = self._place(block.inputs)
        mix = tuple(map(self._place, block.mix.arrays())) if block.mix else ()
        return Placed(block, (inputs, mix), self._place(block.labels))

    def train(self, placed: Placed) -> TorchPending:
        """Train on a block, a step after another."""
        pending = TorchPending([], [])
        inputs, mix = placed.inputs
        for step, labels in enumerate(placed.labels):
            of_step = tuple(each[step] for each in inputs) if self.resident is not None else inputs[step]
            loss, correct = self._step(of_step, tuple(each[step] for each in mix), labels)
            pending.losses.append(loss)
            pending.correct.append(correct)
        return pending

    def train_only(self, trained: frozenset[int]) -> None:
        """From now on train only those variables."""
        if trained != self.trained:
            self.trained = trained
            train_only(self.optimizer, trained)

    def settle(self) -> None:
        """Let the average of the weights take their place, where there is one."""
        for variable, average in zip(self.averaged, self.averages, strict=True):
            variable.assign(average.value)

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return logits float32 (batch, classes), on the host."""
        with torch.inference_mode():
            logits = self._logits(self.pictures(None, self._place(images), ()), training=False)
        return np.asarray(logits.cpu().numpy())

    def compilation(self, block: Block) -> Hashable:  # noqa: ARG002 - nothing is compiled for any
        """Return what is trained: nothing is compiled, but libraries load in the first step."""
        return self.trained

    def compilations(self) -> int:
        """Return 0: nothing is compiled."""
        return 0

    def finish(self) -> None:
        """Do nothing: variables are trained in place."""

    def snapshot(self) -> Iterator[tuple[str, Array]]:
        """Yield all that training changes, by name: also what PyTorch's own modules and generators keep."""
        yield from ((name, stored(each)) for name, each in self._state().items())
        yield from ((name, stored(keras.ops.convert_to_numpy(each))) for name, each in self._buffers().items())
        yield from ((name, state.numpy()) for name, state in named(random=self._random()).items())

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take what `snapshot` gave."""
        global_seeds(create="seeds.0" in arrays)
        check_fits(arrays, self.snapshot())
        for name, variable in self._state().items():
            assign(variable, arrays[name])
        for name, buffer in self._buffers().items():
            buffer.copy_(keras.ops.convert_to_tensor(arrays[name].view(keras.ops.convert_to_numpy(buffer).dtype)))
        torch.set_rng_state(torch.from_numpy(arrays["random.0"]))
        if "random.1" in arrays:
            torch.cuda.set_rng_state(torch.from_numpy(arrays["random.1"]), self.device)

    def _state(self) -> dict[str, Any]:
        averages = [*self.averages, self.count] if self.averages else []
        return named(
            model=self.model.variables, optimizer=self.optimizer.variables, averages=averages, seeds=global_seeds()
        )

    def _buffers(self) -> dict[str, torch.Tensor]:
        layers = [each for each in self.model._flatten_layers() if isinstance(each, torch.nn.Module)]
        return named(buffers={id(buffer): buffer for layer in layers for buffer in layer.buffers()}.values())

    def _random(self) -> list[torch.Tensor]:
        cpu = torch.get_rng_state()
        return [cpu, torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else [cpu]

    def _step(self, inputs: Any, mix: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.model.zero_grad()
        variables = [self.variables[index] for index in sorted(self.trained)]
        logits = self._logits(self.pictures(self.resident, inputs, mix), training=True)
        loss = step_loss(logits, labels, mix, self.task.objective.label_smoothing)
        extra = sum((each.float() for each in self.model.losses), start=0.0)
        total = loss + extra + penalty([each.value for each in self.variables], self.task.objective)
        scaled = self.optimizer.scale_loss(total)
        gradients = torch.autograd.grad(scaled, [each.value for each in variables], allow_unused=True)
        with torch.no_grad():
            self.optimizer.apply(list(gradients), variables)
            if self.task.averaging:
                self._average(self.task.averaging)
            return loss.detach(), count_correct(logits, labels)

    def _average(self, averaging: Averaging) -> None:
        self.count.assign_add(1)
        step = int(self.count.value)
        if step % averaging.every:
            return
        weights = [each.value for each in self.averaged]
        averages, weights = averaging.updated([each.value for each in self.averages], weights, step)
        for variable, average, weight, new in zip(self.averaged, self.averages, weights, averages, strict=True):
            average.assign(new)
            variable.assign(weight)

    def _logits(self, images: Any, training: bool) -> Any:
        return self.model(images, training=training).float()

    def _place(self, array: npt.NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.to(self.device, non_blocking=True)
