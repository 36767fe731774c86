"""The contract of architectures: what each must do at any size, number of channels and classes, and precision.

What trains or is built often is the network that `INFO.quick` makes; parameters are counted at its real size.
"""

from __future__ import annotations

import gc
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np

from bench import layers
from bench.api import ImageShape
from bench.contract.descriptions import check_description, line_of, parse_count_key
from bench.contract.findings import Finding, FindingError, Found, Result, raised, run_check
from bench.contract.subject import BATCH, CLASSES, Subject, size_text
from bench.groups import resolve_groups
from bench.measurement.cost import parameter_counts
from bench.plugins import PluginChoice
from bench.recipes import OWN, resolve_recipe

STEPS = 20
LOWER = 0.95  # what is left of the loss after these steps
HALF = ("float32", "float16")
MOST_NAMED = 5  # weights in a message


def check_architecture(
    choice: PluginChoice, started: Callable[[str], None] = lambda _: None, only: Collection[str] = ()
) -> Iterator[Result]:
    """Yield the result of each check of an architecture, in order: first its description, then those in `CHECKS`.

    Nothing follows a description or a `build` that is not sound.

    Args:
        choice: the architecture, with its parameters.
        started: is told the name of each check before it begins.
        only: names of `CHECKS`, where not all are to be run.

    """
    started("description")
    described = check_description(choice.plugin)
    yield described
    if choice.plugin.error or described.findings:
        return
    subject = Subject(choice)
    _optimize_graphs(False)  # that takes seconds of a deep network, and twenty steps do not bring them back
    try:
        for name, check in CHECKS.items():
            if name not in (only or CHECKS) or (name == "adapt" and "adapt" not in choice.plugin.functions):
                continue
            started(name)
            result = run_check(name, check, subject, choice.plugin.path)
            yield result
            if name == "build" and result.findings:
                return
    finally:
        _optimize_graphs(True)
        keras.backend.clear_session()
        gc.collect()


def _build(subject: Subject) -> Found:
    answers = subject.logits(subject.original, subject.shape)
    if (answers >= 0).all() and np.allclose(answers.sum(axis=1), 1, atol=0.02):
        yield Finding(
            "the model's outputs are probabilities (they are positive and sum to 1), logits are due.",
            "Remove the softmax: leave `activation` of the last layer away; the loss applies it.",
        )
    if subject.info.normalization != "pixels" and _rescales(subject.original):
        yield Finding(
            "the model has a Rescaling layer, but its images are normalised already.",
            "Leave the layer away; or say normalization='pixels' in INFO, and the model gets 0 to 255.",
            line_of(subject.plugin, "normalization"),
        )
    if subject.info.recipe:
        resolve_groups(resolve_recipe(OWN, {}, subject.info.recipe).groups, subject.original)


def _rescales(model: keras.Model) -> bool:
    """Return whether a layer scales images; one that scales logits is as good as any."""
    layers_ = [each for each in model._flatten_layers() if isinstance(each, keras.layers.Rescaling)]
    inputs = [getattr(each, "input", None) for each in layers_]
    return any(each is not None and each.shape == model.inputs[0].shape for each in inputs)


def _parameter_counts(subject: Subject) -> Found:
    default = f"{size_text(subject.shape)}/{CLASSES}"
    for key, count in subject.info.trainable_params.items():
        shape, classes, parameters = parse_count_key(key, subject.real)
        known = key == default and parameters == subject.real
        model = subject.original if known else subject.build(shape, classes, parameters)
        found = parameter_counts(model)[1]
        if found != count:
            yield Finding(
                f"{key} has {found:,} trainable parameters, INFO.trainable_params says {count:,}.",
                "Where the number is the paper's, a bias, a shortcut or a batch norm is too many or too few.",
                line_of(subject.plugin, "trainable_params"),
            )
    if not subject.info.trainable_params:
        yield f"{parameter_counts(subject.original)[1]:,} at {default}; INFO.trainable_params names none to hold it to"


def _sizes(subject: Subject) -> Found:
    least = subject.info.min_size
    odd = max(least, 20) // 2 * 2 + 1
    for side, classes in ((max(28, least), 2), (least, 100)):  # three channels: below, and at the usual size before
        yield from _answers(subject, (side, side, 1), classes)
    try:
        yield from _answers(subject, (odd, odd, 3), 2)
    except FindingError as error:
        if not _is_refusal(error.__cause__, subject.plugin.path):
            raise
        yield f"refuses images of {odd}x{odd}"


def _is_refusal(error: BaseException | None, path: Path) -> bool:
    """Return whether the architecture itself says what it does not take; Keras's ValueErrors come from deeper down."""
    if not isinstance(error, ValueError):
        return False
    origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return path == origin or Path(layers.__file__).parent in origin.parents


def _answers(subject: Subject, shape: ImageShape, classes: int) -> Found:
    answers = subject.logits(subject.build(shape, classes), shape)
    if answers.shape != (2, classes):
        yield Finding(
            f"two images of {size_text(shape)} gave logits of shape {answers.shape}, expected (2, {classes}).",
            "Let no layer mix or reorder the images of a batch.",
        )


def _precision(subject: Subject) -> Found:
    dtype = keras.backend.standardize_dtype(subject.same_seed.outputs[0].dtype)
    if dtype not in HALF:
        yield Finding(f"under mixed_float16 the logits are {dtype}, expected float16 or float32.")
    subject.logits(subject.other_seed, subject.shape)


def _seed(subject: Subject) -> Found:
    first, again, other = (each.get_weights() for each in (subject.model, subject.same_seed, subject.other_seed))
    if not all(map(np.array_equal, first, again)):
        yield Finding(
            "the same seed gives other weights.",
            "Draw them with Keras's initializers, which follow keras.utils.set_random_seed, and leave time and order "
            "of sets out of it.",
        )
    if all(map(np.array_equal, first, other)):
        yield Finding("another seed gives the same weights.", "Leave `seed=` of the initializers away.")


def _adapt(subject: Subject) -> Found:
    images = subject.images(subject.shape, 64)
    try:
        subject.module.adapt(subject.model, images)
    except Exception as error:
        raise FindingError(raised(error, subject.plugin.path, "`adapt` for 64 images")) from error
    if not all(np.isfinite(each).all() for each in subject.model.get_weights()):
        yield Finding("after `adapt` for 64 images, weights are not finite.", "Guard divisions with a small epsilon.")


def _gradients(subject: Subject) -> Found:
    variables = subject.model.trainable_variables
    before = [np.array(keras.ops.convert_to_numpy(each)) for each in variables]
    subject.steps.train(subject.steps.place(subject.block)).result()
    subject.steps.finish()
    unreached = [
        variable.path
        for variable, old in zip(variables, before, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(variable), old)
    ]
    if unreached:
        more = f" and {len(unreached) - MOST_NAMED} more" if len(unreached) > MOST_NAMED else ""
        yield Finding(
            f"the first step leaves trainable weights as they are: {', '.join(unreached[:MOST_NAMED])}{more}.",
            "Is a layer not connected, a branch multiplied by zero, or a ReLU dead from the start?",
        )


def _training(subject: Subject) -> Found:
    losses = []
    for _ in range(STEPS):
        step, _ = subject.steps.train(subject.steps.place(subject.block)).result()
        losses += step.tolist()
    subject.steps.finish()
    if not losses[-1] < LOWER * losses[0]:
        yield Finding(
            f"{STEPS} steps of AdamW at rate 0.001 on {BATCH} images brought the loss from {losses[0]:.3f} to "
            f"{losses[-1]:.3f}, expected {1 - LOWER:.0%} less at least.",
            "Look at the initialisation, and for a missing normalisation or shortcut.",
        )


def _saving(subject: Subject) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        try:
            subject.model.save(path)
            loaded = keras.models.load_model(path)
        except Exception as error:
            raise FindingError(
                Finding(
                    raised(error, subject.plugin.path, "saving and loading the model").message,
                    "Layers of your own need @keras.saving.register_keras_serializable() and get_config(); a Lambda "
                    "layer cannot be loaded.",
                )
            ) from error
    expected, got = (subject.logits(each, subject.shape) for each in (subject.model, loaded))
    if not np.allclose(got, expected, rtol=1e-4, atol=1e-5):
        yield Finding(
            "a saved and loaded model gives other logits.",
            "Return all that makes a layer of your own in get_config(), and make its weights in build().",
        )


CHECKS: Mapping[str, Callable[[Subject], Found]] = {
    "build": _build,
    "parameter count": _parameter_counts,
    "sizes, channels, classes": _sizes,
    "mixed precision": _precision,
    "seed": _seed,
    "adapt": _adapt,
    "gradients": _gradients,
    "training": _training,
    "saving": _saving,
}


def _optimize_graphs(wanted: bool) -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not wanted})
