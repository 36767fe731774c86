"""Trains a model by a recipe: the optimizer, the loop over epochs, and what is timed of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from bench.data.pipeline import Block, TrainingData, prefetch
from bench.data.splits import Subset
from bench.errors import DivergedError
from bench.evaluation import collect_logits, quick_scores
from bench.events import Epoch, Step
from bench.recipes import Recipe
from bench.steps import CompiledSteps, decayed_variables

IMAGES_PER_EXECUTION = 1_024
MOST_STEPS_PER_EXECUTION = 32


@dataclass(frozen=True)
class Training:
    """What was measured of a training. Seconds exclude the first step and validation, each counted apart.

    `images_per_second` is None for a training of a single step.
    """

    epochs: int
    steps: int
    first_step_seconds: float
    seconds: float
    validation_seconds: float
    images_per_second: float | None
    validation_accuracy: float | None


def steps_per_execution(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return how many steps to run in one call: enough to hide the call, few enough to show progress."""
    wanted = min(MOST_STEPS_PER_EXECUTION, IMAGES_PER_EXECUTION // recipe.batch_size)
    return max(1, min(wanted, steps_per_epoch))


def build_optimizer(recipe: Recipe, model: keras.Model, total_steps: int, precision: str) -> Any:
    """Return the recipe's optimizer, with loss scaling under `mixed_float16`."""
    rate = _learning_rate(recipe, total_steps)
    clip = recipe.clip_norm or None
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, recipe.momentum, nesterov=recipe.nesterov, global_clipnorm=clip)
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, global_clipnorm=clip)
        decayed = {id(variable) for variable in decayed_variables(model)}
        kept = [variable for variable in model.trainable_variables if id(variable) not in decayed]
        optimizer.exclude_from_weight_decay(var_list=kept)
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


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
    steps: CompiledSteps,
    optimizer: Any,
    data: TrainingData,
    validation: Subset | None,
    report: Callable[[Step | Epoch], None],
) -> Training:
    """Train for all of the recipe's epochs, reporting each block and each epoch.

    Raises:
        DivergedError: the loss became infinite or not a number; names the epoch and the step.

    """
    loop = _Loop(steps, optimizer, data, report)
    for number in range(loop.epochs):
        loop.train_epoch(number)
        loop.finish_epoch(number, validation)
    return loop.result()


class _Loop:
    """The state of one training: the clock, and sums over the epoch."""

    def __init__(self, steps: CompiledSteps, optimizer: Any, data: TrainingData, report: Callable[..., None]) -> None:
        self.steps, self.optimizer, self.data, self.report = steps, optimizer, data, report
        self.steps_per_epoch = data.recipe.steps_per_epoch(len(data.subset))
        self.epochs = data.recipe.total_epochs(len(data.subset))
        self.batch_sizes: set[int] = set()
        self.first_step_seconds = self.validation_seconds = self.seconds = 0.0
        self.images = self.done = 0
        self.validation_accuracy: float | None = None

    def train_epoch(self, number: int) -> None:
        self.losses, self.correct, self.epoch_images, self.epoch_seconds = 0.0, 0, 0, 0.0
        together = steps_per_execution(self.data.recipe, self.steps_per_epoch)
        done, mark = 0, time.perf_counter()
        for block in prefetch(self.data.epoch(number, together, first_block=1 if number == 0 else None)):
            losses, correct = self.steps.run(block)
            self._check_finite(losses, number)
            now = time.perf_counter()
            self._count(block, float(losses.sum()) * block.count / block.steps, correct, now - mark)
            mark = now
            done += block.steps
            speed = self.images / self.seconds if self.seconds else 0.0
            self.report(Step(number + 1, self.epochs, done, self.steps_per_epoch, float(losses.mean()), speed))

    def _count(self, block: Block, loss: float, correct: int, seconds: float) -> None:
        if block.batch_size not in self.batch_sizes:  # traces and compiles, the smaller last batch on a GPU too
            self.batch_sizes.add(block.batch_size)
            self.first_step_seconds += seconds
        else:
            self.seconds += seconds
            self.images += block.count
        self.done += block.steps
        self.losses += loss
        self.correct += correct
        self.epoch_images += block.count
        self.epoch_seconds += seconds

    def finish_epoch(self, number: int, validation: Subset | None) -> None:
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
                learning_rate=float(keras.ops.convert_to_numpy(self.optimizer.learning_rate)),
                seconds=self.epoch_seconds,
                images_per_second=self.epoch_images / self.epoch_seconds,
            )
        )

    def _check_finite(self, losses: Any, number: int) -> None:
        finite = np.isfinite(losses)
        if not finite.all():
            first = int(np.argmin(finite))
            raise DivergedError(
                f"the training loss became {losses[first]} in epoch {number + 1}, step {self.done + first + 1}. "
                "A lower --learning-rate usually helps."
            )

    def result(self) -> Training:
        return Training(
            epochs=self.epochs,
            steps=self.done,
            first_step_seconds=self.first_step_seconds,
            seconds=self.seconds,
            validation_seconds=self.validation_seconds,
            images_per_second=self.images / self.seconds if self.seconds else None,
            validation_accuracy=self.validation_accuracy,
        )


def _learning_rate(recipe: Recipe, total_steps: int) -> Any:
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
