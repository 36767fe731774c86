"""An architecture under examination: its models, and what they answer and learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from bench.api import ImageShape
from bench.backends.interface import Normalization, Objective, Steps, Task, load_backend
from bench.contract.findings import Finding, FindingError, raised
from bench.data.pipeline import Block
from bench.environment import Device
from bench.optimizers import build_optimizer
from bench.plugins import PluginChoice, load_module
from bench.recipes import resolve_recipe

SIDE = 32  # of the images that most checks use, where the architecture takes so small ones
CLASSES = 10
BATCH = 8


class Subject:
    """An architecture under examination, and its models that several checks look at."""

    def __init__(self, choice: PluginChoice) -> None:
        self.plugin, self.info = choice.plugin, choice.plugin.info
        needs = self.info.argument and not choice.parameters[self.info.argument]
        self.quick: Mapping[str, Any] = {**choice.parameters, **_unchanged(choice, self.info.quick)}
        self.real: Mapping[str, Any] = self.quick if needs else choice.parameters
        side = max(SIDE, self.info.min_size)
        self.shape: ImageShape = (side, side, 3)

    @cached_property
    def module(self) -> Any:
        """The plugin, executed."""
        return load_module(self.plugin)

    @cached_property
    def model(self) -> keras.Model:
        """The quick network, which is trained."""
        return self.build(self.shape, CLASSES, seed=1)

    @cached_property
    def original(self) -> keras.Model:
        """The network at its real size."""
        return self.model if self.real == self.quick else self.build(self.shape, CLASSES, self.real)

    @cached_property
    def same_seed(self) -> keras.Model:
        """The quick network with the same seed, to compute in float16; its weights are float32 all the same."""
        with _policy("mixed_float16"):
            return self.build(self.shape, CLASSES, seed=1)

    @cached_property
    def other_seed(self) -> keras.Model:
        """The quick network with another seed, to compute in bfloat16."""
        with _policy("mixed_bfloat16"):
            return self.build(self.shape, CLASSES, seed=2)

    @cached_property
    def steps(self) -> Steps:
        """The compiled training of the quick network: AdamW without decay, so that only gradients change weights."""
        changes = {"optimizer": "adamw", "learning_rate": 1e-3, "schedule": "constant", "warmup": 0.0}
        recipe = resolve_recipe("standard", {**changes, "weight_decay": 0.0, "l2": 0.0, "clip_norm": 0.0})
        pixels = self.info.normalization == "pixels"
        scale = Normalization((1.0 if pixels else 1 / 128,) * 3, (0.0 if pixels else -1.0,) * 3)
        optimizer = build_optimizer(recipe, self.model, recipe.learning_rate, "float32")
        backend = load_backend(keras.backend.backend())
        tuning = backend.tune(Device("CPU", "a processor"), 1)
        return backend.compile_steps(self.model, optimizer, Task(self.shape, scale, Objective()), tuning)

    @cached_property
    def block(self) -> Block:
        """One batch for one step."""
        return Block(_pixels(self.shape, BATCH)[None], np.arange(BATCH, dtype=np.int32)[None] % CLASSES)

    def build(
        self, shape: ImageShape, classes: int, parameters: Mapping[str, Any] | None = None, seed: int = 0
    ) -> keras.Model:
        """Build a model, the quick one unless told, and hold it against the interface.

        Raises:
            FindingError: `build` raised, or returned something else than a model with a logit a class.

        """
        keras.utils.set_random_seed(seed)
        doing = f"`build` for images of {size_text(shape)} and {classes} classes"
        try:
            model = self.module.build(shape, classes, **(self.quick if parameters is None else parameters))
        except Exception as error:
            raise FindingError(raised(error, self.plugin.path, doing)) from error
        if not isinstance(model, keras.Model):
            raise FindingError(Finding(f"{doing} must return a keras.Model, got {type(model).__name__}."))
        if getattr(model, "output_shape", None) != (None, classes):
            raise FindingError(
                Finding(
                    f"{doing}: the output must have shape (None, {classes}), one logit a class, got "
                    f"{getattr(model, 'output_shape', None)}.",
                    "End the model with keras.layers.Dense(num_classes).",
                )
            )
        return model

    def images(self, shape: ImageShape, number: int = 2) -> npt.NDArray[np.float32]:
        """Return images as the model takes them, float32 (number, *shape)."""
        pixels = _pixels(shape, number).astype(np.float32)
        return pixels if self.info.normalization == "pixels" else pixels / np.float32(128) - np.float32(1)

    def logits(self, model: keras.Model, shape: ImageShape) -> npt.NDArray[np.float32]:
        """Return the model's answers to two images, float32 (2, classes).

        Raises:
            FindingError: they are not finite.

        """
        images = keras.ops.convert_to_tensor(self.images(shape))
        # JAX would compile every operation by itself.
        call = load_backend("jax").compile_function(model) if keras.backend.backend() == "jax" else model
        answers = keras.ops.convert_to_numpy(keras.ops.cast(call(images), "float32"))
        if not np.isfinite(answers).all():
            raise FindingError(
                Finding(
                    f"logits for images of {size_text(shape)} under {model.dtype_policy.name} are not finite.",
                    "Look for divisions by zero, logarithms, and values too large for the precision.",
                )
            )
        return np.asarray(answers, np.float32)


@contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _unchanged(choice: PluginChoice, quick: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what of `INFO.quick` the user has not set otherwise."""
    defaults = choice.plugin.parameters
    return {key: value for key, value in quick.items() if choice.parameters[key] == defaults[key]}


def _pixels(shape: ImageShape, number: int) -> npt.NDArray[np.uint8]:
    """Return noise under a colour of each image's own, which averaging over positions leaves, too."""
    random = np.random.default_rng(0)
    colours = random.integers(0, 128, (number, 1, 1, shape[2]))
    return (colours + random.integers(0, 128, (number, *shape))).astype(np.uint8)


def size_text(shape: ImageShape) -> str:
    """Return a shape as people write it: 28x28x1."""
    return "x".join(map(str, shape))
