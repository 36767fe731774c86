"""The recipes there are: those that ship, an architecture's own, and files that users write."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import UsageError, unknown_name
from bench.literals import expanded, format_reference
from bench.recipes.recipe import KEYS, Group, Recipe, make_recipe

OWN = "own"
SUFFIX = ".toml"
LARGEST_FILE = 2**20
LARGEST_WHOLE = 2**53
LENGTHS: Mapping[str, Mapping[str, Any]] = {
    "epochs": {"min_steps": 0, "budget_flops": 0.0},
    "budget_flops": {"min_steps": 0},
}
"""What saying a training's length in one way sets of the others."""


def _shipped() -> dict[str, Mapping[str, Any]]:
    """Return what the files beside this module say, `standard`, the default, first."""
    files = {path.stem: path for path in Path(__file__).parent.glob(f"*{SUFFIX}")}
    names = sorted(files, key=lambda name: (name != "standard", name))
    return {name: tomllib.loads(files[name].read_text()) for name in names}


RECIPES: Mapping[str, Recipe] = {
    name: dataclasses.replace(make_recipe(name, values, f"recipe {name}"), label=name)
    for name, values in _shipped().items()
}
SHIPPED = (*RECIPES, OWN)
"""The names that need no file: `own` is what an architecture's file says its paper did."""


def resolve_recipe(name: str, overrides: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of that name with the overrides applied.

    An override of `epochs` or `budget_flops` alone means just that: it also sets `min_steps` to 0, and that of `epochs`
    a budget. So it does in a file that extends another recipe.

    Args:
        name: of a recipe that ships, `own`, or the path of a TOML file.
        overrides: keys with other values.
        own: what the architecture says of its own recipe; None only checks the overrides of `own`.

    Raises:
        UsageError: no such recipe or key, or a value of the wrong type or out of range.

    """
    overrides = _with_length(overrides)
    base = _base(name, own)
    values = {key: getattr(base, key) for key in KEYS}
    recipe = make_recipe(base.name, {**values, **overrides}, f"recipe {base.name}", said=overrides)
    label = _own_label(overrides) if base.name == OWN else _label(recipe, base)
    return dataclasses.replace(recipe, label=label)


def recipe_label(recipe: Recipe) -> str:
    """Return the recipe's name with what was overridden: `standard:epochs=5,min_steps=0`."""
    if recipe.label:
        return recipe.label
    base = RECIPES.get(recipe.name)  # a record of before there were labels
    return recipe.name if base is None else _label(recipe, base)


def _with_length(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is said, and what it means for the other ways to say how long a training is."""
    for key in filter(said.__contains__, LENGTHS):
        said = {**LENGTHS[key], **said}
    return said


def _own_label(overrides: Mapping[str, Any]) -> str:
    """Return the label of architectures' own recipes, which is the same for all, whatever each has overridden."""
    return format_reference(OWN, {key: _short(value) for key, value in overrides.items()}, LENGTHS["epochs"])


def _label(recipe: Recipe, base: Recipe) -> str:
    fields, before = ({key: _short(getattr(each, key)) for key in KEYS} for each in (recipe, base))
    return format_reference(recipe.name, fields, before)


def _short(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_short(each) for each in value]
    if isinstance(value, Group):
        return {
            item.name: _short(said)
            for item in dataclasses.fields(Group)
            if (said := getattr(value, item.name)) != item.default
        }
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_WHOLE else value


def _base(name: str, own: Mapping[str, Any] | None) -> Recipe:
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith(SUFFIX):
        return _read(expanded(name))
    if name != OWN:
        error = unknown_name("recipe", name, SHIPPED)
        raise UsageError(f"{error} A file of your own is named by its path, which ends in {SUFFIX}.")
    if own is None:
        return dataclasses.replace(RECIPES["standard"], name=OWN)
    if not own:
        raise UsageError("recipe own: the file of this architecture does not say how its paper trains (INFO.recipe).")
    return make_recipe(OWN, own, "recipe own")


def _read(path: Path) -> Recipe:
    """Return the recipe in a file; `extends` names one that ships, whose values it begins with."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{path} is too large for a recipe: more than {LARGEST_FILE:,} bytes.")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"recipe {path} cannot be read: {error.strerror}. Shipped recipes: {', '.join(SHIPPED)}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"recipe {path} is no TOML: {error}") from None
    extended = values.pop("extends", None)
    base: Mapping[str, Any] = {}
    if extended is not None:
        if not isinstance(extended, str) or extended not in RECIPES:
            raise UsageError(f"{path}: extends must be one of {', '.join(RECIPES)}; got {extended!r}.")
        base = {key: getattr(RECIPES[extended], key) for key in KEYS}
        values = dict(_with_length(values))
    if path.stem in SHIPPED:
        raise UsageError(f"{path}: the name {path.stem!r} is that of a recipe that ships. Give the file another one.")
    recipe = make_recipe(path.stem, {**base, **values}, str(path), said=values)
    return dataclasses.replace(recipe, label=path.stem)
