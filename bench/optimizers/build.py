"""From a recipe to the optimizer of a model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import keras

from bench.groups import Weight, resolve_groups
from bench.optimizers.lamb import Lamb
from bench.optimizers.muon import Muon, muon_matrices
from bench.optimizers.weighted import Adam, Lion, PerWeight, Sgd
from bench.recipes import Recipe

OWN = {"sgd": Sgd, "adam": Adam, "adamw": Adam, "lion": Lion, "lamb": Lamb, "muon": Muon}
KERAS = {
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.Adam,  # with `weight_decay`, which Keras's AdamW would want even where it is 0
    "lion": keras.optimizers.Lion,
}
OPTIONS = {
    "sgd": ("momentum", "nesterov"),
    "adam": ("beta_1", "beta_2", "epsilon"),
    "adamw": ("beta_1", "beta_2", "epsilon"),
    "lion": ("beta_1", "beta_2"),
    "lamb": ("beta_1", "beta_2", "epsilon"),
    "muon": ("momentum", "beta_1", "beta_2", "epsilon"),
}


def build_optimizer(recipe: Recipe, model: keras.Model, rate: Any, precision: str) -> Any:
    """Return the recipe's optimizer of a model's trainable variables, with loss scaling under `mixed_float16`.

    Args:
        recipe: names the optimizer, its settings, and the groups of weights.
        model: what is to be trained. Its trainable variables must not change after this.
        rate: the learning rate, a float or one of Keras's schedules.
        precision: Keras's policy.

    Raises:
        UsageError: a group of the recipe matches none of the model's weights.

    """
    weights = resolve_groups(recipe.groups, model)
    options = {key: getattr(recipe, key) for key in OPTIONS[recipe.optimizer]}
    options["global_clipnorm"] = recipe.clip_norm or None
    if recipe.optimizer in KERAS and _are_alike(weights, recipe.weight_decay):
        optimizer = KERAS[recipe.optimizer](rate, weight_decay=recipe.weight_decay or None, **options)
        variables = model.trainable_variables
        optimizer.exclude_from_weight_decay(var_list=[variables[each.index] for each in weights if not each.decay])
    else:
        if recipe.optimizer == "muon":
            options["matrices"] = muon_matrices(model)
        optimizer = OWN[recipe.optimizer](rate, weights, recipe.weight_decay, **options)
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


def train_only(optimizer: Any, trained: Collection[int]) -> None:
    """Freeze all weights but those of these indices, for steps that are traced from now on.

    Args:
        optimizer: what `build_optimizer` gave.
        trained: indices of the model's trainable variables, as `bench.groups.phases` gives them.

    Raises:
        ValueError: the recipe freezes no weights, so that this optimizer trains all of them.

    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(inner, PerWeight):
        inner.trained = frozenset(trained)
    elif len(set(trained)) < len(inner._trainable_variables):
        raise ValueError("Keras's own optimizer freezes nothing; the recipe's groups say which weights are frozen")


def _are_alike(weights: Sequence[Weight], weight_decay: float) -> bool:
    """Return whether Keras's own optimizer does: one rate for all, nothing frozen, and decay fully or not at all."""
    return all(
        each.rate == 1 and each.is_always_trained and (not weight_decay or each.decay in (0, 1)) for each in weights
    )
