from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.recipes import RECIPES, recipe_label, resolve_recipe


def test_the_document_recipe_is_the_documents():
    recipe = RECIPES["document"]
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum, recipe.epochs, recipe.batch_size) == (
        "sgd",
        0.001,
        0.9,
        10,
        32,
    )
    assert recipe.normalization == "symmetric"
    absent = ("flip", "crop_padding", "validation_fraction", "drop_remainder", "l2", "weight_decay", "label_smoothing")
    assert not any(getattr(recipe, key) for key in (*absent, "clip_norm", "warmup"))


def test_the_methodology_describes_the_standard_recipe_as_it_is():
    text = (Path(__file__).resolve().parent.parent / "docs" / "methodology.md").read_text()
    recipe = RECIPES["standard"]
    for cell in (
        f"| epochs | {recipe.epochs}, or more until {recipe.min_steps:,} steps |",
        f"| batch size | {recipe.batch_size}, ",
        f"| AdamW, weight decay {recipe.weight_decay} on kernels and matrices |",
        f"| {recipe.learning_rate}, {recipe.warmup:.0%} of the steps warm-up, then cosine to 0 |".replace("%", " %"),
        f"| gradient clipping | global norm {recipe.clip_norm:.0f} |",
        f"| {recipe.validation_fraction:.0%} of the training images |".replace("%", " %"),
    ):
        assert cell in text
    assert recipe.label_smoothing == 0
    assert recipe.crop_padding == 1 / 8


def test_small_sets_train_for_a_least_number_of_steps():
    recipe = resolve_recipe("standard", {"min_steps": 1_000, "batch_size": 100})
    assert recipe.total_epochs(1_050) == 100
    assert recipe.total_epochs(1_000_000) == recipe.epochs


def test_epochs_alone_mean_just_so_many():
    recipe = resolve_recipe("standard", {"epochs": 3})
    assert recipe.total_epochs(200) == 3
    assert recipe_label(recipe) == "standard:epochs=3,min_steps=0"


def test_the_last_smaller_batch_counts_unless_dropped():
    assert resolve_recipe("document", {}).steps_per_epoch(50_000) == 1_563
    assert resolve_recipe("document", {"drop_remainder": True}).steps_per_epoch(50_000) == 1_562


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("standart", {}, "unknown recipe 'standart'. Did you mean standard"),
        ("standard", {"lr": 0.1}, "recipe standard has no parameter 'lr'. It has: epochs=.*learning_rate="),
        ("standard", {"epochs": 0}, "epochs must be at least 1; got 0"),
        ("standard", {"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ("standard", {"epochs": 1.5}, "epochs must be a whole number"),
        ("standard", {"learning_rate": 0.0}, "learning_rate must be above 0"),
        ("standard", {"learning_rate": float("nan")}, "learning_rate must be .* a finite number"),
        ("standard", {"label_smoothing": 1.0}, "label_smoothing must be from 0 to below 1"),
        ("standard", {"optimizer": "adam"}, "optimizer must be one of sgd, adamw; got 'adam'"),
        ("standard", {"optimizer": "sgd"}, "weight_decay is AdamW's; with optimizer='sgd' set weight_decay=0.0"),
        ("standard", {"momentum": 0.8}, "momentum is SGD's, and AdamW has none"),
        ("standard", {"schedule": "step"}, "schedule must be one of constant, cosine"),
    ],
)
def test_bad_overrides_are_refused(name, overrides, message):
    with pytest.raises(UsageError, match=message):
        resolve_recipe(name, overrides)
