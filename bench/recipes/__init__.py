"""How to train. Recipes are files: those that ship lie beside this module, and a user's own are named by their path.

A recipe is plain data (`recipe`); overrides make a new one (`library`), and all of it is part of a trial's identity.
docs/recipes.md describes every key.
"""

from bench.recipes.library import OWN, RECIPES, SHIPPED, recipe_label, resolve_recipe
from bench.recipes.recipe import CHOICES, KEYS, RANGES, Group, Recipe, make_recipe

__all__ = [
    "CHOICES",
    "KEYS",
    "OWN",
    "RANGES",
    "RECIPES",
    "SHIPPED",
    "Group",
    "Recipe",
    "make_recipe",
    "recipe_label",
    "resolve_recipe",
]
