"""Builds an architecture's model, and holds it against the interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from bench.api import ImageShape, Splits
from bench.backends.interface import Steps
from bench.data.pipeline import batches
from bench.data.splits import everything
from bench.errors import BadModelError, PluginError, is_out_of_memory
from bench.evaluation import predict
from bench.plugins import Plugin, load_module
from bench.spec import TrialSpec


def build_model(
    plugin: Plugin,
    spec: TrialSpec,
    shape: ImageShape,
    classes: int,
    images: Callable[[], npt.NDArray[np.float32]] | None = None,
) -> keras.Model:
    """Call the architecture's `build`, and hold what it returns against the interface; then its `adapt`, if it has one.

    Args:
        plugin: the architecture.
        spec: has its parameters.
        shape: of an image.
        classes: how many there are.
        images: returns training images for `adapt`, float32 (N, *shape); None leaves it out.

    Raises:
        BadModelError: the file cannot be imported, or `build` raised, or did not return a model with a logit a class.
        Exception: out of memory: the model does not fit into memory.

    """
    try:
        module = load_module(plugin)
    except PluginError as error:
        raise BadModelError(str(error)) from error
    with _told(plugin, "build"):
        model = module.build(shape, classes, **spec.architecture.parameters)
    _check(plugin, model, classes)
    if images is not None and "adapt" in plugin.functions:
        with _told(plugin, "adapt"):
            module.adapt(model, images())
    return model


@contextmanager
def _told(plugin: Plugin, function: str) -> Iterator[None]:
    """Say of an error which function of which file raised it; out of memory is not the file's fault."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(type(error).__name__, str(error)):
            raise
        raise BadModelError(f"{plugin.path}: `{function}` raised {type(error).__name__}: {error}") from error


def _check(plugin: Plugin, model: object, classes: int) -> None:
    if not isinstance(model, keras.Model):
        raise BadModelError(f"{plugin.path}: `build` must return a keras.Model, got {type(model).__name__}.")
    outputs = getattr(model, "output_shape", None)
    if outputs != (None, classes):
        raise BadModelError(
            f"{plugin.path}: the model's output must have shape (None, {classes}), one logit a class, got {outputs}. "
            "End it with keras.layers.Dense(num_classes)."
        )


def check_outputs(steps: Steps, splits: Splits, shape: ImageShape, path: Path) -> None:
    """Look at the untrained model's answers to some training images.

    Raises:
        BadModelError: they are probabilities where logits are due.

    """
    images = next(batches(everything(splits.train), shape, 8))
    outputs = predict(steps, images)
    if (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=0.02):
        raise BadModelError(
            f"{path}: the model's outputs are probabilities (they are positive and sum to 1), logits "
            "are due. Remove the softmax: leave `activation` of the last layer away; the loss applies it."
        )
