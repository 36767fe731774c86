"""Verdicts between architectures, the mark of the leaderboard, and `bench compare`."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.environment import Environment
from bench.recipes import RECIPES
from bench.records import Reason, Status, TrialRecord
from bench.report.comparison import compare
from bench.report.display import MARK, display_rows, mark_notes
from bench.report.files import to_markdown
from bench.report.judgement import Verdict, among_best, judge, seeds_needed
from bench.report.tables import leaderboard
from bench.store import Store, write_predictions
from tests.test_spec import SPEC

SPREAD = 0.0044  # of baseline_cnn over seeds, on CIFAR-10
ENVIRONMENT = Environment(
    machine="a machine",
    device="CPU",
    cpu="a processor",
    cores=2,
    memory_bytes=2**34,
    gpus=(),
    os="Linux",
    python="3.11.0",
    bench="1",
    bench_source_hash="a" * 64,
    commit="",
    packages={},
    hostname="host",
    load_average=None,
    settings={},
    driver="",
)
REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"
LABELS = np.arange(40) % 4


def verdict(first, second):
    (judgement,) = judge([(first, second)])
    return judgement.verdict


# Verdicts


@pytest.mark.parametrize("images", [None, 10_000, 360], ids=["any accuracy", "CIFAR-10", "digits"])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_an_architecture_is_hardly_ever_told_from_itself(seeds, images):
    random = np.random.default_rng(seeds)
    accuracies = random.normal(0.7729, SPREAD, (1_000, 2, seeds))
    if images:
        accuracies = np.round(accuracies * images) / images
    verdicts = [verdict(first, second) for first, second in accuracies.tolist()]
    assert verdicts.count(Verdict.CANNOT_TELL) >= 930


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_of_five_equal_architectures_hardly_ever_one_loses_the_mark(seeds):
    random = np.random.default_rng(seeds)
    cases = random.normal(0.7729, SPREAD, (1_000, 5, seeds)).tolist()
    assert sum(all(among_best(case)) for case in cases) >= 930


def test_of_equal_architectures_that_are_compared_together_hardly_ever_two_are_told_apart():
    random = np.random.default_rng(0)
    told = 0
    for case in random.normal(0.7729, SPREAD, (1_000, 4, 5)).tolist():
        pairs = [(case[one], case[other]) for one in range(4) for other in range(one)]
        told += any(judgement.verdict != Verdict.CANNOT_TELL for judgement in judge(pairs))
    assert told <= 70


def test_a_clear_difference_is_told_from_either_side():
    first, second = [0.80, 0.81, 0.805], [0.70, 0.71, 0.705]
    assert verdict(first, second) == Verdict.BETTER
    assert verdict(second, first) == Verdict.WORSE


def test_the_verdict_follows_the_adjusted_p_value():
    close = ([0.7979, 0.7866, 0.7888], [0.7777, 0.7691, 0.7719])  # p = 0.016
    equal = ([0.70, 0.71], [0.71, 0.70])
    assert judge([close])[0].verdict == Verdict.BETTER
    first, *_ = judge([close, equal, equal, equal])
    assert first.p_adjusted == pytest.approx(4 * first.test.p_value)
    assert first.test.low > 0
    assert first.verdict == Verdict.CANNOT_TELL


@pytest.mark.parametrize("few", [[0.9], []])
def test_fewer_than_two_seeds_tell_nothing(few):
    many = [0.1, 0.1001, 0.1002]
    for pair in ((few, many), (many, few), (few, few)):
        (judgement,) = judge([pair])
        assert judgement.verdict == Verdict.CANNOT_TELL
        assert judgement.test is None
        assert judgement.reason
    assert judge([([0.9], [0.5, 0.7])])[0].difference == pytest.approx(0.3)


def test_what_cannot_be_tested_does_not_count_among_the_comparisons():
    good = ([0.80, 0.81, 0.805], [0.70, 0.71, 0.705])
    tested, _ = judge([good, ([0.9], [0.1, 0.2])])
    assert tested.p_adjusted == tested.test.p_value


def test_seeds_that_all_scored_the_same_tell_nothing_but_their_means():
    (judgement,) = judge([([0.99, 0.99, 0.99], [0.95, 0.95, 0.95])])
    assert judgement.verdict == Verdict.CANNOT_TELL
    assert judgement.difference == pytest.approx(0.04)
    assert "no spread" in judgement.reason
    assert seeds_needed([0.99, 0.99], [0.95, 0.95], 0.005) is None
    assert verdict([0.99, 0.99, 0.99], [0.950, 0.951, 0.952]) == Verdict.BETTER  # one side's spread is enough


def test_seeds_needed_take_the_spread_of_whoever_has_one():
    needed = seeds_needed([0.77, 0.78, 0.775], [0.9], 0.005)
    assert needed.spread.degrees == 2
    assert needed.count < needed.count_upper
    assert seeds_needed([0.77], [0.9], 0.005) is None


# The mark of the leaderboard


def test_the_mark_is_on_the_best_and_what_is_not_told_from_it():
    best, near, far = [0.80, 0.81, 0.805], [0.79, 0.81, 0.80], [0.60, 0.61, 0.605]
    assert among_best([far, best, near]) == [False, True, True]
    assert among_best([far, best, near, [0.5], []]) == [False, True, True, True, None]  # nothing speaks against 0.5


def test_the_mark_is_what_judging_every_pair_gives():
    random = np.random.default_rng(0)
    for _ in range(100):
        samples = [random.normal(mean, 0.01, random.integers(0, 5)).tolist() for mean in random.uniform(0.7, 0.75, 6)]
        pairs = [(one, other) for one in range(6) for other in range(one + 1, 6)]
        judged = dict(zip(pairs, judge([(samples[one], samples[other]) for one, other in pairs]), strict=True))
        if not any(each.test for each in judged.values()):
            assert among_best(samples) == [None] * 6
            continue
        best = max((each for each in range(6) if len(samples[each]) > 1), key=lambda each: np.mean(samples[each]))
        told = {
            index for pair, each in judged.items() if best in pair and each.verdict != "cannot tell" for index in pair
        }
        expected = [index == best or index not in told if samples[index] else None for index in range(6)]
        assert among_best(samples) == expected


def test_without_two_rows_of_two_seeds_nothing_is_marked():
    assert among_best([[0.7], [0.9]]) == [None, None]
    assert among_best([[1.0, 1.0], [0.8, 0.9], [0.1, 0.1]]) == [True, True, None]  # of 1.0 and 0.1 neither varies
    assert among_best([[0.7, 0.8], [0.9]]) == [None, None]
    assert among_best([[0.7, 0.8]]) == [None]


def test_only_rows_of_one_setting_are_held_against_each_other():
    records = [
        *trials("good", [0.90, 0.91, 0.905]),
        *trials("bad", [0.60, 0.61, 0.605]),
        *trials("bad", [0.62, 0.63, 0.625], recipe=RECIPES["document"]),
        *trials("fair", [0.62, 0.64, 0.63], recipe=RECIPES["document"]),
        *trials("alone", [0.1, 0.2, 0.3], precision="mixed_bfloat16"),
    ]
    table = leaderboard(records)
    marks = table.set_index(["architecture", "recipe"])["among_best"]
    marks = {key: None if pd.isna(mark) else bool(mark) for key, mark in marks.items()}
    assert marks == {
        ("good", "standard"): True,
        ("bad", "standard"): False,
        ("bad", "document"): True,
        ("fair", "document"): True,
        ("alone", "standard"): None,
    }


def test_the_mark_is_shown_and_explained():
    table = leaderboard([*trials("good", [0.90, 0.91, 0.905]), *trials("bad", [0.60, 0.61, 0.605])])
    good, bad = display_rows(table)["top-1 %"]
    assert good.endswith(" *")
    assert "*" not in bad
    assert f"`{MARK}`: {mark_notes(table)[MARK]}" in to_markdown(table)
    alone = leaderboard(trials("good", [0.90, 0.91, 0.905]))
    assert "*" not in display_rows(alone)["top-1 %"][0]
    assert "`*`" not in to_markdown(alone)


# From records to comparisons


def test_only_what_shares_its_setting_is_compared():
    elsewhere = dataclasses.replace(ENVIRONMENT, machine="another machine")
    records = [
        *trials("one", [0.7, 0.71]),
        *trials("two", [0.8, 0.81]),
        *trials("two", [0.1, 0.2], recipe=RECIPES["document"]),
        *trials("one", [0.3, 0.4], environment=elsewhere),
        *trials("two", [0.3, 0.4], data_fingerprint="other images"),
    ]
    (section,) = compare(records, ["one", "two"], Path())
    (comparison,) = section.comparisons
    assert comparison.first.values == [0.7, 0.71]
    assert comparison.second.values == [0.8, 0.81]
    assert section.setting["machine"] == "a machine"


def test_of_several_attempts_the_last_counts_and_failures_do_not():
    (first,) = trials("one", [0.1])
    again = dataclasses.replace(first, attempt="b", metrics={**first.metrics, "test_accuracy": 0.7})
    (broken,) = trials("one", [0.0], start=9)
    broken = dataclasses.replace(broken, status=Status.FAILED, reason=Reason.EXCEPTION, metrics={})
    (section,) = compare([first, again, broken, *trials("two", [0.8])], ["one", "two"], Path())
    assert section.comparisons[0].first.accuracies == {0: 0.7}


def test_an_architecture_of_which_no_trial_ended_well_has_no_value():
    (broken,) = trials("one", [0.0])
    broken = dataclasses.replace(broken, status=Status.FAILED, reason=Reason.EXCEPTION, metrics={})
    (section,) = compare([broken, *trials("two", [0.8, 0.9])], ["one", "two"], Path())
    assert section.comparisons[0].judgement.difference is None
    assert section.comparisons[0].cost_ratios == {}


def searched(base="standard", rate=1e-3, **changes):
    label = f"{base} tuned(learning_rate; 8 trials)"
    changes |= {"learning_rate": rate, "tuned": ("learning_rate",), "tuning_trials": 8, "label": label}
    return dataclasses.replace(RECIPES["standard"], name=base, **changes)


def test_architectures_are_compared_whose_values_were_searched_for_each():
    records = [
        *trials("one", [0.7, 0.71], recipe=searched(rate=1e-3)),
        *trials("two", [0.8, 0.81], recipe=searched(rate=1e-2)),
    ]
    (section,) = compare(records, ["one", "two"], Path())
    assert [(each.first.name, each.second.name) for each in section.comparisons] == [("one", "two")]


def test_of_two_searches_neither_the_seeds_nor_the_costs_are_mixed():
    records = [
        *trials("one", [0.7, 0.71], recipe=searched(rate=1e-3), cost=10.0),
        *trials("one", [0.5, 0.51], recipe=searched(rate=2e-3), cost=20.0),
        *trials("two", [0.8, 0.81], recipe=searched(rate=1e-2)),
    ]
    (section,) = compare(records, ["one", "two"], Path())
    one, other = (each.first for each in section.comparisons)
    assert (one.values, one.costs["parameters"]) == ([0.7, 0.71], 20)
    assert (other.values, other.costs["parameters"]) == ([0.5, 0.51], 40)
    assert one.name != other.name
    assert {one.name[:5], other.name[:5]} == {"one ("}


def test_searches_around_different_recipes_of_one_name_are_not_compared():
    records = [
        *trials("one", [0.7, 0.71], recipe=searched("mine", epochs=3.0)),
        *trials("two", [0.8, 0.81], recipe=searched("mine", epochs=30.0)),
    ]
    assert compare(records, ["one", "two"], Path()) == []
    assert leaderboard(records)["among_best"].isna().all()


def test_two_versions_of_a_file_are_two_sides_that_are_not_compared_with_each_other():
    records = [
        *trials("one", [0.7, 0.71]),
        *trials("one", [0.7, 0.72], source="b" * 64),
        *trials("two", [0.8, 0.81]),
    ]
    (section,) = compare(records, ["one", "two"], Path())
    names = [(each.first.name, each.second.name) for each in section.comparisons]
    assert names == [("one (aaaaaaa)", "two"), ("one (bbbbbbb)", "two")]


def test_costs_are_ratios_of_means():
    (section,) = compare([*trials("one", [0.7], cost=3.0), *trials("two", [0.8], cost=2.0)], ["one", "two"], Path())
    assert set(section.comparisons[0].cost_ratios.values()) == {1.5}


def test_mcnemar_counts_what_one_network_alone_got_right(results):
    wrong_in_six, wrong_in_two = predictions([0, 1, 2, 3, 4, 5]), predictions([5, 6])
    store(results, "one", [0.85, 0.9], [wrong_in_six, None])
    store(results, "two", [0.95, 0.9], [wrong_in_two, None])
    first, second = networks(results)
    assert (first.seed, first.only_first, first.only_second) == (0, 1, 5)
    assert first.p_value == pytest.approx(14 / 64)
    assert (second.seed, second.p_value, second.reason) == (1, None, "predictions are missing")


def test_predictions_of_other_labels_are_not_compared(results):
    reordered = (predictions([0])[0][::-1], LABELS[::-1])
    store(results, "one", [0.9], [predictions([0])])
    store(results, "two", [0.9], [reordered])
    (pair,) = networks(results)
    assert (pair.p_value, pair.reason) == (None, "the stored labels differ")


@pytest.mark.parametrize("content", [b"", b"not an archive", None])
def test_predictions_that_cannot_be_read_are_blank(results, content):
    store(results, "one", [0.9], [predictions([0])])
    (folder,) = store(results, "two", [0.9], [predictions([1])])
    path = folder / "predictions.npz"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    (pair,) = networks(results)
    assert pair.p_value is None
    assert pair.reason.startswith("predictions.npz ")


def test_only_seeds_that_both_have_are_pairs(results):
    store(results, "one", [0.9, 0.9], [predictions([0])] * 2)
    store(results, "two", [0.9, 0.9], [predictions([1])] * 2, start=1)
    assert [pair.seed for pair in networks(results)] == [1]


# The command


def test_compare_says_in_words_which_is_better(bench, results):
    store(results, "one", [0.80, 0.81, 0.805])
    store(results, "net:depth=56", [0.70, 0.71, 0.705])
    code, out, err = bench("compare", "one", "net:depth=56", "--results", results)
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    assert "one is better than net:depth=56. Mean test accuracy is 80.50 % (3 seeds) against 70.50 % (3 seeds)." in text
    assert "+10.00 +8.87 to +11.13 <0.001 better" in text
    assert "of one comparison" in text
    assert "a machine" in text


def test_the_first_that_is_named_is_the_one_that_is_judged(bench, results):
    store(results, "one", [0.80, 0.81, 0.805])
    store(results, "two", [0.70, 0.71, 0.705])
    assert "two is worse than one." in bench("compare", "two", "one", "--results", results)[1]


def test_compare_says_how_many_seeds_would_tell(bench, results):
    store(results, "one", [0.800, 0.810, 0.805])
    store(results, "two", [0.801, 0.811, 0.804])
    counts = {}
    for difference in (0.5, 2):
        _, out, _ = bench("compare", "one", "two", "--results", results, "--difference", difference)
        text = " ".join(out.split())
        assert "Cannot tell one from two." in text
        found = re.search(rf"true difference of {difference} points takes about (\d+) seeds of each, or (\d+)", text)
        counts[difference] = [int(number) for number in found.groups()]
    assert counts[2] < counts[0.5]


def test_a_single_seed_is_shown_without_an_interval(bench, results):
    store(results, "one", [0.80])
    store(results, "two", [0.70])
    code, out, _ = bench("compare", "one", "two", "--results", results)
    assert code == 0
    assert "Cannot tell one from two: a single seed says nothing of its spread." in out
    assert "80.00 % (1 seed) against 70.00 % (1 seed)" in out
    assert "+10.00" in out
    assert " to " not in out.partition("points: ")[0]


def test_three_architectures_are_compared_each_with_each(bench, results):
    for name in ("one", "two", "three"):
        store(results, name, [0.80, 0.81, 0.805])
    code, out, _ = bench("compare", "one", "two", "three", "--results", results)
    assert code == 0
    for pair in ("one from two", "one from three", "two from three"):
        assert f"Cannot tell {pair}." in out
    assert "adjusted by Holm for the 3 tests shown" in out


def test_a_difference_that_many_comparisons_explain_is_said_to_be_one(bench, results):
    store(results, "one", [0.7979, 0.7866, 0.7888])
    store(results, "two", [0.7777, 0.7691, 0.7719])
    for name in ("three", "four"):
        store(results, name, [0.74, 0.82, 0.78])
    text = " ".join(bench("compare", "one", "two", "three", "four", "--results", results)[1].split())
    assert "Cannot tell one from two. " in text
    assert "By itself this would be a difference (p 0.016); among 6 comparisons" in text


def test_each_data_set_and_setting_is_a_section(bench, results):
    other = dataclasses.replace(SPEC.dataset, name="other", label="other", source_hash="o")
    for name in ("one", "two"):
        store(results, name, [0.8, 0.9])
        store(results, name, [0.8, 0.9], recipe=RECIPES["document"])
        store(results, name, [0.8, 0.9], dataset=other)
    store(results, "three", [0.8, 0.9], dataset=other)
    _, out, _ = bench("compare", "one", "two", "three", "--results", results)
    assert [line.rstrip("─ ") for line in out.splitlines() if "──" in line and not line.startswith(" ")] == [
        "data; recipe document",
        "data; recipe standard",
        "other; recipe standard",
    ]
    assert out.count("No trials in this setting: three.") == 2
    _, out, _ = bench("compare", "one", "two", "--results", results, "--dataset", "other")
    assert "document" not in out
    _, out, _ = bench("compare", "one", "two", "--results", results, "--recipe", "document")
    assert "standard" not in out
    assert out.count("Cannot tell") == 1


def test_parameters_may_be_typed_in_any_order_and_defaults_too(bench, results):
    store(results, "net:depth=56,width=2", [0.8, 0.9], parameters={"depth": 56, "width": 2, "flat": False})
    store(results, "net", [0.8, 0.9], parameters={"depth": 20, "width": 1, "flat": False})
    typed = ("net:width=2,flat=false,depth=56", "net:depth=20")
    code, out, err = bench("compare", *typed, "--results", results)
    assert (code, err) == (0, "")
    assert "Cannot tell net:depth=56,width=2 from net." in out


def test_json_holds_what_is_printed(bench, results, tmp_path):
    store(results, "one", [0.80, 0.81, 0.805], [predictions([0]), None, None])
    store(results, "two", [0.70], [predictions([1])])
    path = tmp_path / "comparison.json"
    assert bench("compare", "one", "two", "--results", results, "--json", path)[0] == 0
    (found,) = json.loads(path.read_text())["comparisons"]
    assert (found["dataset"], found["first"], found["second"], found["verdict"]) == (
        "data",
        "one",
        "two",
        "cannot tell",
    )
    assert found["first_accuracies"] == {"0": 0.80, "1": 0.81, "2": 0.805}
    assert found["difference"] == pytest.approx(0.105)
    assert found["p_value"] is None
    assert found["seeds_needed"] <= found["seeds_needed_upper"]
    assert [pair["seed"] for pair in found["networks"]] == [0]
    code, _, err = bench("compare", "one", "two", "--results", results, "--json", tmp_path / "no" / "such.json")
    assert code == 2
    assert "cannot be written" in err


def test_compare_imports_no_backend(results, tmp_path):
    store(results, "one", [0.8, 0.9], [predictions([0])] * 2)
    store(results, "two", [0.8, 0.9], [predictions([1])] * 2)
    code = f"""
import sys
from bench.cli.main import main
assert main(["compare", "one", "two", "--results", {str(results)!r}]) == 0
sys.exit(", ".join({{"tensorflow", "keras", "jax", "torch"}} & set(sys.modules)) or 0)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_real_records_can_be_compared(bench):
    if not REFERENCE.is_dir():
        pytest.skip("not in a checkout")
    code, out, _ = bench("compare", "baseline_cnn_bn", "baseline_cnn", "--dataset", "cifar10", "--results", REFERENCE)
    assert code == 0
    assert "baseline_cnn_bn is better than baseline_cnn." in out
    assert "McNemar" in out


@pytest.mark.parametrize("width", [80, 160])
def test_the_output_keeps_to_its_width_and_names_whole(bench, results, monkeypatch, width):
    from rich.console import Console

    import bench.cli.compare as module

    monkeypatch.setattr(module, "make_console", lambda: Console(width=width, highlight=False))
    names = ["resnet_cifar:depth=56", "wide_resnet:depth=28,width=10", "flat"]
    for name, accuracies in zip(names, ([0.80, 0.81, 0.805], [0.81, 0.80, 0.79], [0.9]), strict=True):
        store(results, name, accuracies, [predictions([0])] * len(accuracies))
    store(results, "flat", [0.91], start=1)
    _, out, _ = bench("compare", *names, "--results", results, "--difference", "0.05")
    lines = out.splitlines()
    assert max(map(len, lines)) <= width
    assert sum(line.startswith(" resnet_cifar:depth=56 ") for line in lines) >= 3  # in each of the tables
    for word in ("needed", "memory", "missing"):
        assert re.search(rf"{word}\b", out)  # nothing is cut off at the right
    seeds = [each.seeds for each in compare(Store(results).records(), names, results, 0.0005)[0].comparisons]
    for needed in seeds:
        assert f"{needed.count:,} to" in out
        assert f"{needed.count_upper:,} " in out.partition("cost")[0]


# Errors


def test_an_unknown_architecture_is_told_what_there_is(bench, results):
    store(results, "resnet_cifar", [0.8])
    store(results, "baseline_cnn", [0.8])
    code, _, err = bench("compare", "resnet_cifr", "baseline_cnn", "--results", results)
    assert code == 2
    assert (
        "unknown architecture 'resnet_cifr'. Did you mean resnet_cifar? Available: baseline_cnn, resnet_cifar." in err
    )
    assert f"These have records in {results}" in err


def test_an_unknown_parameter_value_is_an_unknown_architecture(bench, results):
    store(results, "resnet_cifar", [0.8])
    store(results, "two", [0.8])
    code, _, err = bench("compare", "resnet_cifar:depth=57", "two", "--results", results)
    assert code == 2
    assert "unknown architecture 'resnet_cifar:depth=57'. Did you mean resnet_cifar?" in err


def test_no_records_say_what_to_do(bench, tmp_path):
    code, _, err = bench("compare", "one", "two", "--results", tmp_path)
    assert code == 2
    assert f"no records in {tmp_path}: `bench run` makes some, --results names another folder." in err


def test_architectures_without_a_common_setting_are_told_what_each_has(bench, results):
    store(results, "one", [0.8])
    store(results, "two", [0.8], recipe=RECIPES["document"])
    code, _, err = bench("compare", "one", "two", "--results", results)
    assert code == 2
    assert "no data set and setting that two of these architectures have" in err
    assert "  one: data; recipe standard; precision float32" in err
    assert "  two: data; recipe document; precision float32" in err


def test_a_filter_may_leave_an_architecture_nothing(bench, results):
    other = dataclasses.replace(SPEC.dataset, name="other", label="other", source_hash="o")
    store(results, "one", [0.8])
    store(results, "two", [0.8])
    store(results, "two", [0.8], dataset=other)
    code, _, err = bench("compare", "one", "two", "--results", results, "--dataset", "other")
    assert code == 2
    assert "  one: nothing that these filters leave" in err


@pytest.mark.parametrize(
    ("option", "available"),
    [
        (("--dataset", "dat"), "unknown data set 'dat'. Did you mean data? Available: data."),
        (("--recipe", "documnt"), "'documnt'. Did you mean document? Available: document, standard."),
        (("--precision", "float16"), "Available: float32."),
        (("--backend", "jax"), "Available: tensorflow."),
    ],
)
def test_a_filter_that_nothing_passes_says_what_there_is(bench, results, option, available):
    for name in ("one", "two"):
        store(results, name, [0.8])
        store(results, name, [0.8], recipe=RECIPES["document"])
    code, _, err = bench("compare", "one", "two", "--results", results, *option)
    assert code == 2
    assert available in err


def test_an_architecture_is_not_compared_with_itself(bench, results):
    store(results, "one", [0.8])
    code, _, err = bench("compare", "one", "one", "--results", results)
    assert code == 2
    assert "one is named 2 times; compare needs different architectures." in err
    code, _, err = bench("compare", "one", "one:depth=20", "--results", results)
    assert code == 2
    assert "one is named 2 times" in err


def test_one_architecture_is_not_enough(bench, results):
    store(results, "one", [0.8])
    code, _, err = bench("compare", "one", "--results", results)
    assert code == 2
    assert "compare needs two architectures or more; got only one." in err


@pytest.mark.parametrize("points", ["0", "-1", "nan", "inf", "101"])
def test_the_difference_of_interest_is_above_zero(bench, results, points):
    store(results, "one", [0.8])
    store(results, "two", [0.8])
    code, _, err = bench("compare", "one", "two", "--results", results, f"--difference={points}")
    assert code == 2
    assert "--difference is in percentage points, above 0 and at most 100; got" in err


# Made-up records


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def trials(
    label,
    accuracies,
    start=0,
    source="a" * 64,
    parameters=None,
    environment=ENVIRONMENT,
    cost=1.0,
    **changes,
):
    """Return a record a seed."""
    architecture = dataclasses.replace(
        SPEC.architecture,
        name=label.partition(":")[0],
        label=label,
        parameters=parameters or SPEC.architecture.parameters,
        source_hash=source,
    )
    records = []
    for seed, accuracy in enumerate(accuracies, start):
        spec = dataclasses.replace(SPEC, architecture=architecture, seed=seed, **changes)
        metrics = {
            "test_accuracy": accuracy,
            "train_images_per_second": cost,
            "inference_images_per_second": cost,
            "parameters": int(2 * cost),
            "peak_memory_bytes": int(2 * cost),
        }
        records.append(
            TrialRecord(
                trial_id=spec.trial_id,
                attempt="a",
                status=Status.OK,
                spec=spec,
                environment=environment,
                started_at="2026-01-01T00:00:00+00:00",
                seconds=1.0,
                metrics=metrics,
            )
        )
    return records


def store(folder, label, accuracies, stored=None, **changes):
    """Write a record a seed, with its predictions where there are any, and return the attempts' folders."""
    folders = []
    for record, prediction in zip(
        trials(label, accuracies, **changes), stored or [None] * len(accuracies), strict=True
    ):
        attempt = Store(folder).begin(record.trial_id)
        if prediction is not None:
            write_predictions(attempt.folder, *prediction, np.zeros((4, 4)))
        folders.append(attempt.commit(dataclasses.replace(record, attempt=attempt.name), [], keep_checkpoint=False))
    return folders


def predictions(wrong):
    """Return logits that are right for all images but these, and the labels."""
    predicted = LABELS.copy()
    predicted[wrong] = (predicted[wrong] + 1) % 4
    return np.eye(4, dtype=np.float32)[predicted], LABELS


def networks(results):
    (section,) = compare(Store(results).records(), ["one", "two"], results)
    return section.comparisons[0].networks
