import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.cli.console import MOST_ROWS, print_leaderboard
from bench.records import Reason, Status
from bench.report.display import accuracy_text, display_rows, shared_facts
from bench.report.files import to_markdown, write_report
from bench.report.scaling import SCALING, VIRTUAL_NOTE, scaling
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
        {"environment": dataclasses.replace(ENVIRONMENT, cores_used=ENVIRONMENT.cores + 1)},
        {"environment": dataclasses.replace(ENVIRONMENT, python="3.99")},
        {"spec": dataclasses.replace(SPEC, devices=2)},
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


def alone_or_not(seed, others, speed, notes=(), **metrics):
    made = trial(seed)
    resolved = {} if others is None else {"other_trials": others}
    figures = {"train_images_per_second": speed, "timing_notes": list(notes), **metrics}
    return dataclasses.replace(made, metrics={**made.metrics, **figures}, resolved=resolved)


def test_all_cores_are_as_many_as_there_are():
    explicit = dataclasses.replace(ENVIRONMENT, cores_used=ENVIRONMENT.cores)
    (row,) = leaderboard([trial(0), trial(1, environment=explicit)]).to_dict("records")
    assert (row["seeds"], row["cores_used"], row["devices"]) == (2, ENVIRONMENT.cores, 1)


def test_attempts_at_a_trial_on_other_cores_are_rows_of_their_own():
    fewer = dataclasses.replace(ENVIRONMENT, cores_used=ENVIRONMENT.cores + 1)
    table = leaderboard([trial(0, 0.7, "a"), trial(0, 0.7, "b", environment=fewer)])
    assert table["cores_used"].tolist() == [ENVIRONMENT.cores, ENVIRONMENT.cores + 1]


def test_speeds_are_of_the_seeds_that_ran_alone_where_there_are_any():
    records = [alone_or_not(0, 3, 10.0), alone_or_not(1, 0, 100.0), alone_or_not(2, None, 200.0)]
    (row,) = leaderboard(records).to_dict("records")
    assert (row["seeds"], row["timed_seeds"], row["train_images_per_second"]) == (3, 2, 150)
    low, high = mean_interval([100, 200])
    assert (row["train_images_per_second_ci95_low"], row["train_images_per_second_ci95_high"]) == (low, high)
    assert row["disturbed"] == 0
    assert "!" not in display_rows(leaderboard(records))["train img/s"][0]
    assert row["test_accuracy_mean"] == pytest.approx(0.9)  # which no neighbour changes


def test_where_no_seed_ran_alone_all_of_them_count_and_are_marked():
    table = leaderboard([alone_or_not(0, 3, 10.0), alone_or_not(1, 1, 30.0)])
    (row,) = table.to_dict("records")
    assert (row["timed_seeds"], row["train_images_per_second"], row["disturbed"]) == (2, 20, 2)
    assert display_rows(table)["train img/s"].tolist() == ["20 !"]
    assert "be it with other trials" in to_markdown(table)


def test_each_figure_is_of_the_seeds_that_have_it():
    records = [alone_or_not(0, 3, 10.0, latency_p50_ms=2.0), alone_or_not(1, 0, 100.0)]
    (row,) = leaderboard(records).to_dict("records")
    assert row["latency_p50_ms"] == 2.0  # the only one there is
    assert (row["disturbed"], row["profile_disturbed"]) == (0, 1)


def test_notes_on_seeds_that_are_left_out_do_not_count():
    (row,) = leaderboard([alone_or_not(0, 2, 10.0, ["shared"]), alone_or_not(1, 0, 100.0)]).to_dict("records")
    assert row["disturbed"] == 0
    (row,) = leaderboard([alone_or_not(0, 0, 10.0, ["not settled"]), alone_or_not(1, 0, 100.0)]).to_dict("records")
    assert row["disturbed"] == 1


def test_the_end_of_the_log_is_in_the_table_of_trials():
    assert trials_table([failure(0, log_tail="Killed")])["log_tail"].tolist() == ["Killed"]


def scaled(devices, speed, seed=0, device="CPU", **changes):
    spec = dataclasses.replace(SPEC, devices=devices, **changes)
    made = trial(seed, spec=spec, environment=dataclasses.replace(ENVIRONMENT, device=device))
    return dataclasses.replace(made, metrics={**made.metrics, "train_images_per_second": speed})


def test_scaling_is_the_speed_by_devices_times_the_speed_on_one(tmp_path):
    records = [scaled(1, 100.0), scaled(2, 150.0, 0), scaled(2, 170.0, 1), scaled(4, 200.0)]
    other = dataclasses.replace(SPEC.architecture, name="other", label="other")
    records += [scaled(2, 500.0, architecture=other), scaled(1, 9.0, backend="jax")]
    write_report(tmp_path, records)
    table = pd.read_csv(tmp_path / "scaling.csv")
    assert list(table.columns) == SCALING
    assert table["architecture"].tolist() == ["net", "net", "net", "other"]
    assert table["devices"].tolist() == [1, 2, 4, 2]
    assert table["train_images_per_second"].tolist() == [100, 160, 200, 500]
    assert table["efficiency"].fillna(-1).tolist() == [1, 0.8, 0.5, -1]
    text = (tmp_path / "leaderboard.md").read_text()
    _, _, section = text.partition("## Scaling over devices\n")
    assert VIRTUAL_NOTE in section
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    heading = ["data set", "architecture", "1 device img/s", "2 devices img/s", "2 devices efficiency"]
    assert lines[0] == [*heading, "4 devices img/s", "4 devices efficiency"]
    assert lines[2:] == [["data", "net", "100", "160", "80 %", "200", "50 %"], ["data", "other", "", "500", "", "", ""]]


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": dataclasses.replace(SPEC.recipe, batch_size=7)},
        {"precision": "mixed_bfloat16"},
        {"data_fingerprint": "z"},
    ],
    ids=["batch", "precision", "data"],
)
def test_only_what_differs_in_devices_alone_scales(change):
    table = scaling(leaderboard([scaled(1, 100.0), scaled(2, 160.0, **change)]))
    assert table["devices"].tolist() == [2]
    assert table["efficiency"].isna().all()


def test_without_several_devices_nothing_is_said_of_scaling(tmp_path):
    write_report(tmp_path, [scaled(1, 100.0), scaled(2, 150.0)])
    assert (tmp_path / "scaling.csv").exists()
    write_report(tmp_path, [scaled(1, 100.0)])  # the other record is gone
    assert not (tmp_path / "scaling.csv").exists()
    assert "Scaling" not in (tmp_path / "leaderboard.md").read_text()


def test_on_gpus_nothing_is_said_of_virtual_devices():
    assert VIRTUAL_NOTE not in to_markdown(leaderboard([scaled(1, 100.0, device="GPU"), scaled(2, 1.0, device="GPU")]))


def test_the_terminal_shows_scaling_and_the_first_rows_alone(capsys, tmp_path):
    records = [scaled(1, 100.0), scaled(2, 150.0)]
    for number in range(MOST_ROWS):
        other = dataclasses.replace(SPEC.architecture, name=f"n{number}", label=f"n{number}")
        records.append(scaled(1, 100.0, architecture=other))
    print_leaderboard(write_report(tmp_path, records), tmp_path)
    out = capsys.readouterr().out
    assert f"the first {MOST_ROWS} of {MOST_ROWS + 2} rows; leaderboard.md has all" in out
    assert "Scaling over devices" in out
    assert "75 %" in out
    assert "scaling.csv" in out
