"""Trains a model by a recipe: the optimizer, the loop over epochs, and what is timed of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from bench.api import ImageShape
from bench.backends.interface import Pending, Steps, decayed_variables
from bench.data.pipeline import Block, TrainingData, prefetch
from bench.data.splits import Subset
from bench.errors import DivergedError
from bench.evaluation import collect_logits, quick_scores
from bench.events import Epoch, Step
from bench.measurement.windows import Recorder, TimedBlock
from bench.recipes import Recipe

Report = Callable[[Step | Epoch], None]


@dataclass(frozen=True)
class BlockLimit:
    """The most that goes into one block."""

    steps: int
    images: int


CPU_BLOCK = BlockLimit(steps=32, images=1_024)
GPU_BLOCK = BlockLimit(steps=64, images=16_384)  # its steps take less, so that a call would show
BLOCK_BYTES = 64 * 2**20  # three blocks are in memory at once


@dataclass(frozen=True)
class Training:
    """What was measured of a training.

    Attributes:
        epochs: how many there were.
        steps: how many there were.
        first_step_seconds: of the blocks that traced or compiled.
        blocks: every other block, in order.
        validation_seconds: of all validations.
        validation_accuracy: after the last epoch, a fraction; None without validation images.
        retraced: how many more times than expected the training function was traced or compiled.

    """

    epochs: int
    steps: int
    first_step_seconds: float
    blocks: tuple[TimedBlock, ...]
    validation_seconds: float
    validation_accuracy: float | None
    retraced: int


def steps_per_block(recipe: Recipe, shape: ImageShape, steps_per_epoch: int, on_gpu: bool) -> int:
    """Return how many steps to prepare and time together: enough to hide the call, few enough to show progress."""
    most = GPU_BLOCK if on_gpu else CPU_BLOCK
    images = min(most.images, BLOCK_BYTES // math.prod(shape))
    return max(1, min(most.steps, images // recipe.batch_size, steps_per_epoch))


def build_optimizer(recipe: Recipe, model: keras.Model, rate: Any, precision: str) -> Any:
    """Return the recipe's optimizer at that learning rate, with loss scaling under `mixed_float16`."""
    clip = recipe.clip_norm or None
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, recipe.momentum, nesterov=recipe.nesterov, global_clipnorm=clip)
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, global_clipnorm=clip)
        decayed = {id(variable) for variable in decayed_variables(model)}
        kept = [variable for variable in model.trainable_variables if id(variable) not in decayed]
        optimizer.exclude_from_weight_decay(var_list=kept)
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


def learning_rate(recipe: Recipe, total_steps: int) -> Any:
    """Return the recipe's learning rate: a number, or Keras's schedule of it over the steps."""
    warmup = round(recipe.warmup * total_steps)
    if recipe.schedule == "constant" and not warmup:
        return recipe.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else recipe.learning_rate,
        decay_steps=max(1, total_steps - warmup),
        alpha=1.0 if recipe.schedule == "constant" else 0.0,  # what is left of the rate at the end
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def skipped_steps(optimizer: Any, steps: int) -> int:
    """Return how many steps `mixed_float16`'s loss scaling left out because their gradients were not finite.

    Raises:
        DivergedError: it was more than half of them, so that nothing has really been trained.
    """
    skipped = steps - int(getattr(optimizer, "inner_optimizer", optimizer).iterations)
    if skipped > steps / 2:
        raise DivergedError(
            f"{skipped} of {steps} steps had gradients that are not finite in float16, and were skipped."
        )
    return skipped


def train(
    steps: Steps,
    rate: Any,
    data: TrainingData,
    validation: Subset | None,
    report: Report,
) -> Training:
    """Train for all of the recipe's epochs, reporting each block and each epoch.

    Args:
        steps: the compiled steps.
        rate: what `learning_rate` gave.
        data: the training images.
        validation: scored after each epoch, or None.
        report: is sent each block and each epoch.

    Raises:
        DivergedError: the loss became infinite or not a number; names the epoch and the step.

    """
    loop = _Loop(steps, rate, data, report)
    for number in range(loop.epochs):
        loop.train_epoch(number)
        loop.finish_epoch(number, validation)
    return loop.result()


class _Loop:
    """The state of one training: the clock, and sums over the epoch."""

    def __init__(self, steps: Steps, rate: Any, data: TrainingData, report: Report) -> None:
        self.steps, self.rate, self.data, self.report = steps, rate, data, report
        self.steps_per_epoch = data.recipe.steps_per_epoch(len(data.subset))
        self.epochs = data.recipe.total_epochs(len(data.subset))
        self.compiled: set[Hashable] = set()
        self.first_step_seconds = self.validation_seconds = 0.0
        self.recorder = Recorder()
        self.seconds = 0.0
        self.images = self.done = 0
        self.validation_accuracy: float | None = None

    def train_epoch(self, number: int) -> None:
        self.losses, self.correct, self.epoch_images, self.epoch_seconds, self.step = 0.0, 0, 0, 0.0, 0
        self.recorder.start()
        for block, pending in self._started(number):
            losses, correct = pending.result()
            self._count(block, losses, correct)
            self._check_finite(losses, number)
            self.step += block.steps
            speed = self.images / self.seconds if self.seconds else 0.0
            self.report(Step(number + 1, self.epochs, self.step, self.steps_per_epoch, float(losses.mean()), speed))

    def _started(self, number: int) -> Iterator[tuple[Block, Pending]]:
        """Start block after block; where the device works by itself, it has the next one before it ends with one."""
        first = 1 if number == 0 else None
        blocks = self.data.epoch(number, self.steps.tuning.steps_per_block, first_block=first)
        running: tuple[Block, Pending] | None = None
        for placed in prefetch(map(self.steps.place, blocks)):
            if running and self._is_new(placed.block):  # else its compilation would count as the running block's time
                yield running
                running = None
            started = placed.block, self.steps.train(placed)
            if running:
                yield running
            running = started
            if not self.steps.tuning.runs_ahead or self._is_new(placed.block):
                yield running
                running = None
        if running:
            yield running

    def _is_new(self, block: Block) -> bool:
        return self.steps.compilation(block) not in self.compiled

    def _count(self, block: Block, losses: Any, correct: int) -> None:
        if self._is_new(block):
            seconds = self.recorder.skip()
            self.first_step_seconds += seconds
        else:
            seconds = self.recorder.lap(block.steps, block.count)
            self.seconds += seconds
            self.images += block.count
        self.compiled.add(self.steps.compilation(block))
        self.done += block.steps
        self.losses += float(losses.sum()) * block.batch_size
        self.correct += correct
        self.epoch_images += block.count
        self.epoch_seconds += seconds

    def finish_epoch(self, number: int, validation: Subset | None) -> None:
        self.recorder.pause()
        start = time.perf_counter()
        loss = None
        if validation is not None:
            logits = collect_logits(self.steps, validation, self.data.shape)
            loss, self.validation_accuracy = quick_scores(logits, validation.split.labels[validation.indices])
        self.validation_seconds += time.perf_counter() - start
        self.report(
            Epoch(
                epoch=number + 1,
                steps=self.done,
                train_loss=self.losses / self.epoch_images,
                train_accuracy=self.correct / self.epoch_images,
                validation_loss=loss,
                validation_accuracy=self.validation_accuracy,
                learning_rate=float(self.rate(self.done) if callable(self.rate) else self.rate),
                seconds=self.epoch_seconds,
                images_per_second=self.epoch_images / self.epoch_seconds,
            )
        )

    def _check_finite(self, losses: Any, number: int) -> None:
        finite = np.isfinite(losses)
        if not finite.all():
            first = int(np.argmin(finite)) - len(losses)
            raise DivergedError(
                f"the training loss became {losses[first]} in epoch {number + 1}, step {self.done + first + 1}. "
                "A lower --learning-rate usually helps."
            )

    def result(self) -> Training:
        return Training(
            epochs=self.epochs,
            steps=self.done,
            first_step_seconds=self.first_step_seconds,
            blocks=tuple(self.recorder.blocks),
            validation_seconds=self.validation_seconds,
            validation_accuracy=self.validation_accuracy,
            retraced=max(0, self.steps.compilations() - len(self.compiled)),
        )
