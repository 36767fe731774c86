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
from bench.checkpoints import Keeper, Past, Progress
from bench.data.pipeline import Block, TrainingData, prefetch
from bench.data.splits import Subset
from bench.errors import DivergedError, StoppedError
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
        retraced: how many more times than expected the training function was traced or compiled, in this process.
        past: what earlier processes did of the trial; the figures above include it.

    """

    epochs: int
    steps: int
    first_step_seconds: float
    blocks: tuple[TimedBlock, ...]
    validation_seconds: float
    validation_accuracy: float | None
    retraced: int
    past: Past


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
    iterations = getattr(optimizer, "inner_optimizer", optimizer).iterations
    skipped = steps - int(keras.ops.convert_to_numpy(iterations))
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
    *,
    keeper: Keeper | None = None,
) -> Training:
    """Train for all of the recipe's epochs, reporting each block and each epoch.

    Args:
        steps: the compiled steps.
        rate: what `learning_rate` gave.
        data: the training images.
        validation: scored after each epoch, or None.
        report: is sent each block and each epoch.
        keeper: has the state that is gone on with, and saves it; None saves nothing.

    Raises:
        DivergedError: the loss became infinite or not a number; names the epoch and the step.
        StoppedError: the process was asked to end; the state has been saved, if the keeper could.

    """
    keeper = keeper or Keeper()
    with keeper.stop.patient():
        loop = _Loop(steps, rate, data, report, keeper)
        while loop.at.epoch < loop.epochs:
            loop.train_epoch()
            loop.finish_epoch(validation)
        return loop.result()


class _Loop:
    """One training: its clock, and where it is."""

    def __init__(self, steps: Steps, rate: Any, data: TrainingData, report: Report, keeper: Keeper) -> None:
        self.steps, self.rate, self.data, self.report, self.keeper = steps, rate, data, report, keeper
        self.steps_per_epoch = data.recipe.steps_per_epoch(len(data.subset))
        self.epochs = data.recipe.total_epochs(len(data.subset))
        self.compiled: set[Hashable] = set()
        self.at: Progress = keeper.resume(steps)
        self.started = self.at.done
        self.recorder = Recorder()
        self.recorder.blocks = self.at.blocks
        self.seconds = sum(block.seconds for block in self.at.blocks)
        self.images = sum(block.images for block in self.at.blocks)

    def train_epoch(self) -> None:
        """Train on what is left of the epoch."""
        self.recorder.start()
        for block, pending in self._started():
            losses, correct = pending.result()
            self._count(block, losses, correct)
            self._check_finite(losses)
            speed = self.images / self.seconds if self.seconds else 0.0
            mean = float(losses.mean())
            self.report(Step(self.at.epoch + 1, self.epochs, self.at.step, self.steps_per_epoch, mean, speed))
            if self.keeper.is_due() and self.started == self.at.done:
                self._save()
                self.recorder.start()
        self.recorder.pause()

    def _started(self) -> Iterator[tuple[Block, Pending]]:
        """Start block after block; where the device works by itself, it has the next one before it ends with one.

        It has not where that would be compiled, which would count as the running block's time, nor before the state is
        saved.
        """
        blocks = self.data.epoch(
            self.at.epoch,
            self.steps.tuning.steps_per_block,
            first_block=None if self.compiled else 1,
            start=self.at.step,
        )
        running: tuple[Block, Pending] | None = None
        for placed in prefetch(map(self.steps.place, blocks)):
            if running and (self._is_new(placed.block) or self.keeper.is_due()):
                yield running
                running = None
            self.started += placed.block.steps
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
        at = self.at
        if self._is_new(block):
            seconds = self.recorder.skip()
            at.first_step_seconds += seconds
        else:
            seconds = self.recorder.lap(block.steps, block.count)
            self.seconds += seconds
            self.images += block.count
        self.compiled.add(self.steps.compilation(block))
        at.step += block.steps
        at.done += block.steps
        at.losses += float(losses.sum(dtype=np.float64)) * block.batch_size  # exact, however steps are grouped
        at.correct += correct
        at.images += block.count
        at.seconds += seconds

    def finish_epoch(self, validation: Subset | None) -> None:
        """Score the validation images, report the epoch, and go on to the next."""
        at = self.at
        start = time.perf_counter()
        loss = None if validation is None else self._validate(validation)
        at.validation_seconds += time.perf_counter() - start
        ended = Epoch(
            epoch=at.epoch + 1,
            steps=at.done,
            train_loss=at.losses / at.images,
            train_accuracy=at.correct / at.images,
            validation_loss=loss,
            validation_accuracy=at.validation_accuracy,
            learning_rate=float(self.rate(at.done) if callable(self.rate) else self.rate),
            seconds=at.seconds,
            images_per_second=at.images / at.seconds,
        )
        self.report(ended)
        at.history.append(ended)
        at.epoch, at.step, at.losses, at.correct, at.images, at.seconds = at.epoch + 1, 0, 0.0, 0, 0, 0.0
        last = at.epoch == self.epochs
        if self.keeper.is_worth_keeping(at.past) if last else self.keeper.is_due():
            self._save()

    def _validate(self, validation: Subset) -> float:
        """Return the loss. Where the process is asked to end meanwhile, the state is saved as it was before."""
        try:
            with self.keeper.stop.patient(False):
                logits = collect_logits(self.steps, validation, self.data.shape)
        except StoppedError:
            self._save()
            raise
        loss, self.at.validation_accuracy = quick_scores(logits, validation.split.labels[validation.indices])
        return loss

    def _save(self) -> None:
        self.keeper.save(self.steps, self.at, self.epochs * self.steps_per_epoch)

    def _check_finite(self, losses: Any) -> None:
        finite = np.isfinite(losses)
        if not finite.all():
            first = int(np.argmin(finite)) - len(losses)
            raise DivergedError(
                f"the training loss became {losses[first]} in epoch {self.at.epoch + 1}, "
                f"step {self.at.done + first + 1}. A lower --learning-rate usually helps."
            )

    def result(self) -> Training:
        """Return what was measured."""
        at = self.at
        return Training(
            epochs=self.epochs,
            steps=at.done,
            first_step_seconds=at.first_step_seconds,
            blocks=tuple(at.blocks),
            validation_seconds=at.validation_seconds,
            validation_accuracy=at.validation_accuracy,
            retraced=max(0, self.steps.compilations() - len(self.compiled)),
            past=at.past,
        )
