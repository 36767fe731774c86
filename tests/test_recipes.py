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
        ("standard", {"learning_rate": float("nan")}, "learning_rate must be above 0"),
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
