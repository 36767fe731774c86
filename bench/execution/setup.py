"""What a trial trains, and with what: its images, and the model with its optimizer, schedule and compiled steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from bench.api import Splits
from bench.backends.interface import Averaging, Backend, Normalization, Objective, Steps, Task
from bench.data.augmentation import Allowed, needs_host
from bench.data.cache import DataInfo, open_splits
from bench.data.pipeline import TrainingData, batches
from bench.data.splits import Subset, divide, everything
from bench.environment import Device
from bench.errors import BadModelError
from bench.execution.job import TrialJob
from bench.execution.model import build_model, check_outputs
from bench.groups import phases, resolve_groups
from bench.measurement.cost import count_cost
from bench.optimizers import build_optimizer
from bench.plugins import Plugin
from bench.recipes import Recipe
from bench.schedules import Tabulated, rates
from bench.training import Schedule, steps_per_block

RESIDENT_SHARE = 0.25  # of a GPU's memory: what a training set may take to live there
ADAPTED_TO, ADAPT_BYTES = 5_000, 2**30  # training images, at most, that an architecture's `adapt` is shown


@dataclass(frozen=True)
class Images:
    """The data of a trial: training, validation and test images."""

    splits: Splits
    training: TrainingData
    validation: Subset | None
    test: Subset


@dataclass(frozen=True)
class Built:
    """The model of a trial, with what trains it."""

    model: keras.Model
    optimizer: Any
    schedule: Schedule
    steps: Steps


def load_images(job: TrialJob) -> Images:
    """Open the data set, and divide its training images.

    Raises:
        DataError, PluginError: the images cannot be loaded, read or divided.

    """
    spec, info = job.trial.spec, job.trial.prepared.info
    splits = open_splits(job.trial.source, job.trial.prepared)
    training, validation = divide(splits, spec.recipe.validation_fraction, spec.seed, spec.train_fraction)
    data = TrainingData(
        training,
        info.image_shape,
        spec.recipe,
        allowed(job),
        seed=spec.seed,
        resident=spec.devices == 1 and _fits_device(job.device, splits) and not needs_host(spec.recipe),
        mean=info.channel_mean,
    )
    return Images(splits, data, validation, everything(splits.test))


def allowed(job: TrialJob) -> Allowed:
    """Return which augmentations leave the labels of the trial's images as they are."""
    return Allowed.by(job.trial.source.choice.plugin.info)


def build(job: TrialJob, images: Images, backend: Backend) -> Built:
    """Build the model, and compile what trains it.

    Raises:
        BadModelError: the architecture does not keep to its interface.
        UsageError: a group of the recipe matches none of its weights.

    """
    spec, info, recipe = job.trial.spec, job.trial.prepared.info, job.trial.spec.recipe
    keras.utils.set_random_seed(spec.seed)  # again: a data set's `load` may have set another
    plugin, count = job.trial.architecture, len(images.training.subset)
    normalization = _normalization(plugin, recipe, info)
    model = build_model(
        plugin, spec, info.image_shape, len(images.splits.class_names), lambda: _first_images(images, normalization)
    )
    schedule = _schedule(recipe, model, info, count)
    optimizer = build_optimizer(recipe, model, Tabulated(schedule.rates), spec.precision)
    in_block = steps_per_block(recipe, info.image_shape, recipe.steps_per_epoch(count), on_gpu=job.device.kind == "GPU")
    decay = tuple(each.decay for each in resolve_groups(recipe.groups, model))
    task = Task(
        info.image_shape,
        normalization,
        Objective(recipe.label_smoothing, recipe.l2, decay),
        images.training.residents(),
        _averaging(recipe, schedule.total_steps),
    )
    steps = backend.compile_steps(model, optimizer, task, backend.tune(job.device, in_block, spec.devices))
    check_outputs(steps, images.splits, info.image_shape, plugin.path)
    return Built(model, optimizer, schedule, steps)


def _schedule(recipe: Recipe, model: keras.Model, info: DataInfo, images: int) -> Schedule:
    macs = count_cost(model, info.image_shape).macs if recipe.budget_flops else None
    try:
        total = recipe.total_steps(images, macs)
    except ValueError as error:
        raise BadModelError(f"--budget flops: {error}. Give the budget in epochs.") from error
    weights = resolve_groups(recipe.groups, model)
    return Schedule(total, rates(recipe, total), phases(weights, total / recipe.steps_per_epoch(images)))


def _averaging(recipe: Recipe, total_steps: int) -> Averaging | None:
    if recipe.average == "none":
        return None
    return Averaging(recipe.average, recipe.average_every, recipe.average_decay, total_steps)


def _first_images(images: Images, normalization: Normalization) -> npt.NDArray[np.float32]:
    """Return training images as the model sees them, unaugmented: float32 (N, H, W, C)."""
    training = images.training
    most = max(1, min(ADAPTED_TO, ADAPT_BYTES // (4 * math.prod(training.shape)), len(training.subset)))
    evenly = np.linspace(0, len(training.subset) - 1, most).astype(int)
    some = Subset(training.subset.split, training.subset.indices[evenly])  # of all classes, also where these are sorted
    pixels = next(batches(some, training.shape, len(some))).astype(np.float32)
    return pixels * np.array(normalization.scale, np.float32) + np.array(normalization.offset, np.float32)


def _fits_device(device: Device, splits: Splits) -> bool:
    """Return whether the training images are few enough to live on the GPU."""
    images = splits.train.images
    return isinstance(images, np.ndarray) and images.nbytes <= RESIDENT_SHARE * (device.memory_bytes or 0)


def _normalization(plugin: Plugin, recipe: Recipe, info: DataInfo) -> Normalization:
    channels = info.image_shape[2]
    if plugin.info.normalization == "pixels":
        return Normalization((1.0,) * channels, (0.0,) * channels)
    if recipe.normalization == "symmetric":
        return Normalization((2 / 255,) * channels, (-1.0,) * channels)
    pairs = list(zip(info.channel_mean, info.channel_std, strict=True))
    return Normalization(tuple(1 / (255 * std) for _, std in pairs), tuple(-mean / std for mean, std in pairs))
