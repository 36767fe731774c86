"""One trial, in a process of its own: data, model, training, evaluation, measurement."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bench.api import ImageShape, Splits
from bench.data.cache import DataInfo, open_splits
from bench.data.pipeline import TrainingData, batches
from bench.data.splits import divide, everything
from bench.environment import Device, usable_cores
from bench.errors import BackendError, BadModelError, DivergedError, PluginError
from bench.evaluation import BATCH_SIZE, collect_logits, score
from bench.events import Epoch, Phase, Step
from bench.execution.job import TrialJob
from bench.measurement.cost import parameter_counts
from bench.measurement.latency import inference_images_per_second
from bench.measurement.memory import peak_memory_bytes
from bench.measurement.phases import Stopwatch
from bench.plugins import Plugin, load_module
from bench.recipes import Recipe
from bench.records import Outcome
from bench.spec import TrialSpec
from bench.steps import CompiledSteps, Normalization, Objective, compile_steps
from bench.store import write_predictions
from bench.training import build_optimizer, skipped_steps, steps_per_execution, train

Send = Callable[[Any], None]


def run_trial(job: TrialJob, send: Send) -> Outcome:
    """Run the trial, leave its predictions in the attempt's folder, and return what was measured.

    Raises:
        TrialError: the trial cannot go on, with the reason for its record.
        DataError, PluginError: the images cannot be loaded, read or divided.

    """
    spec, info, watch = job.trial.spec, job.trial.prepared.info, Stopwatch()
    recipe = spec.recipe
    send(Phase("loading"))
    _prepare_process(spec, job.device)
    with watch.phase("data"):
        splits = open_splits(job.trial.source, job.trial.prepared)
        training, validation = divide(splits, recipe.validation_fraction, spec.seed)
        flip = job.trial.source.choice.plugin.info.horizontal_flip
        data = TrainingData(training, info.image_shape, recipe, flip, spec.seed)
    send(Phase("building"))
    with watch.phase("build"):
        keras.utils.set_random_seed(spec.seed)  # again: a data set's `load` may have set another
        model = build_model(job.trial.architecture, spec, info.image_shape, len(splits.class_names))
        per_epoch = recipe.steps_per_epoch(len(training))
        optimizer = build_optimizer(recipe, model, per_epoch * recipe.total_epochs(len(training)), spec.precision)
        jit_compile = job.device.kind == "GPU"
        normalization = _normalization(spec.recipe, info)
        objective = Objective(recipe.label_smoothing, recipe.l2)
        steps = compile_steps(model, optimizer, info.image_shape, normalization, objective, jit_compile=jit_compile)
        check_outputs(steps, splits, info.image_shape, job.trial.architecture.path)
    send(Phase("training"))
    trained = train(steps, optimizer, data, validation, _reporter(send))
    skipped = skipped_steps(optimizer, trained.steps)
    watch.seconds |= {
        "first_step": trained.first_step_seconds,
        "training": trained.seconds,
        "validation": trained.validation_seconds,
    }
    send(Phase("evaluating"))
    with watch.phase("evaluation"):
        test = everything(splits.test)
        logits = collect_logits(steps, test, info.image_shape)
        if not np.isfinite(logits).all():
            raise DivergedError("the trained model's logits of the test images are not all finite numbers.")
        scores = score(logits, test.split.labels)
        stored = logits.astype(job.logits_dtype)
        write_predictions(job.folder, stored, test.split.labels, scores.confusion_matrix)
    with watch.phase("inference_timing"):
        sample = next(batches(test, info.image_shape, BATCH_SIZE))
        inference_speed = inference_images_per_second(steps.predict, sample)
    parameters, trainable = parameter_counts(model)
    return Outcome(
        metrics={
            "test_accuracy": scores.accuracy,
            "test_top5_accuracy": scores.top5_accuracy,
            "test_nll": scores.nll,
            "test_ece": scores.ece,
            "test_per_class_accuracy": scores.per_class_accuracy,
            "validation_accuracy": trained.validation_accuracy,
            "train_images_per_second": trained.images_per_second,
            "inference_images_per_second": inference_speed,
            "inference_batch_size": len(sample),
            "parameters": parameters,
            "trainable_parameters": trainable,
            "peak_memory_bytes": peak_memory_bytes(job.device.kind),
        },
        phases=watch.seconds,
        resolved={
            "device": job.device.kind,
            "device_name": job.device.name,
            "precision": spec.precision,
            "jit_compile": jit_compile,
            "steps_per_execution": steps_per_execution(recipe, per_epoch),
            "epochs": trained.epochs,
            "steps": trained.steps,
            "training_images": len(training),
            "validation_images": len(validation) if validation else 0,
            "test_images": len(test),
            "threads": int(os.environ.get("TF_NUM_INTRAOP_THREADS") or usable_cores()),
            "skipped_steps": skipped,
            "channel_mean": info.channel_mean,
            "channel_std": info.channel_std,
            "tf32": job.device.kind == "GPU" and tf.config.experimental.tensor_float_32_execution_enabled(),
        },
    )


def build_model(plugin: Plugin, spec: TrialSpec, shape: ImageShape, classes: int) -> keras.Model:
    """Call the architecture's `build`, and hold what it returns against the interface.

    Raises:
        BadModelError: the file cannot be imported, or `build` raised, or did not return a model with a logit a class.
        MemoryError, ResourceExhaustedError: the model does not fit into memory.

    """
    try:
        model = load_module(plugin).build(shape, classes, **spec.architecture.parameters)
    except PluginError as error:
        raise BadModelError(str(error)) from error
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:
        raise BadModelError(f"{plugin.path}: `build` raised {type(error).__name__}: {error}") from error
    if not isinstance(model, keras.Model):
        raise BadModelError(f"{plugin.path}: `build` must return a keras.Model, got {type(model).__name__}.")
    outputs = getattr(model, "output_shape", None)
    if outputs != (None, classes):
        raise BadModelError(
            f"{plugin.path}: the model's output must have shape (None, {classes}), one logit a class, got {outputs}. "
            "End it with keras.layers.Dense(num_classes)."
        )
    return model


def check_outputs(steps: CompiledSteps, splits: Splits, shape: ImageShape, path: Path) -> None:
    """Look at the untrained model's answers to some training images.

    Raises:
        BadModelError: they are probabilities where logits are due.

    """
    images = next(batches(everything(splits.train), shape, 8))
    outputs = steps.predict(images)
    if (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=0.02):
        raise BadModelError(
            f"{path}: the model's outputs are probabilities (they are positive and sum to 1), logits "
            "are due. Remove the softmax: leave `activation` of the last layer away; the loss applies it."
        )


def _prepare_process(spec: TrialSpec, device: Device) -> None:
    gpus = tf.config.list_physical_devices("GPU")
    if device.kind == "GPU" and not gpus:
        raise BackendError(f"{device.name} is there, but TensorFlow cannot use it any more. Run `bench doctor`.")
    used = gpus[:1] if device.kind == "GPU" else []
    tf.config.set_visible_devices(used, "GPU")
    for gpu in used:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json says
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy(spec.precision)
    keras.utils.set_random_seed(spec.seed)


def _normalization(recipe: Recipe, info: DataInfo) -> Normalization:
    if recipe.normalization == "symmetric":
        channels = info.image_shape[2]
        return Normalization((2 / 255,) * channels, (-1.0,) * channels)
    mean, std = info.channel_mean, info.channel_std
    pairs = list(zip(mean, std, strict=True))
    return Normalization(tuple(1 / (255 * s) for _, s in pairs), tuple(-m / s for m, s in pairs))


def _reporter(send: Send) -> Callable[[Step | Epoch], None]:
    """Send on everything, and write each epoch into the trial's log."""

    def report(event: Step | Epoch) -> None:
        if isinstance(event, Epoch):
            print(event.line(), flush=True)
        send(event)

    return report
