import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.records import Reason, Status
from bench.report.display import accuracy_text, display_rows, shared_facts
from bench.report.files import to_markdown, write_report
from bench.report.statistics import mean_interval
from bench.report.tables import LEADERBOARD, leaderboard
from bench.report.trials import trials_table
from tests.test_spec import SPEC
from tests.test_store import ENVIRONMENT, record

PROMISED = """
    dataset architecture recipe precision backend machine seeds test_accuracy_mean test_accuracy_ci95_low
    test_accuracy_ci95_high train_images_per_second inference_images_per_second parameters peak_memory_bytes
    trial_seconds failures
"""


def trial(seed=0, accuracy=0.9, attempt="a", environment=ENVIRONMENT, spec=SPEC, **changes):
    spec = dataclasses.replace(spec, seed=seed)
    metrics = {
        "test_accuracy": accuracy,
        "test_top5_accuracy": None,
        "train_images_per_second": 100.0 + seed,
        "inference_images_per_second": 1_000.0,
        "parameters": 123,
        "trainable_parameters": 123,
        "peak_memory_bytes": 10**9 + seed,
        "test_per_class_accuracy": [1.0, None],
    }
    values = {"trial_id": spec.trial_id, "attempt": attempt, "metrics": metrics, "environment": environment}
    return record(spec=spec, **{**values, **changes})


def failure(seed=0, status=Status.FAILED, **changes):
    return trial(seed, status=status, reason=Reason.EXCEPTION, metrics={}, phases={}, resolved={}, **changes)


def test_the_interval_is_students_t():
    values = [0.71, 0.73, 0.70, 0.72]
    low, high = mean_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert mean_interval([0.7]) is None
    assert mean_interval([]) is None


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(2_000):
        low, high = mean_interval(random.normal(0.7, 0.005, 3).tolist())
        covered += low <= 0.7 <= high
    assert 0.93 <= covered / 2_000 <= 0.97


def test_a_row_has_the_mean_over_seeds_with_its_interval():
    table = leaderboard([trial(0, 0.70), trial(1, 0.72), trial(2, 0.74)])
    (row,) = table.to_dict("records")
    assert row["seeds"] == 3
    assert row["test_accuracy_mean"] == pytest.approx(0.72)
    assert (row["test_accuracy_ci95_low"], row["test_accuracy_ci95_high"]) == pytest.approx(
        mean_interval([0.70, 0.72, 0.74])
    )
    assert row["train_images_per_second"] == pytest.approx(101)
    assert (row["parameters"], row["peak_memory_bytes"], row["failures"]) == (123, 10**9 + 1, 0)


def test_one_seed_has_no_interval():
    (row,) = leaderboard([trial(0, 0.70)]).to_dict("records")
    assert row["test_accuracy_mean"] == 0.70
    assert pd.isna(row["test_accuracy_ci95_low"])


@pytest.mark.parametrize(
    "change",
    [
        {"environment": dataclasses.replace(ENVIRONMENT, machine="another")},
        {"environment": dataclasses.replace(ENVIRONMENT, python="3.99")},
        {"environment": dataclasses.replace(ENVIRONMENT, bench_source_hash="another")},
        {"environment": dataclasses.replace(ENVIRONMENT, packages={**ENVIRONMENT.packages, "keras": "99"})},
        {"spec": dataclasses.replace(SPEC, precision="mixed_bfloat16")},
        {"spec": dataclasses.replace(SPEC, backend="jax")},
        {"spec": dataclasses.replace(SPEC, recipe=dataclasses.replace(SPEC.recipe, epochs=3))},
        {"spec": dataclasses.replace(SPEC, architecture=dataclasses.replace(SPEC.architecture, source_hash="z"))},
        {"spec": dataclasses.replace(SPEC, architecture=dataclasses.replace(SPEC.architecture, label="net:width=2"))},
        {"spec": dataclasses.replace(SPEC, dataset=dataclasses.replace(SPEC.dataset, source_hash="z"))},
        {"spec": dataclasses.replace(SPEC, data_fingerprint="z")},
    ],
    ids=lambda change: "",
)
def test_what_differs_is_never_merged_into_one_row(change):
    assert leaderboard([trial(0), trial(1, **change)])["seeds"].tolist() == [1, 1]


def test_two_attempts_at_a_trial_are_not_two_seeds():
    (row,) = leaderboard([trial(0, 0.70, "a"), trial(0, 0.71, "b")]).to_dict("records")
    assert (row["seeds"], row["test_accuracy_mean"]) == (1, 0.71)  # the last one counts


def test_failures_count_until_a_retry_succeeds():
    broken = [failure(0), failure(1, Status.DIVERGED), failure(2, Status.SKIPPED)]
    (row,) = leaderboard([*broken, trial(3)]).to_dict("records")
    assert (row["seeds"], row["failures"], row["skipped"]) == (1, 2, 1)
    (row,) = leaderboard([*broken, trial(0, attempt="b")]).to_dict("records")
    assert (row["seeds"], row["failures"], row["skipped"]) == (1, 1, 1)


def test_an_interrupted_attempt_takes_nothing_away():
    (row,) = leaderboard([trial(0, 0.70), failure(0, Status.INTERRUPTED, attempt="b")]).to_dict("records")
    assert (row["seeds"], row["failures"]) == (1, 0)


def test_the_best_of_each_data_set_comes_first():
    other = dataclasses.replace(SPEC, architecture=dataclasses.replace(SPEC.architecture, label="other"))
    table = leaderboard([trial(0, 0.5), trial(0, 0.8, spec=other), failure(1)])
    assert table["architecture"].tolist() == ["other", "net"]


def test_the_files_hold_the_columns_they_promise(tmp_path):
    records = [trial(0, 0.70), trial(1, 0.72), failure(2)]
    write_report(tmp_path, records)
    csv = pd.read_csv(tmp_path / "leaderboard.csv")
    assert list(csv.columns) == LEADERBOARD
    assert set(PROMISED.split()) <= set(csv.columns)
    assert csv["test_accuracy_mean"].between(0, 1).all()
    trials = pd.read_parquet(tmp_path / "trials.parquet")
    assert trials["status"].tolist() == ["ok", "ok", "failed"]
    assert len(trials) == len(trials_table(records)) == 3
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["leaderboard.csv", "leaderboard.md", "trials.parquet"]


def test_a_sweep_in_which_everything_failed_has_tables_too(tmp_path):
    table = write_report(tmp_path, [failure(0)])
    assert table["seeds"].tolist() == [0]
    assert "failures" in (tmp_path / "leaderboard.md").read_text()


def test_markdown_says_what_all_rows_share_once():
    other = dataclasses.replace(SPEC, precision="mixed_bfloat16")
    text = to_markdown(leaderboard([trial(0, 0.70), trial(1, 0.72), trial(0, 0.7, spec=other)]))
    assert "## data\n" in text
    assert text.count("- backend: tensorflow") == 1
    assert "- precision" not in text
    assert "| mixed_bfloat16" in text
    assert "71.00 ± 12.71" in text


def test_display_is_percent_and_whole_numbers():
    table = leaderboard([trial(0, 0.70), trial(1, 0.72)])
    (row,) = display_rows(table).to_dict("records")
    assert row["top-1 %"] == "71.00 ± 12.71"
    assert (row["train img/s"], row["parameters"], row["peak MB"]) == ("100", "123", "1,000")
    assert shared_facts(table)["recipe"] == "standard"
    assert accuracy_text(float("nan"), float("nan"), float("nan")) == ""
