"""Trains a model by a recipe: the loop over epochs and phases, and what is timed of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from bench.api import ImageShape
from bench.backends.interface import Pending, Steps
from bench.checkpoints import Keeper, Past, Progress
from bench.data.pipeline import Block, TrainingData, prefetch
from bench.data.splits import Subset
from bench.errors import DivergedError, StoppedError
from bench.evaluation import collect_logits, quick_scores
from bench.events import Epoch, Step
from bench.groups import Phase
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
        epochs: how many there were; the last one may have ended early.
        steps: how many there were.
        first_step_seconds: of the blocks that traced or compiled.
        blocks: every other block, in order.
        validation_seconds: of all validations.
        validation_accuracy: after the last epoch, a fraction; None without validation images.
        retraced: how many more times than expected the training function was traced or compiled, in this process.
        past: what earlier processes did of the trial; the figures above include it.

    """

    epochs: float
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


@dataclass(frozen=True)
class Schedule:
    """How long is trained, at which rate, and which weights.

    Attributes:
        total_steps: after so many it ends, within an epoch perhaps.
        rates: the learning rate of each step.
        phases: what is trained from which epoch on.

    """

    total_steps: int
    rates: npt.NDArray[np.float32]
    phases: Sequence[Phase]

    def phase(self, epoch: int) -> Phase:
        """Return the phase that an epoch, counted from 0, is in."""
        return [each for each in self.phases if each.start <= epoch][-1]


def train(
    steps: Steps,
    schedule: Schedule,
    data: TrainingData,
    validation: Subset | None,
    report: Report,
    *,
    keeper: Keeper | None = None,
) -> Training:
    """Train for all of the schedule, reporting each block and each epoch.

    Args:
        steps: the compiled steps.
        schedule: how long, and how.
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
        loop = _Loop(steps, schedule, data, report, keeper)
        while loop.at.epoch < loop.epochs:
            loop.train_epoch()
            loop.finish_epoch(validation)
        return loop.result()


class _Loop:
    """One training: its clock, and where it is."""

    def __init__(self, steps: Steps, schedule: Schedule, data: TrainingData, report: Report, keeper: Keeper) -> None:
        self.steps, self.schedule, self.data, self.report, self.keeper = steps, schedule, data, report, keeper
        self.steps_per_epoch = data.recipe.steps_per_epoch(len(data.subset))
        self.epochs = math.ceil(schedule.total_steps / self.steps_per_epoch)
        self.compiled: set[Hashable] = set()
        self.begun: set[frozenset[int]] = set()  # sets of weights that this process has trained
        self.at: Progress = keeper.resume(steps)
        self.started = self.at.done
        self.recorder = Recorder()
        self.recorder.blocks = self.at.blocks
        self.seconds = sum(block.seconds for block in self.at.blocks)
        self.images = sum(block.images for block in self.at.blocks)

    def train_epoch(self) -> None:
        """Train on what is left of the epoch."""
        self.steps.train_only(self._phase().trained)
        self.recorder.start()
        for block, pending in self._started():
            losses, correct = pending.result()
            self._count(block, losses, correct)
            self._check_finite(losses)
            speed = self.images / self.seconds if self.seconds else 0.0
            mean = float(losses.mean())
            self.report(Step(self.at.epoch + 1, self.epochs, self.at.step, self._last_step(), mean, speed))
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
            first_block=None if self._phase().trained in self.begun else 1,
            start=self.at.step,
            stop=self._last_step(),
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

    def _phase(self) -> Phase:
        return self.schedule.phase(self.at.epoch)

    def _last_step(self) -> int:
        """Return how many steps this epoch has."""
        before = self.at.epoch * self.steps_per_epoch
        return min(self.steps_per_epoch, self.schedule.total_steps - before)

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
        self.begun.add(self._phase().trained)
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
        if at.done == self.schedule.total_steps:
            self.steps.settle()
        loss = None if validation is None else self._validate(validation)
        at.validation_seconds += time.perf_counter() - start
        ended = Epoch(
            epoch=at.epoch + 1,
            steps=at.done,
            train_loss=at.losses / at.images,
            train_accuracy=at.correct / at.images,
            validation_loss=loss,
            validation_accuracy=at.validation_accuracy,
            learning_rate=float(self.schedule.rates[at.done - 1]),
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
        self.keeper.save(self.steps, self.at, self.schedule.total_steps)

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
            epochs=at.done / self.steps_per_epoch,
            steps=at.done,
            first_step_seconds=at.first_step_seconds,
            blocks=tuple(at.blocks),
            validation_seconds=at.validation_seconds,
            validation_accuracy=at.validation_accuracy,
            retraced=max(0, self.steps.compilations() - len(self.compiled)),
            past=at.past,
        )
