"""Recipes of one's own, budgets, parts of the data, further data sets and searches, as users have them."""

import dataclasses
import sys

import numpy as np
import pandas as pd
import pytest

from bench.api import Split, Splits
from bench.archive import read_predictions
from bench.data.splits import divide, trained_images
from bench.plugins import load_module, read_plugin
from bench.records import Reason, Status
from bench.report.further import further
from bench.report.searches import searches
from bench.report.tables import SETTING
from bench.report.trials import trials_table
from bench.tuning import SEED
from tests.conftest import TINY_NET

OWN = {
    "epochs": 100.0,
    "batch_size": 8,
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "momentum": 0.5,
    "l2": 1e-3,
    "drop_remainder": True,
}
PLAIN_DATA = '''"""One grey for a whole image: the class is the brightness, whichever way one looks at it."""
import numpy as np
from bench.api import Dataset, Split, Splits

INFO = Dataset(horizontal_flip=True)


def load():
    def grey(count):
        labels = np.arange(count) % 4
        return Split(np.tile((labels[:, None, None, None] * 60).astype(np.uint8), (1, 8, 8, 1)), labels)

    return Splits(train=grey(64), test=grey(20), class_names=("a", "b", "c", "d"))
'''
TEST_SETS = '''"""Two degrees of darkness."""
import numpy as np
from bench.api import Dataset, Split, TestSets

INFO = Dataset(evaluation_only=True)


def load(*, size: int = 8, names: str = "abcd"):
    def grey(count, degree):
        labels = np.arange(count) % 4
        images = np.tile((labels[:, None, None, None] * 60 // degree).astype(np.uint8), (1, size, size, 1))
        return Split(images, labels)

    return TestSets(sets={"dark/1": grey(20, 1), "dark/2": grey(12, 200)}, class_names=tuple(names))
'''
MEAN_NET = '''"""Each logit is the mean of what the model is given."""
import keras
from bench.api import Architecture

INFO = Architecture(normalization="pixels")


def build(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    return keras.Model(inputs, keras.layers.Dense(num_classes, kernel_initializer="ones")(x))


def adapt(model, images):
    print("adapted to", images.shape, images.dtype, round(float(images.mean()), 3), round(float(images.std()), 3))
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, bias + 1000])
'''
STANDARDIZED = MEAN_NET.replace('normalization="pixels"', "").replace("each", "every")


@pytest.fixture
def add(plugins):
    """Write an architecture or a data set into the plugin folder."""

    def write(name, text, kind="architectures"):
        path = plugins / kind / f"{name}.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def ok(run, records):
    """Run, see that all went well, and return the records."""

    def call(*arguments, **options):
        code, out, err = run(*arguments, **options)
        assert code == 0, out + err
        return records()

    return call


@pytest.fixture
def fails(run, records):
    """Run what cannot be run: exit code 2, no record, no traceback; returns the message."""

    def call(*arguments, **options):
        before = len(records())
        code, _, err = run(*arguments, **options)
        assert (code, len(records())) == (2, before), err
        assert "Traceback" not in err
        return err

    return call


def table(tmp_path, name="leaderboard.csv"):
    return pd.read_csv(tmp_path / "results" / name)


def logits_of(tmp_path, record):
    return read_predictions(tmp_path / "results" / "trials" / record.trial_id / record.attempt).logits


def log_of(tmp_path, record):
    return (tmp_path / "results" / "trials" / record.trial_id / record.attempt / "log.txt").read_text()


def history_of(tmp_path, record):
    return pd.read_csv(tmp_path / "results" / "trials" / record.trial_id / record.attempt / "history.csv")


# ---- recipes


def test_a_recipe_of_ones_own_with_all_that_a_recipe_may_ask_for(ok, add, tmp_path):
    (tmp_path / "my.toml").write_text(
        """
epochs = 2.5
batch_size = 8
optimizer = "adamw"
learning_rate = 0.01
schedule = "triangular"
warmup = 0.25
average = "lookahead"
average_every = 3
average_decay = 0.9
mixup = 0.2
cutout = 0.25
crop_padding = 0.125
crop_fill = "reflect"
flip = true
test_time = "flip_shift"
validation_fraction = 0.25
groups = [{ match = "head", rate = 2.0 }, { match = "backbone", from_epoch = 1 }]
"""
    )
    add("plain_data", PLAIN_DATA, "datasets")
    (record,) = ok("--recipe", tmp_path / "my.toml", epochs=None, dataset="plain_data")
    assert record.status == Status.OK
    metrics, history = record.metrics, history_of(tmp_path, record)
    assert metrics["test_time_accuracy"] == metrics["test_accuracy"]  # all views are the image itself
    assert (record.resolved["steps"], record.resolved["epochs"]) == (15, 2.5)
    assert (record.resolved["training_images"], record.resolved["validation_images"]) == (48, 16)
    assert history["steps"].tolist() == [6, 12, 15]
    assert history["learning_rate"].tolist()[-1] < history["learning_rate"].max()  # of the last step of each epoch
    assert metrics["validation_accuracy"] == history["validation_accuracy"].tolist()[-1]
    (row,) = table(tmp_path).to_dict("records")
    assert row["recipe"] == "my"
    assert row["test_time_accuracy_mean"] == metrics["test_time_accuracy"]
    assert row["recipe_hash"] == row["recipe_shared"] != ""


def test_two_views_are_seen_where_there_are_two(ok, tmp_path):
    """The net's logits of an image and its mirror image, averaged."""
    (record,) = ok("--set", "test_time=flip", "validation_fraction=0.0", epochs=1)
    assert 0 <= record.metrics["test_time_accuracy"] <= 1
    (plain,) = [each for each in ok("--set", "validation_fraction=0.0", epochs=1) if each != record]
    assert plain.metrics["test_time_accuracy"] is None
    np.testing.assert_allclose(logits_of(tmp_path, plain), logits_of(tmp_path, record), rtol=1e-5)  # stored as ever


def own_net(**recipe):
    return TINY_NET.replace("min_size=4", f"min_size=4, recipe={recipe!r}")


def test_an_architecture_trains_as_its_paper_does_and_is_compared_under_that_name(ok, add, bench, tmp_path):
    add("one", own_net(**OWN))
    add("other", own_net(**{**OWN, "optimizer": "adamw", "l2": 0.0, "momentum": 0.9, "learning_rate": 0.01}))
    done = ok("--recipe", "own", "--seeds", 2, "--set", "epochs=1", arch="one other", epochs=None)
    recipes = {each.spec.architecture.name: each.spec.recipe for each in done}
    assert (recipes["one"].optimizer, recipes["one"].learning_rate, recipes["one"].momentum) == ("sgd", 0.05, 0.5)
    assert (recipes["other"].optimizer, recipes["other"].learning_rate) == ("adamw", 0.01)
    rows = table(tmp_path)
    assert rows["recipe"].tolist() == ["own:epochs=1"] * 2
    assert rows["recipe_hash"].nunique() == 2
    assert rows["recipe_shared"].isna().all()
    assert rows["among_best"].notna().all()
    code, out, err = bench("compare", "one", "other", "--results", tmp_path / "results")
    assert code == 0, err
    assert "under this recipe (own:epochs=1)" in " ".join(out.split())


def test_recipes_of_different_values_are_never_averaged_or_compared(ok, tmp_path):
    for rate in (0.1, 0.01):
        (tmp_path / "mine.toml").write_text(f'epochs = 1\nbatch_size = 16\noptimizer = "sgd"\nlearning_rate = {rate}\n')
        ok("--recipe", tmp_path / "mine.toml", epochs=None)
    rows = table(tmp_path)
    assert rows["recipe"].tolist() == ["mine"] * 2
    assert rows["recipe_shared"].nunique() == 2
    assert rows["among_best"].isna().all()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({}, "recipe own: the file of this architecture does not say how its paper trains (INFO.recipe)."),
        (
            {**OWN, "learning_rte": 0.1},
            "recipe own: unknown key of a recipe 'learning_rte'. Did you mean learning_rate",
        ),
        ({"epochs": 1, "batch_size": 8, "optimizer": "sgd"}, "recipe own: learning_rate is missing."),
        ({**OWN, "momentum": 2.0}, "recipe own: momentum must be from 0 to below 1; got 2.0."),
        ({**OWN, "groups": [{"match": "head", "rte": 1}]}, "recipe own: group 1: unknown key of a group 'rte'"),
    ],
)
def test_what_is_wrong_with_an_own_recipe_names_file_and_key(recipe, message, add, fails):
    path = add("mine", own_net(**recipe))
    add("well", own_net(**OWN))
    assert f"{path}: {message}" in fails("--recipe", "own", arch="well mine", epochs=None)


def test_a_group_that_matches_nothing_fails_its_trial_with_the_weights_there_are(run, records):
    code, _, _ = run("--set", "groups=[{match='*/gamma',rate=2.0}]", epochs=1)
    (record,) = records()
    assert (code, record.status) == (1, Status.FAILED)
    assert "groups: match = '*/gamma' is none of the model's trainable weights" in record.message


# ---- budgets


def test_a_budget_of_flops_gives_each_architecture_the_steps_that_its_multiply_adds_leave(ok, bench, plugins, tmp_path):
    """8·8·units + units·4 multiply-adds, 6 operations each, 16 images a step; 4 steps make an epoch."""
    budget = ["--budget", "flops=1e6", "--batch-size", 16]
    done = ok(*budget, arch="tiny_net tiny_net:units=16", epochs=None)
    steps = {each.spec.architecture.label: each for each in done}
    for label, macs in (("tiny_net", 64 * 8 + 8 * 4), ("tiny_net:units=16", 64 * 16 + 16 * 4)):
        expected = int(1e6 / (6 * macs * 16))
        record = steps[label]
        assert record.metrics["macs"] == macs
        per_epoch = record.resolved["training_images"] // 16
        assert (record.resolved["steps"], record.resolved["epochs"]) == (expected, expected / per_epoch)
        assert history_of(tmp_path, record)["steps"].tolist()[-1] == expected
    assert set(table(tmp_path)["recipe"]) == {"standard:min_steps=0,budget_flops=1000000,batch_size=16"}
    (tmp_path / "budget.toml").write_text(
        'budget_flops = 2e6\nepochs = 1\nbatch_size = 16\noptimizer = "sgd"\nlearning_rate = 0.1\n'
    )
    common = ["--plugins", plugins, "--results", tmp_path / "elsewhere", "--dry-run"]
    named = ["--arch", "tiny_net", "--dataset", "tiny_data"]
    for recipe in (["--recipe", tmp_path / "budget.toml"], budget):
        code, out, err = bench("run", *named, *recipe, *common)
        assert code == 0, err
        assert "to run: 1 trial: " in out


def test_a_budget_of_epochs_is_that_of_epochs(ok):
    (record,) = ok("--budget", "epochs=1.5", "--batch-size", 16, epochs=None)
    assert (record.spec.recipe.epochs, record.spec.recipe.min_steps) == (1.5, 0)
    (same,) = ok("--epochs", 1.5, "--batch-size", 16, epochs=None)
    assert same.trial_id == record.trial_id


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hours=3"], "--budget: expected epochs=10 or flops=1e15, say, above 0; got 'hours=3'."),
        (["epochs=3,flops=1e9"], "--budget: expected epochs=10 or flops=1e15"),
        (["epochs='many'"], "--budget: expected epochs=10 or flops=1e15"),
        (["epochs=true"], "--budget: expected epochs=10 or flops=1e15"),
        (["flops=0"], "above 0; got 'flops=0'"),
        (["epochs=-1"], "above 0; got 'epochs=-1'"),
        (["flops=inf"], "above 0; got 'flops=inf'"),
        (["flops=nan"], "above 0; got 'flops=nan'"),
        ([f"flops=1{'0' * 400}"], "--budget: expected epochs=10 or flops=1e15"),
        (["10"], "--budget: cannot read '10'. Expected KEY=VALUE"),
        (
            ["flops=1e9", "--epochs", "3"],
            "--budget takes the place of epochs and budget_flops; leave one of them away.",
        ),
        (["epochs=3", "--set", "budget_flops=1e9"], "--budget takes the place of epochs and budget_flops"),
    ],
)
def test_a_wrong_budget_is_one_message(arguments, message, fails):
    assert message in fails("--budget", *arguments, epochs=None)


UNCOUNTABLE = TINY_NET.replace(
    "    x = keras.layers.Flatten", "    inputs_ = Odd()(inputs)\n    x = keras.layers.Flatten"
)
UNCOUNTABLE = (
    UNCOUNTABLE.replace("()(inputs)\n    x = keras.layers.Dense", "()(inputs_)\n    x = keras.layers.Dense")
    + '''

class Odd(keras.layers.Layer):
    """Calls what no counting knows."""

    def call(self, x):
        return x + 0 * keras.ops.fft2((x, x))[0]
'''
)


def test_a_budget_of_flops_needs_a_count(run, records, add):
    add("odd", UNCOUNTABLE)
    code, _, _ = run("--budget", "flops=1e6", "--batch-size", 16, arch="odd", epochs=None)
    (record,) = records()
    assert (code, record.status, record.reason) == (1, Status.FAILED, Reason.BAD_MODEL)
    assert "the multiply-adds of this model are not known" in record.message
    assert "Give the budget in epochs." in record.message


# ---- a part of the training images


def splits(counts, validation=None):
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(len(labels), dtype=np.int64)[:, None, None, None].astype(np.uint8)
    test = Split(images[:4], labels[:4])
    own = None if validation is None else Split(images[:validation], labels[:validation])
    return Splits(
        train=Split(images, labels), test=test, validation=own, class_names=tuple(map(str, range(len(counts))))
    )


@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_parts_are_nested_and_stratified_and_the_validation_part_shrinks_with_them(fraction):
    data = splits([100, 60, 40])
    parts = {part: divide(data, fraction, 3, part) for part in (0.1, 0.25, 0.5, 1.0)}
    for smaller, larger in ((0.1, 0.25), (0.25, 0.5), (0.5, 1.0)):
        for one, other in zip(parts[smaller], parts[larger], strict=True):
            assert (one is None and fraction == 0) or {*one.indices} < {*other.indices}
    for part, (training, validation) in parts.items():
        for subset, share in ((training, 1 - fraction), (validation, fraction)):
            if subset is not None:
                counts = np.bincount(data.train.labels[subset.indices])
                np.testing.assert_allclose(counts, np.array([100, 60, 40]) * share * part, atol=1)
                assert (np.diff(subset.indices) > 0).all()
        if validation is not None:
            assert not {*training.indices} & {*validation.indices}
    assert {*divide(data, fraction, 4, 0.5)[0].indices} != {*parts[0.5][0].indices}  # another seed draws another part


@pytest.mark.parametrize("part", [0.001, 0.07, 0.1, 0.25, 0.33, 0.5, 0.99])
@pytest.mark.parametrize("counts", [[10, 10, 10, 10], [1, 7, 100], [10] * 100])
def test_no_fewer_images_are_trained_on_than_planning_counts_on(counts, part):
    training, _ = divide(splits(counts), 0.0, 0, part)
    assert trained_images({"train": sum(counts)}, 0.0, part) <= len(training) <= part * sum(counts) + len(counts)
    assert {*np.unique(training.split.labels[training.indices])} == {*range(len(counts))}


def test_validation_images_of_the_source_are_all_kept():
    training, validation = divide(splits([40, 40], validation=50), 0.1, 0, 0.25)
    assert (len(training), len(validation)) == (20, 50)


def test_a_learning_curve_over_data_is_one_sweep(ok, bench, tmp_path):
    done = ok("--train-fraction", "0.25", "0.5", "1", "--set", "validation_fraction=0.25", batch=4)
    assert {each.spec.train_fraction: each.resolved["training_images"] for each in done} == {0.25: 12, 0.5: 24, 1.0: 48}
    assert {each.spec.train_fraction: each.resolved["validation_images"] for each in done} == {0.25: 4, 0.5: 8, 1.0: 16}
    rows = table(tmp_path)
    assert sorted(rows["train_fraction"]) == [0.25, 0.5, 1.0]
    assert rows["seeds"].tolist() == [1, 1, 1]
    assert rows["among_best"].isna().all()  # of other data, no two compare
    assert len({each.trial_id for each in done}) == 3
    whole = next(each for each in done if each.spec.train_fraction == 1)
    ok("--set", "validation_fraction=0.25", batch=4)
    assert len(ok("--set", "validation_fraction=0.25", batch=4)) == 3, whole  # 1 is what was meant all along


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train-fraction", "0"], "a fraction above 0 and up to 1"),
        (["--train-fraction", "1.5"], "a fraction above 0 and up to 1"),
        (["--train-fraction", "0.1"], "a batch of 16 is larger than the 6 training images of tiny_data"),
    ],
)
def test_a_wrong_part_is_one_message(arguments, message, fails):
    assert message in fails("--set", "validation_fraction=0.1", *arguments)


# ---- further data sets


def test_models_are_evaluated_on_further_data_sets(ok, add, tmp_path):
    add("dark", TEST_SETS, "datasets")
    add("more_data", PLAIN_DATA, "datasets")
    done = ok("--evaluate-also", "dark", "more_data", "--seeds", 2, epochs=20)
    for record in done:
        sets, means = record.metrics["also_sets"], record.metrics["also_accuracy"]
        assert {name: [*each] for name, each in sets.items()} == {"dark": ["dark/1", "dark/2"], "more_data": ["test"]}
        assert sets["dark"]["dark/2"] == 0.25  # all of them are black
        assert sets["dark"]["dark/1"] == sets["more_data"]["test"] > 0.25
        assert means == {name: pytest.approx(np.mean([*each.values()])) for name, each in sets.items()}
        assert [each.dataset.label for each in record.spec.evaluate_also] == ["dark", "more_data"]
    rows = table(tmp_path, "further.csv")
    assert (rows["architecture"] == "tiny_net").all()
    assert (rows["seeds"] == 2).all()
    found = {(row["evaluated_on"], row["set"]): row["accuracy_mean"] for row in rows.to_dict("records")}
    assert [*found] == [
        ("dark", "all"),
        ("dark", "dark/1"),
        ("dark", "dark/2"),
        ("more_data", "all"),
        ("more_data", "test"),
    ]
    for (name, which), mean in found.items():
        source = "also_accuracy" if which == "all" else "also_sets"
        values = [each.metrics[source][name] for each in done]
        assert mean == pytest.approx(np.mean([each if which == "all" else each[which] for each in values]))
    assert len(table(tmp_path)) == 1


def test_what_a_model_is_evaluated_on_is_a_set_and_a_change_of_it_is_told(run, records, add):
    add("dark", TEST_SETS, "datasets")
    add("more_data", PLAIN_DATA, "datasets")
    code, _, err = run()
    assert code == 0, err
    code, out, err = run("--evaluate-also", "more_data", "dark", "dark:size=8")
    assert code == 0, err
    assert "1 that had ended is run anew: what --evaluate-also names has changed\n" in out
    assert [each.dataset.label for each in records()[-1].spec.evaluate_also] == ["dark", "more_data"]
    code, out, err = run("--evaluate-also", "dark", "more_data")
    assert (code, len(records())) == (0, 2), err


def test_without_further_data_sets_there_is_no_such_table(ok, tmp_path):
    (record,) = ok()
    assert "also_sets" not in record.metrics
    assert not (tmp_path / "results" / "further.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            ["--evaluate-also", "dark"],
            {"dataset": "dark"},
            "data set dark has no training images: it is only evaluated on",
        ),
        (["--evaluate-also", "dark:names='abdc'"], {}, "Class 2 is 'd', expected 'c'."),
        (["--evaluate-also", "dark:names='abcde'"], {}, "It has 5 classes, expected 4."),
        (["--evaluate-also", "dark:size=16"], {}, "its images are 16×16×1, expected 8×8×1"),
        (["--evaluate-also", "light"], {}, "unknown dataset 'light'"),
    ],
)
def test_a_further_data_set_that_does_not_fit_is_one_message(arguments, options, message, add, fails):
    add("dark", TEST_SETS, "datasets")
    assert message in fails(*arguments, **options)


@pytest.mark.parametrize(
    "text", ["5", '"x"', "[1]", '{"a": 3}', '{"a": {"b": "c"}}', '{"a": {"b": null}}', "not JSON", 7.5]
)
def test_what_anybody_wrote_of_further_accuracies_is_left_aside(text):
    rows = pd.DataFrame({"status": ["ok"], "also_sets": [text]})
    rows = rows.assign(**dict.fromkeys(["training_id", *SETTING], "x"))
    assert len(further(rows)) == 0
    assert further(rows.assign(also_sets='{"a": {"b": 0.5, "c": "d"}}'))["accuracy_mean"].tolist() == [0.5, 0.5]


# ---- searches

SEARCH = ["--tune", "learning_rate", "--tune-trials", 3, "--set", "validation_fraction=0.25", "learning_rate=0.01"]


def test_a_search_gives_every_architecture_the_same_candidates(ok, run, bench, tmp_path):
    done = ok(*SEARCH, "--seeds", 2, arch="tiny_net tiny_net:units=4")
    tried, final = ([each for each in done if each.spec.tuning == tuning] for tuning in (True, False))
    assert (len(tried), len(final)) == (6, 4)
    assert {each.spec.seed for each in tried} == {SEED}
    assert {each.spec.seed for each in final} == {0, 1}
    rates = {}
    for each in tried:
        rates.setdefault(each.spec.architecture.label, set()).add(each.spec.recipe.learning_rate)
        assert "test_accuracy" not in each.metrics
        assert not any(name.startswith("test_") for name in each.metrics)
        assert not [*(tmp_path / "results" / "trials" / each.trial_id / each.attempt).glob("predictions*")]
    one, other = rates.values()
    assert one == other
    assert len(one) == 3
    assert 0.01 in one
    assert all(0.001 <= rate <= 0.1 for rate in one)
    for each in final:
        own = [tried_ for tried_ in tried if tried_.spec.architecture == each.spec.architecture]
        best = max(own, key=lambda tried_: tried_.metrics["validation_accuracy"])
        assert each.spec.recipe.learning_rate in one
        assert best.metrics["validation_accuracy"] == max(
            tried_.metrics["validation_accuracy"]
            for tried_ in own
            if tried_.spec.recipe.learning_rate == each.spec.recipe.learning_rate
        )
        assert (each.spec.recipe.tuned, each.spec.recipe.tuning_trials) == (("learning_rate",), 3)
    rows = table(tmp_path)
    assert rows["recipe"].str.endswith(" tuned(learning_rate; 3 trials)").all()
    assert (rows["seeds"].tolist(), rows["failures"].tolist()) == ([2, 2], [0, 0])
    assert rows["among_best"].notna().all()
    searched = table(tmp_path, "searches.csv").set_index("architecture")
    for label, row in searched.iterrows():
        own = [each for each in tried if each.spec.architecture.label == label]
        (used,) = {each.spec.recipe.learning_rate for each in final if each.spec.architecture.label == label}
        assert (row["tried"], row["failed"], row["best_learning_rate"]) == (3, 0, pytest.approx(used))
        assert row["best_validation_accuracy"] == max(each.metrics["validation_accuracy"] for each in own)
        assert row["search_seconds"] == pytest.approx(sum(each.seconds for each in own), rel=1e-3)
    code, out, err = run(*SEARCH, "--seeds", 2, arch="tiny_net tiny_net:units=4")
    assert code == 0, err
    assert out.count("nothing is left to run") == 2
    assert len([*(tmp_path / "results" / "trials").glob("*/*/record.json")]) == 10
    code, out, err = bench("compare", "tiny_net", "tiny_net:units=4", "--results", tmp_path / "results")
    assert code == 0, err
    assert "learning_rate was searched first: 3 trials, by accuracy on validation images." in " ".join(out.split())


def test_ones_own_momentum_is_held_against_the_own_recipe(ok, fails, add):
    add("one", own_net(**OWN))
    (done,) = ok("--recipe", "own", "--set", "epochs=1", "momentum=0.95", arch="one", epochs=None)
    assert (done.spec.recipe.momentum, done.spec.recipe.optimizer) == (0.95, "sgd")
    assert "weight_decay is decoupled decay" in fails(
        "--recipe", "own", "--set", "epochs=1", "weight_decay=0.1", arch="one", epochs=None
    )


def test_latency_and_such_are_not_measured_of_each_candidate(ok):
    done = ok(*SEARCH, "--measure", "full", epochs=1)
    assert [(each.spec.tuning, "model_file_bytes" in each.metrics) for each in done] == [(True, False)] * 3 + [
        (False, True)
    ]


def test_an_interrupted_attempt_is_none_that_failed(ok, tmp_path):
    done = [each for each in ok(*SEARCH, epochs=1) if each.spec.tuning]
    again = dataclasses.replace(done[0], status=Status.INTERRUPTED, attempt="99990101T000000.000000Z-abcd")
    (row,) = searches(trials_table([*done, again])).to_dict("records")
    assert (row["tried"], row["failed"]) == (3, 0)
    assert row["search_seconds"] == pytest.approx(sum(each.seconds for each in done), rel=1e-3)


def test_a_search_of_several_keys_names_them_all(ok, bench, tmp_path):
    ok("--tune", "learning_rate,weight_decay,l2", *SEARCH[2:], "l2=0.001", arch="tiny_net tiny_net:units=4", epochs=1)
    _, out, _ = bench("compare", "tiny_net", "tiny_net:units=4", "--results", tmp_path / "results")
    assert "learning_rate, weight_decay and l2 were searched first: 3 trials" in " ".join(out.split())


def test_searches_for_other_keys_are_other_searches(ok):
    ok(*SEARCH, epochs=1)
    done = ok("--tune", "learning_rate,weight_decay", "--tune-trials", 2, *SEARCH[4:], epochs=1)
    assert sorted(searches(trials_table(done))["tried"]) == [2, 3]


def test_a_dry_run_shows_the_candidates_and_how_many_trials_follow(run, records, bench, plugins):
    assert bench("prepare", "tiny_data", "--plugins", plugins)[0] == 0
    code, out, err = run(*SEARCH, "--seeds", 2, "--dry-run")
    assert code == 0, err
    assert "to run: 3 trials: " in out
    assert "then 2 trials with the values that are best on the validation images" in out
    assert records() == []


DIVERGES = TINY_NET.replace(
    "return keras.Model(inputs, keras.layers.Dense(num_classes)(x))",
    """\
x = keras.layers.Dense(num_classes)(x)
    return keras.Model(inputs, x + keras.ops.log(keras.ops.mean(x * x, axis=1, keepdims=True) * 0 - 1))""",
)


def test_nothing_is_searched_for_an_architecture_that_is_skipped(ok, add, tmp_path):
    add("large", TINY_NET.replace("min_size=4", "min_size=99"))
    done = ok(*SEARCH, arch="large tiny_net", epochs=1)
    large = [each for each in done if each.spec.architecture.name == "large"]
    assert [(each.status, each.spec.tuning, each.spec.recipe.tuned) for each in large] == [(Status.SKIPPED, False, ())]
    assert sorted(table(tmp_path)["architecture"]) == ["large", "tiny_net"]
    assert table(tmp_path, "searches.csv")["architecture"].tolist() == ["tiny_net"]


def test_a_search_of_which_nothing_ends_well_leaves_its_architecture_out(run, records, add, tmp_path):
    add("diverges", DIVERGES)
    code, out, err = run(*SEARCH, arch="diverges tiny_net")
    assert code == 1
    assert "[1/6] diverges on tiny_data, a search at learning_rate=0.01" in out
    assert "[4/6] validation accuracy " in out
    assert "bench: diverges on tiny_data is left out: none of the 3 trials that searched for its learning_rate" in err
    assert "Why is said above; begin with another value (--set), or run it without --tune." in err
    assert "Traceback" not in err
    statuses = {(each.spec.architecture.name, each.spec.tuning): each.status for each in records()}
    assert statuses == {
        ("diverges", True): Status.DIVERGED,
        ("tiny_net", True): Status.OK,
        ("tiny_net", False): Status.OK,
    }
    assert table(tmp_path)["architecture"].tolist() == ["tiny_net"]
    searched = table(tmp_path, "searches.csv").set_index("architecture")
    assert searched["failed"].to_dict() == {"diverges": 3, "tiny_net": 0}
    code, out, err = run(*SEARCH, arch="diverges")
    assert (code, err.count("is left out")) == (1, 1)
    assert "0 trials" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tune", "learning_rate"], "holds none out. Add --set validation_fraction=0.1"),
        (["--tune", "momentum"], "--tune: expected some of learning_rate, weight_decay, l2, got 'momentum'."),
        (["--tune", "learning_rate,batch_size"], "got 'batch_size'"),
        (["--tune", "learning_rate", "--tune-trials", "1"], "--tune-trials must be at least 2; got 1."),
        (["--tune-trials", "5"], "--tune-trials is for --tune KEY, which was not asked for."),
    ],
)
def test_a_wrong_search_is_one_message(arguments, message, fails):
    assert message in fails("--set", "validation_fraction=0.0", *arguments)


def test_a_value_of_zero_cannot_be_searched(fails):
    err = fails("--tune", "l2", "--set", "validation_fraction=0.1", "l2=0.0")
    assert "has l2=0" in err
    assert "the search is for multiples of it" in err


def test_a_search_needs_optuna(fails, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert '--tune needs Optuna, which is not installed: pip install -e ".[tune]"' in fails(*SEARCH)


# ---- what an architecture's file may say besides


def test_adapt_is_given_normalised_images_and_what_it_does_stays(ok, add, plugins, tmp_path):
    """Standardised images, and pixels where the model takes those; 1,000 more on each logit is what adapt does."""
    add("pixel_net", MEAN_NET)
    add("mean_net", STANDARDIZED)
    done = ok("--set", "learning_rate=1e-12", "clip_norm=0.0", arch="pixel_net mean_net", epochs=1)
    logits = {each.spec.architecture.name: logits_of(tmp_path, each) for each in done}
    logs = {each.spec.architecture.name: log_of(tmp_path, each) for each in done}
    loaded = load_module(read_plugin("dataset", plugins / "datasets" / "tiny_data.py")).load()
    images = loaded.test.images.astype(np.float64).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(logits["pixel_net"], np.tile(images[:, None] + 1000, 4), rtol=1e-4)
    pixels = loaded.train.images / 255
    standard = (images / 255 - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(logits["mean_net"], np.tile(standard[:, None] + 1000, 4), rtol=1e-4)
    for log in logs.values():
        assert "adapted to (" in log
        assert ", 8, 8, 1) float32 " in log
    mean, std = map(float, logs["mean_net"].partition("float32 ")[2].split()[:2])
    assert abs(mean) < 0.1
    assert abs(std - 1) < 0.1
    assert float(logs["pixel_net"].partition("float32 ")[2].split()[0]) > 60


def test_adapt_that_raises_is_a_bad_model(run, records, add):
    path = add(
        "mean_net", MEAN_NET.replace("    kernel, bias", "    raise RuntimeError('no such weights')\n    kernel, bias")
    )
    code, _, _ = run(arch="mean_net", epochs=1)
    (record,) = records()
    assert (code, record.status, record.reason) == (1, Status.FAILED, Reason.BAD_MODEL)
    assert f"{path}: `adapt` raised RuntimeError: no such weights" in record.message


def test_what_a_model_takes_is_pixels_or_what_the_recipe_makes_of_them(run, records, add):
    path = add("mean_net", MEAN_NET.replace("pixels", "other"))
    code, _, _ = run(arch="mean_net")
    (record,) = records()
    assert (code, record.status, record.reason) == (1, Status.FAILED, Reason.BAD_PLUGIN)
    assert f"{path}: INFO in line 5: normalization must be one of pixels, or empty; got 'other'." in record.message


BARE = TINY_NET.replace("min_size=4", 'min_size=4, argument="kind"').replace(
    "units: int = 8", 'kind: str = "", units: int = 8'
)


def test_a_value_without_its_key_is_that_of_the_argument(ok, add):
    add("bare", BARE)
    done = ok(arch="bare:relu bare:kind='relu',units=4", epochs=1)
    labels = {each.spec.architecture.label: each.spec.architecture.parameters for each in done}
    assert labels == {"bare:relu": {"kind": "relu", "units": 8}, "bare:relu,units=4": {"kind": "relu", "units": 4}}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("bare", "architecture bare needs its kind after a colon: bare:KIND."),
        ("bare:relu,kind='elu'", "architecture bare: its kind is given twice, once without its key."),
        (
            "tiny_net:relu",
            "architecture tiny_net: expected KEY=VALUE after the colon, got 'relu'. Its parameters: units.",
        ),
        ("bare:relu,units", "expected KEY=VALUE"),
    ],
)
def test_a_wrong_argument_is_one_message(reference, message, add, fails):
    add("bare", BARE)
    assert message.casefold() in fails(arch=reference).casefold()


def test_the_argument_must_be_one_of_build(add):
    path = add("bare", BARE.replace('argument="kind"', 'argument="units"'))
    assert (
        read_plugin("architecture", path).error == "INFO.argument is 'units', but `build` has no such text parameter."
    )
