import dataclasses
import json
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.recipes import RECIPES, Group, Recipe, recipe_label, resolve_recipe


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
        f"| epochs | {recipe.epochs:g}, or more until {recipe.min_steps:,} steps |",
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
    assert recipe.total_steps(1_050) == 1_000
    assert recipe.total_steps(1_000_000) == recipe.epochs * 10_000


def test_epochs_alone_mean_just_so_many():
    recipe = resolve_recipe("standard", {"epochs": 3})
    assert recipe.total_steps(200) == 3
    assert recipe_label(recipe) == "standard:epochs=3,min_steps=0"


def test_the_last_smaller_batch_counts_unless_dropped():
    assert resolve_recipe("document", {}).steps_per_epoch(50_000) == 1_563
    assert resolve_recipe("document", {"drop_remainder": True}).steps_per_epoch(50_000) == 1_562


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("standart", {}, "unknown recipe 'standart'. Did you mean standard"),
        ("standard", {"lr": 0.1}, "recipe standard: unknown key of a recipe 'lr'.*Available: .*learning_rate"),
        ("standard", {"epochs": 0}, "epochs must be above 0 and at most 1,000,000; got 0"),
        ("standard", {"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ("standard", {"epochs": "ten"}, "epochs must be a number"),
        ("standard", {"batch_size": 1.5}, "batch_size must be a whole number"),
        ("standard", {"learning_rate": 0.0}, "learning_rate must be above 0"),
        ("standard", {"learning_rate": float("nan")}, "learning_rate must be .* a finite number"),
        ("standard", {"label_smoothing": 1.0}, "label_smoothing must be from 0 to below 1"),
        ("standard", {"optimizer": "adagrad"}, "optimizer must be one of sgd, adam, adamw, .*; got 'adagrad'"),
        (
            "standard",
            {"optimizer": "sgd"},
            "weight_decay is decoupled decay.*with optimizer='sgd' set weight_decay=0.0",
        ),
        (
            "standard",
            {"momentum": 0.8},
            "momentum means something with optimizer sgd or muon alone; optimizer is 'adamw'",
        ),
        ("standard", {"optimizer": "adam"}, "which is none of adam's; with optimizer='adam' set weight_decay=0.0"),
        ("standard", {"epochs": 1e308}, "epochs must be above 0 and at most 1,000,000; got 1e"),
        ("standard", {"budget_flops": 1e30}, "budget_flops must be from 0 to 1e27"),
        ("document", {"flip_alternates": True}, "flip_alternates means something with flip alone, which is off"),
        ("document", {"crop_fill": "reflect"}, "crop_fill means something with crop_padding alone, which is off"),
        ("~no_such_user/my.toml", {}, "no_such_user/my.toml: there is no such user here, or none with a home"),
        ("standard", {"schedule": "step"}, "schedule must be one of constant, multistep, cosine, onecycle, triangular"),
    ],
)
def test_bad_overrides_are_refused(name, overrides, message):
    with pytest.raises(UsageError, match=message):
        resolve_recipe(name, overrides)


def test_epochs_need_not_be_whole():
    assert resolve_recipe("fast", {}).total_steps(50_000) == 476  # 48 steps an epoch, 9.9 epochs
    assert recipe_label(resolve_recipe("fast", {"epochs": 0.5})) == "fast:epochs=0.5"


def test_a_budget_in_flops_fits_the_steps_to_the_model():
    recipe = resolve_recipe("standard", {"budget_flops": 6e12})
    assert recipe.total_steps(45_000, macs=10**7) == int(6e12 / (6 * 10**7 * 128))
    assert recipe.total_steps(45_000, macs=10**12) == 1
    with pytest.raises(ValueError, match="multiply-adds of this model are not known"):
        recipe.total_steps(45_000)


def test_epochs_take_the_place_of_a_files_budget(tmp_path):
    path = write(tmp_path, 'extends = "standard"\nbudget_flops = 1e15\n')
    assert resolve_recipe(path, {}).budget_flops == 1e15
    recipe = resolve_recipe(path, {"epochs": 3})
    assert (recipe.total_steps(12_800), recipe.budget_flops) == (300, 0)


def test_epochs_in_a_file_mean_just_so_many(tmp_path):
    recipe = resolve_recipe(write(tmp_path, 'extends = "standard"\nepochs = 3\n'), {})
    assert recipe.total_steps(200) == 3
    longer = resolve_recipe(write(tmp_path, 'extends = "standard"\nepochs = 3\nmin_steps = 50\n'), {})
    assert longer.total_steps(200) == 50


def test_groups_are_labelled_as_they_are_written():
    recipe = resolve_recipe("document", {"groups": [{"match": "head", "rate": 10}]})
    assert recipe.label == "document:groups=[{match='head',rate=10}]"


OWN = {"epochs": 200, "batch_size": 128, "optimizer": "sgd", "learning_rate": 0.1, "milestones": [0.5, 0.75]}


def test_an_architectures_own_recipe_is_what_its_file_says():
    recipe = resolve_recipe("own", {"epochs": 5}, {**OWN, "schedule": "multistep"})
    assert (recipe.milestones, recipe.label, recipe.learning_rate) == ((0.5, 0.75), "own:epochs=5", 0.1)
    with pytest.raises(UsageError, match="does not say how its paper trains"):
        resolve_recipe("own", {}, {})
    with pytest.raises(UsageError, match="recipe own: batch_size is missing"):
        resolve_recipe("own", {}, {"epochs": 1})


def write(folder, text, name="mine.toml"):
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_file_is_a_recipe_that_may_extend_one_that_ships(tmp_path):
    path = write(tmp_path, 'extends = "standard"\nlabel_smoothing = 0.1\n[[groups]]\nmatch = "head"\nrate = 10\n')
    recipe = resolve_recipe(path, {"epochs": 3})
    assert (recipe.name, recipe.label) == ("mine", "mine:epochs=3,min_steps=0")
    assert (recipe.label_smoothing, recipe.batch_size) == (0.1, RECIPES["standard"].batch_size)
    assert recipe.groups == (Group(match="head", rate=10.0),)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "is no TOML"),
        ('extends = "standart"', "extends must be one of standard, .*; got 'standart'"),
        ('extends = ["standard"]', r"extends must be one of standard, .*; got \['standard'\]"),
        (
            'extends = "standard"\nlearnin_rate = 1',
            "unknown key of a recipe 'learnin_rate'. Did you mean learning_rate",
        ),
        ("epochs = 3", "batch_size is missing. A recipe says at least epochs, batch_size, optimizer, learning_rate"),
        ('extends = "standard"\nepochs = -1', "epochs must be above 0 and at most 1,000,000; got -1"),
        ('extends = "standard"\nschedule = "multistep"', "'multistep' needs milestones"),
        ('extends = "standard"\nschedule = "multistep"\nmilestones = [0.7, 0.5]', "ascending fractions"),
        ('extends = "standard"\naverage = "ema"', "needs an average_decay, such as 0.999"),
        ('extends = "standard"\nmilestones = [0.5]', "milestones means something with schedule multistep alone"),
        ('extends = "standard"\ngroups = 3', "groups must be a list of tables; got 3"),
        ('extends = "standard"\n[[groups]]\nrate = 3', "group 1 must be a table with a match"),
        ('extends = "standard"\n[[groups]]\nmatch = "*"\nfast = 3', "unknown key of a group 'fast'"),
        ('extends = "standard"\n[[groups]]\nmatch = "*"\nrate = -3', "rate must be a number of at least 0; got -3"),
        ('extends = "standard"\n[[groups]]\nmatch = "*"\noptional = 3', "optional must be true or false; got 3"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path, text, message):
    with pytest.raises(UsageError, match=f"mine.toml.*{message}"):
        resolve_recipe(write(tmp_path, text), {})


def test_a_file_that_is_not_there_or_has_a_shipped_name_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot be read: No such file or directory. Shipped recipes: standard"):
        resolve_recipe(str(tmp_path / "absent.toml"), {})
    with pytest.raises(UsageError, match="the name 'standard' is that of a recipe that ships"):
        resolve_recipe(write(tmp_path, 'extends = "standard"', "standard.toml"), {})


def test_every_recipe_that_ships_resolves_and_survives_json():
    for name, recipe in RECIPES.items():
        assert resolve_recipe(name, {}) == recipe
        assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_the_fast_recipe_is_the_papers():
    """Jordan (2024), listing 4: its rate and decay are of a loss that is summed over the batch."""
    recipe = RECIPES["fast"]
    kilostep = 1024 * (1 + 1 / (1 - recipe.momentum))
    assert recipe.learning_rate == pytest.approx(11.5 / kilostep * recipe.batch_size)
    decay = 0.0153 * recipe.batch_size / kilostep
    assert recipe.l2 == pytest.approx(decay / (11.5 / kilostep) / recipe.batch_size)
    assert recipe.average_decay == pytest.approx(0.95**5)


def test_keys_at_their_defaults_are_no_part_of_an_identity():
    recipe = RECIPES["document"]
    assert set(recipe.identity()) == {"name", *KEYS_OF_DOCUMENT}
    assert dataclasses.replace(recipe, label="other").identity() == recipe.identity()
    assert dataclasses.replace(recipe, cutout=0.25).identity() != recipe.identity()


KEYS_OF_DOCUMENT = ("epochs", "batch_size", "drop_remainder", "optimizer", "learning_rate", "normalization")
