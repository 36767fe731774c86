"""How to train. Two recipes ship: `standard`, for every architecture, and `document`, the introductory text's own.

A recipe is plain data. Overrides make a new one, and the fully resolved recipe is part of a trial's identity.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import UsageError, unknown_name
from bench.literals import format_reference, replace_defaults


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train.

    Attributes:
        epochs: passes over the training images.
        min_steps: least number of steps; on small sets it raises the number of epochs. `--epochs` sets it to 0.
        batch_size: images a step.
        drop_remainder: leave out the last, smaller batch of an epoch (other images each epoch, as they are shuffled).
        optimizer: `sgd` or `adamw`.
        learning_rate: at its highest point.
        momentum: of SGD.
        nesterov: whether SGD looks ahead.
        weight_decay: AdamW's decoupled decay, scaled by the learning rate (Loshchilov and Hutter 2019), of matrices and
            kernels; biases and normalisation scales are left alone.
        l2: L2 penalty l2/2·|w|² on matrices and kernels, so its gradient is l2·w, as published SGD recipes mean it.
        schedule: `constant`, or `cosine` to zero.
        warmup: fraction of all steps over which the learning rate rises linearly from zero.
        clip_norm: the gradient's greatest global norm; 0 leaves it alone.
        label_smoothing: mixture weight of the uniform distribution in the targets.
        normalization: `symmetric` maps 0..255 to [-1, 1]; `standardize` subtracts the training images' channel means
            and divides by their standard deviations.
        crop_padding: random crops after padding each side by this fraction of the image's size (0.125: 4 pixels of 32).
        flip: mirror half of the images, on data sets whose labels allow it.
        validation_fraction: share of the training images held out for validation, stratified, drawn by the seed; a
            data set's own validation split is used instead where there is one. 0 trains on everything.

    """

    name: str
    epochs: int
    min_steps: int = 0
    batch_size: int
    drop_remainder: bool = True
    optimizer: str
    learning_rate: float
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    l2: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    clip_norm: float = 0.0
    label_smoothing: float = 0.0
    normalization: str = "standardize"
    crop_padding: float = 0.0
    flip: bool = False
    validation_fraction: float = 0.0

    def steps_per_epoch(self, images: int) -> int:
        """Return the steps of one epoch over that many images."""
        return images // self.batch_size if self.drop_remainder else math.ceil(images / self.batch_size)

    def total_epochs(self, images: int) -> int:
        """Return the epochs to train: `epochs`, or more where `min_steps` asks for them."""
        return max(self.epochs, math.ceil(self.min_steps / self.steps_per_epoch(images)))


RECIPES: Mapping[str, Recipe] = {
    "standard": Recipe(
        name="standard",
        epochs=10,
        min_steps=1_000,
        batch_size=128,
        optimizer="adamw",
        learning_rate=3e-3,
        weight_decay=0.05,
        schedule="cosine",
        warmup=0.1,
        clip_norm=1.0,
        crop_padding=0.125,
        flip=True,
        validation_fraction=0.1,
    ),
    "document": Recipe(
        name="document",
        epochs=10,
        batch_size=32,
        drop_remainder=False,
        optimizer="sgd",
        learning_rate=1e-3,
        normalization="symmetric",
    ),
}

CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("constant", "cosine"),
    "normalization": ("symmetric", "standardize"),
}

RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (lambda value: value >= 1, "at least 1"),
    "min_steps": (lambda value: value >= 0, "at least 0"),
    "batch_size": (lambda value: value >= 1, "at least 1"),
    "learning_rate": (lambda value: 0 < value < math.inf, "above 0"),
    "momentum": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "weight_decay": (lambda value: 0 <= value < math.inf, "at least 0"),
    "l2": (lambda value: 0 <= value < math.inf, "at least 0"),
    "warmup": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "clip_norm": (lambda value: 0 <= value < math.inf, "at least 0"),
    "label_smoothing": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "crop_padding": (lambda value: 0 <= value < 1, "from 0 to below 1"),
    "validation_fraction": (lambda value: 0 <= value < 1, "from 0 to below 1"),
}


def resolve_recipe(name: str, overrides: Mapping[str, Any]) -> Recipe:
    """Return the recipe of that name with the overrides applied.

    An override of `epochs` alone means just so many epochs: it also sets `min_steps` to 0.

    Raises:
        UsageError: no such recipe or key, or a value of the wrong type or out of range.

    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    if "epochs" in overrides:
        overrides = {"min_steps": 0, **overrides}
    fields = dataclasses.asdict(RECIPES[name])
    fields.pop("name")
    optimizer = overrides.get("optimizer", fields["optimizer"])
    for key in ("momentum", "nesterov"):
        if key in overrides and optimizer == "adamw":
            raise UsageError(f"recipe {name}: {key} is SGD's, and AdamW has none; set optimizer='sgd' with it.")
    recipe = Recipe(name=name, **replace_defaults(fields, overrides, f"recipe {name}"))
    _check(recipe)
    return recipe


def recipe_label(recipe: Recipe) -> str:
    """Return the recipe's name with what was overridden: `standard:epochs=5,min_steps=0`."""
    fields, base = dataclasses.asdict(recipe), dataclasses.asdict(RECIPES[recipe.name])
    return format_reference(recipe.name, fields, base)


def _check(recipe: Recipe) -> None:
    for key, allowed in CHOICES.items():
        if getattr(recipe, key) not in allowed:
            raise UsageError(f"recipe: {key} must be one of {', '.join(allowed)}; got {getattr(recipe, key)!r}.")
    if recipe.optimizer == "sgd" and recipe.weight_decay:
        raise UsageError(
            f"recipe: weight_decay is AdamW's; with optimizer='sgd' set weight_decay=0.0, and l2 for a penalty; "
            f"got weight_decay={recipe.weight_decay}."
        )
    for key, (accepts, expected) in RANGES.items():
        if not accepts(getattr(recipe, key)):
            raise UsageError(f"recipe: {key} must be {expected}; got {getattr(recipe, key)!r}.")
