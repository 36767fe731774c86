"""Reading a results folder that anybody may have made: what is wrong is said, the rest is reported, nothing happens."""

import json
import os
import pickle
import random
import struct
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.archive import (
    MOST_PREDICTION_BYTES,
    MOST_RECORD_BYTES,
    NOTES,
    NUMBERS,
    Archive,
    read_predictions,
    read_records,
)
from bench.cli.console import MOST_PROBLEMS, print_failure, print_problems
from bench.environment import Environment
from bench.errors import StoreError
from bench.fields import DEEPEST, LARGEST_NUMBER
from bench.records import SCHEMA_VERSION, Reason, Status, TrialRecord
from bench.report.files import write_report
from bench.report.tables import AVERAGED, NOTED
from bench.report.trials import MOST_COLUMNS, trials_table
from bench.store import write_predictions
from tests.test_spec import SPEC

ENVIRONMENT = Environment(
    machine="a machine, 2 cores",
    device="CPU",
    cpu="a processor",
    cores=2,
    memory_bytes=2**34,
    gpus=("a GPU",),
    os="Linux",
    python="3.11.0",
    bench="1",
    bench_source_hash="a" * 64,
    commit="",
    packages={"keras": "3"},
    hostname="host",
    load_average=0.5,
    settings={},
    driver="",
)
RECORD = TrialRecord(
    trial_id="net-data-seed3-abc",
    attempt="20260101T000000.000000Z-aaaa",
    status=Status.OK,
    spec=SPEC,
    environment=ENVIRONMENT,
    started_at="2026-01-01T00:00:00+00:00",
    seconds=12.5,
    metrics={"test_accuracy": 0.5, "train_images_per_second": 100.0, "timing_notes": [], "energy_scope": None},
    phases={"data": 0.1, "profile": 2.0},
    resolved={"device": "CPU", "channel_mean": [0.5], "matmul_peak_flops": 1e11},
)
PLAIN = RECORD.to_json()
FILE = f"{RECORD.trial_id}/{RECORD.attempt}/record.json"
ESCAPE = "\x1b[31m\x1b]0;title\x07"


def put(folder, content, trial=RECORD.trial_id, attempt=RECORD.attempt):
    """Put a record's file there: a text, bytes, or what JSON is made of."""
    path = folder / "trials" / trial / attempt / "record.json"
    path.parent.mkdir(parents=True)
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def put_sound(folder, seed=9):
    """Put a record there that nothing is wrong with."""
    trial, attempt = f"sound-seed{seed}", f"20270101T000000.00000{seed}Z-bbbb"
    spec = {**PLAIN["spec"], "seed": seed}
    return put(folder, {**PLAIN, "trial_id": trial, "attempt": attempt, "spec": spec}, trial, attempt)


def changed(path, value):
    """Return the record with one value changed, named as in `spec.recipe.epochs`."""
    result = json.loads(json.dumps(PLAIN))
    *outer, name = path.split(".")
    inner = result
    for each in outer:
        inner = inner[each]
    inner[name] = value
    return result


def without(path):
    result = json.loads(json.dumps(PLAIN))
    *outer, name = path.split(".")
    inner = result
    for each in outer:
        inner = inner[each]
    del inner[name]
    return result


def only_problem(folder):
    """Return the one problem of a folder whose other record is read all the same."""
    put_sound(folder)
    archive = read_records(folder)
    assert [record.trial_id for record in archive.records] == ["sound-seed9"]
    (problem,) = archive.problems
    assert "\n" not in problem
    return problem


# What is read


def test_records_come_back_as_they_were_oldest_first(tmp_path):
    put(tmp_path, PLAIN)
    put(tmp_path, {**PLAIN, "attempt": "2025"}, attempt="2025")
    first, second = read_records(tmp_path).records
    assert first.attempt == "2025"
    assert second == RECORD


def test_both_schema_versions_are_read(tmp_path):
    old = json.loads(json.dumps(PLAIN))
    for path in ("log_tail", "spec.devices", "spec.architecture.modules", "spec.dataset.modules"):
        *outer, name = path.split(".")
        inner = old
        for each in outer:
            inner = inner[each]
        del inner[name]
    del old["environment"]["cores_used"]
    put(tmp_path, {**old, "schema_version": 1})
    archive = read_records(tmp_path)
    assert archive.problems == ()
    (record,) = archive.records
    assert (record.spec.devices, record.environment.cores_used, record.log_tail) == (1, 0, "")


def test_an_absent_or_empty_folder_has_nothing(tmp_path):
    assert read_records(tmp_path / "absent") == Archive((), ())
    (tmp_path / "trials" / "trial" / "attempt").mkdir(parents=True)  # an attempt's folder without a record
    (tmp_path / "trials" / "file").write_text("")
    assert read_records(tmp_path) == Archive((), ())


def test_hidden_folders_and_files_are_somebody_elses(tmp_path):
    put(tmp_path, "{", attempt=".2026.tmp")
    put(tmp_path, "{", trial=".hidden")
    assert read_records(tmp_path) == Archive((), ())


def test_only_the_trials_asked_for_are_read(tmp_path):
    put(tmp_path, "{")
    put_sound(tmp_path)
    archive = read_records(tmp_path, iter(["sound-seed9", "absent", "../trials/sound-seed9"]))
    assert [record.trial_id for record in archive.records] == ["sound-seed9"]
    assert archive.problems == ()


# What is refused


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (json.dumps(PLAIN)[:300], "is no JSON"),
        (b"\x80\x02\xff garbage \0", "is no JSON"),
        ("[]", "holds a list and not an object"),
        ("null", "holds null and not an object"),
        ("{}", "has no schema version"),
        ('{"schema_version": true}', "has no schema version, but true or false"),
        ({**PLAIN, "schema_version": 99}, f"newer bench (schema version 99; this one reads {SCHEMA_VERSION}). Update"),
        (json.dumps(PLAIN).replace("12.5", "NaN"), "NaN is no number"),
        (json.dumps(PLAIN).replace("12.5", "-Infinity"), "-Infinity is no number"),
        (json.dumps(PLAIN).replace("12.5", "1e999"), "a number that is not finite"),
        (changed("metrics.parameters", 10**400), "a whole number beyond ±1e+18"),
        (json.dumps(PLAIN).replace("12.5", "1" * 5000), "is no JSON"),
        (changed("message", "\ud800"), "half of a surrogate pair"),
        (json.dumps(PLAIN).replace('"a processor"', "[" * 100_000 + "]" * 100_000), "is nested too deeply"),
        (json.dumps(PLAIN).replace("0.5]", "[" * 50 + "]" * 50 + "]"), "is nested too deeply"),
        ({**PLAIN, "trial_id": "../../evil"}, "says that it is of ../../evil/2026"),
        ({**PLAIN, "attempt": "another"}, "which its folder is not"),
        ({**PLAIN, "surprise": 1}, "has the unknown field 'surprise'"),
        (without("spec"), "lacks spec"),
        (without("environment.machine"), "has a wrong environment: lacks machine"),
        (changed("spec", None), "has a wrong spec: must be an object, not null"),
        (changed("spec.recipe.epochs", "3"), "wrong recipe: has a wrong epochs: expected a number, not a text"),
        (changed("spec.recipe.batch_size", 3.5), "expected a whole number, not a number"),
        (changed("spec.recipe.epochs", True), "expected a number, not true or false"),
        (changed("spec.dataset.label", ["a"]), "has a wrong label: expected a text, not a list"),
        (changed("spec.seed", -1), "has a seed or number of cores below 0"),
        (changed("spec.devices", 0), "or no devices"),
        (changed("environment.gpus", "one"), "has a wrong gpus: expected a list, not a text"),
        (changed("environment.packages", {"keras": 3}), "has a wrong packages: expected a text, not a whole number"),
        (changed("status", "splendid"), "'splendid' is not a valid Status"),
        (changed("status", ["ok"]), "is not a valid Status"),
        (changed("reason", "bored"), "'bored' is not a valid Reason"),
        (changed("seconds", "12"), "has a wrong seconds: expected a number, not a text"),
        (changed("phases", {"data": "long"}), "has a wrong phases: expected a number, not a text"),
        (changed("metrics", []), "has a wrong metrics: expected an object, not a list"),
        (changed("metrics.test_accuracy", "0.9"), "has metrics.test_accuracy, which must be a number, as a text"),
        (changed("metrics.test_accuracy", 90), "no metrics.test_accuracy from 0 to 1: 90"),
        (changed("metrics.test_accuracy", None), "no metrics.test_accuracy from 0 to 1: None"),
        (changed("metrics.macs", True), "has metrics.macs, which must be a number, as true or false"),
        (changed("metrics.timing_notes", "busy"), "has metrics.timing_notes or metrics.profile_notes that is no list"),
        (changed("metrics.energy_scope", 3), "has metrics.energy_scope that is no text"),
        (changed("resolved.other_trials", "many"), "has resolved.other_trials or resolved.matmul_peak_flops that is"),
        (changed("resolved.matmul_peak_flops", "fast"), "has resolved.other_trials or resolved.matmul_peak_flops that"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) and "{" not in value else "",
)
def test_a_damaged_record_is_one_clear_message_and_the_rest_is_read(tmp_path, content, said):
    put(tmp_path, content)
    problem = only_problem(tmp_path)
    assert problem.startswith(f"{tmp_path}/trials/{FILE} ")
    assert said in problem
    assert problem.endswith(("Update bench to read it.", "the other records are used."))


def test_what_tables_calculate_with_is_checked():
    assert set(AVERAGED.values()) - {"utilisation", "trial_seconds"} <= set(NUMBERS)
    assert set(NOTED.values()) == set(NOTES)


def test_a_gigantic_record_is_not_read(tmp_path):
    path = put(tmp_path, PLAIN)
    os.truncate(path, 10 * 2**40)  # sparse: it takes no disk
    assert f"has {10 * 2**40:,} bytes, more than the {MOST_RECORD_BYTES:,} that are read" in only_problem(tmp_path)


def test_a_folder_or_a_pipe_is_no_record_and_nobody_waits_for_it(tmp_path):
    path = put(tmp_path, "")
    path.unlink()
    path.mkdir()
    assert "is not a file" in only_problem(tmp_path)
    path.rmdir()
    os.mkfifo(path)
    assert "is not a file" in read_records(tmp_path).problems[0]


@pytest.mark.parametrize("level", ["trials", f"trials/{RECORD.trial_id}", str(Path(f"trials/{FILE}").parent)])
def test_a_linked_folder_is_not_followed(tmp_path, level):
    elsewhere, results = tmp_path / "elsewhere", tmp_path / "results"
    put(elsewhere, PLAIN)
    (results / level).parent.mkdir(parents=True)
    (results / level).symlink_to(elsewhere / level)
    archive = read_records(results)
    assert archive.records == ()
    assert archive == read_records(results, [RECORD.trial_id])
    (problem,) = archive.problems
    assert problem.startswith(f"{results / level} is a symbolic link, which could lead out of the results folder, and")


def test_the_results_folder_itself_may_be_a_link(tmp_path):
    put(tmp_path / "elsewhere", PLAIN)
    (tmp_path / "results").symlink_to(tmp_path / "elsewhere")
    assert read_records(tmp_path / "results") == Archive((RECORD,), ())


def test_a_linked_record_is_not_followed(tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(PLAIN))
    path = put(tmp_path / "results", "")
    path.unlink()
    path.symlink_to(secret)
    assert "is a symbolic link" in only_problem(tmp_path / "results")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_may_not_be_read_is_said(tmp_path):
    path = put(tmp_path, PLAIN)
    path.chmod(0)
    assert "cannot be read: Permission denied" in only_problem(tmp_path)
    path.chmod(0o600)
    path.parent.chmod(0)
    (problem,) = read_records(tmp_path).problems
    path.parent.chmod(0o700)
    assert "Permission denied" in problem


def test_a_place_that_is_no_folder_is_said(tmp_path):
    (tmp_path / "trials").write_text("")
    (problem,) = read_records(tmp_path).problems
    assert "trials cannot be listed: Not a directory. Mend that, or move it away; the rest is used." in problem


def test_a_long_text_of_a_record_makes_no_long_message(tmp_path):
    put(tmp_path, changed("trial_id", "x" * 10**6))
    assert len(only_problem(tmp_path)) < 1_000


# What is harmless


def test_control_characters_come_out_as_escapes(tmp_path):
    evil = f"net{ESCAPE}\u202e\r\n"
    value = changed("spec.architecture.label", evil)
    put(tmp_path, {**value, "message": evil, "metrics": {**PLAIN["metrics"], f"m{ESCAPE}": ESCAPE}})
    (record,) = read_records(tmp_path).records
    assert record.spec.architecture.label == record.message == "net\\x1b]0;title\\x07\\u202e\\r\n"
    assert "\x1b" not in json.dumps(record.to_json(), ensure_ascii=False)


def test_a_folder_with_a_wild_name_is_named_in_printable_characters(tmp_path):
    put(tmp_path, "{", trial="\x1b[2J[red]\n\udcff")
    (problem,) = read_records(tmp_path).problems
    assert problem.isprintable()
    assert "[red]" in problem


def test_markup_stays_text_in_all_tables(bench, tmp_path):
    evil = "[red]a|b[/nonsense]<script>`x`\n# c\\" + ESCAPE
    value = json.loads(json.dumps(PLAIN))
    for plugin in ("architecture", "dataset"):
        value["spec"][plugin]["label"] = evil
    value["environment"]["machine"] = value["environment"]["python"] = value["spec"]["backend"] = evil
    put(tmp_path, value)
    put_sound(tmp_path)
    code, out, err = bench("report", "--results", tmp_path)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "[red]a|b[/nonsense]<script>`x`" in out
    markdown = (tmp_path / "leaderboard.md").read_text()
    assert "<script>" not in markdown
    assert "\\[red\\]a\\|b\\[/nonsense\\]&lt;script&gt;\\`x\\` # c\\\\" in markdown
    assert not any(line.startswith("# c") for line in markdown.splitlines())
    assert sum(line.startswith("| ") for line in markdown.splitlines()) == 4  # two tables of a heading and a row
    assert len(pd.read_csv(tmp_path / "leaderboard.csv")) == 2


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    put(tmp_path, changed("spec.architecture.label", "=HYPERLINK(1)"))
    write_report(tmp_path, read_records(tmp_path).records)
    assert pd.read_csv(tmp_path / "leaderboard.csv")["architecture"].tolist() == ["'=HYPERLINK(1)"]


def test_figures_with_the_names_of_columns_take_nobodys_place(tmp_path):
    names = ["seed", "status", "trial_id", "machine", "utilisation", "resolved_other_trials", "data_seconds", "device"]
    put(tmp_path, {**PLAIN, "metrics": {**PLAIN["metrics"], **dict.fromkeys(names, "evil")}})
    write_report(tmp_path, read_records(tmp_path).records)
    trials = pd.read_parquet(tmp_path / "trials.parquet")
    assert trials.loc[0, ["seed", "status", "trial_id", "machine"]].tolist() == [
        3,
        "ok",
        RECORD.trial_id,
        "a machine, 2 cores",
    ]


def test_figures_of_several_types_share_a_column_as_text(tmp_path):
    for number, value in enumerate([1, "one", [1], {"one": 1}, True, None]):
        put(tmp_path, {**changed("metrics.odd", value), "attempt": str(number)}, attempt=str(number))
    write_report(tmp_path, read_records(tmp_path).records)
    odd = pd.read_parquet(tmp_path / "trials.parquet")["odd"]
    assert odd.fillna("").tolist() == ["1", "one", "[1]", '{"one": 1}', "true", ""]


def test_made_up_figures_cannot_fill_the_memory_with_columns(tmp_path):
    put_sound(tmp_path)
    put(tmp_path, {**PLAIN, "metrics": {**PLAIN["metrics"], **{f"made_up_{number}": 1 for number in range(5_000)}}})
    table = trials_table(read_records(tmp_path).records)
    assert len(table.columns) == MOST_COLUMNS
    assert {"test_accuracy", "train_images_per_second", "seed"} <= set(table.columns)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([10**400, LARGEST_NUMBER, -1, 0, 5e-324, "=1", "../x", "\ud800", ESCAPE, [], {}, [[]], {"a": {}}]),
    st.recursive(st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
)


def places(value, path=()):
    """Return the path of each value inside of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(each for name, item in inner for each in places(item, (*path, name)))]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), VALUES, st.sampled_from(["set", "delete", "add"])), max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 3_000)),
)
def test_whatever_is_changed_in_records_is_a_problem_or_tabulates(tmp_path_factory, changes, cut):
    folder = tmp_path_factory.mktemp("mutated")
    value = json.loads(json.dumps(PLAIN))
    for index, drawn, action in changes:
        new = json.loads(json.dumps(drawn))
        every = [path for path in places(value) if path]
        *outer, name = every[index % len(every)]
        inner = value
        for each in outer:
            inner = inner[each]
        if action == "delete":
            del inner[name]
        elif action == "add" and isinstance(inner, dict):
            inner[f"{name}_{index % 7}"] = new
        else:
            inner[name] = new
        if not [path for path in places(value) if path]:
            break
    content = json.dumps(value)
    put(folder, content[:cut] if cut is not None and cut < len(content) else content)
    for seed in range(2):
        put_sound(folder, seed)
    archive = read_records(folder)
    assert len(archive.records) + len(archive.problems) == 3
    table = write_report(folder, archive.records)
    assert 1 <= len(table) <= 2
    assert len(pd.read_parquet(folder / "trials.parquet")) == len(archive.records)
    assert all(problem.isprintable() for problem in archive.problems)


# Predictions


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_predictions_come_back(tmp_path):
    write_predictions(tmp_path, np.eye(3, dtype=np.float16), np.arange(3), np.eye(3, dtype=int))
    stored = read_predictions(tmp_path)
    np.testing.assert_array_equal(stored.logits, np.eye(3))
    np.testing.assert_array_equal(stored.labels, np.arange(3))
    with pytest.raises(FileNotFoundError):
        read_predictions(tmp_path / "absent")


def test_a_pickle_in_predictions_is_never_loaded(tmp_path):
    bomb = np.array([Bomb(tmp_path / "boom")], dtype=object)
    np.savez(tmp_path / "predictions.npz", labels=np.arange(1), logits=bomb)
    with pytest.raises(StoreError, match=r"predictions\.npz has logits that is no plain array of numbers: object"):
        read_predictions(tmp_path)
    (tmp_path / "predictions.npz").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    with pytest.raises(StoreError, match="is not a whole npz file"):
        read_predictions(tmp_path)
    assert not (tmp_path / "boom").exists()


def array_file(shape, dtype="<f4", content=b""):
    """Return an .npy file whose header claims that shape."""
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def write_archive(folder, logits, labels=None, **options):
    with zipfile.ZipFile(folder / "predictions.npz", "w", **options) as file:
        file.writestr("labels.npy", labels or array_file((1,), "<i4", b"\0" * 4))
        file.writestr("logits.npy", logits)


@pytest.mark.parametrize("shape", [(10**9, 10**6), (1, -1), (-5, -5), (2, 3)])
def test_a_shape_that_the_file_does_not_hold_takes_no_memory(tmp_path, shape):
    write_archive(tmp_path, array_file(shape, content=b"\0" * 8))
    with pytest.raises(StoreError, match=r"predictions\.npz has logits that is no plain array of numbers"):
        read_predictions(tmp_path)


def test_an_array_that_would_take_gigabytes_is_not_decompressed(tmp_path):
    write_archive(tmp_path, array_file((1, 1), content=b"\0" * 4), compression=zipfile.ZIP_DEFLATED)
    path = tmp_path / "predictions.npz"
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", MOST_PREDICTION_BYTES + 1)  # its decompressed size
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"bytes of logits, more than 1,073,741,824"):
        read_predictions(tmp_path)


def test_a_zip_file_of_many_members_is_not_listed(tmp_path):
    with zipfile.ZipFile(tmp_path / "predictions.npz", "w") as file:
        for number in range(100):
            file.writestr(f"{number}.npy", b"")
    with pytest.raises(StoreError, match="has more members than an npz file of predictions"):
        read_predictions(tmp_path)


def test_predictions_that_do_not_fit_are_said(tmp_path):
    np.savez(tmp_path / "predictions.npz", labels=np.arange(3), logits=np.eye(2))
    with pytest.raises(StoreError, match=r"has logits \(2, 2\) that do not fit its labels \(3,\)"):
        read_predictions(tmp_path)
    np.savez(tmp_path / "predictions.npz", logits=np.eye(2))
    with pytest.raises(StoreError, match=r"labels\.npy"):
        read_predictions(tmp_path)
    write_archive(tmp_path, array_file((1, 1), content=b"\0" * 4), compression=zipfile.ZIP_LZMA)
    with pytest.raises(StoreError, match="in a compression that NumPy does not write"):
        read_predictions(tmp_path)


def test_gigantic_or_linked_predictions_are_not_opened(tmp_path):
    path = tmp_path / "predictions.npz"
    path.write_bytes(b"")
    os.truncate(path, 2**40)
    with pytest.raises(StoreError, match="bytes, more than"):
        read_predictions(tmp_path)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(StoreError, match="is a symbolic link"):
        read_predictions(tmp_path)


def test_damaged_predictions_never_raise_anything_else(tmp_path):
    write_predictions(tmp_path, np.eye(3, dtype=np.float32), np.arange(3), np.eye(3, dtype=int))
    path = tmp_path / "predictions.npz"
    sound, draw, messages = path.read_bytes(), random.Random(0), set()
    for _ in range(500):
        content = bytearray(sound)
        for _ in range(draw.randrange(1, 6)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content[: draw.choice([len(content), draw.randrange(len(content))])])
        try:
            read_predictions(tmp_path)
        except StoreError as error:
            messages.add(str(error).split()[0])
    assert messages == {"predictions.npz"}


# What the commands say


def test_report_goes_on_without_what_it_cannot_read(bench, tmp_path):
    put(tmp_path, "{")
    put_sound(tmp_path)
    code, out, err = bench("report", "--results", tmp_path)
    assert code == 0
    assert err.count("bench: warning: ") == 1
    assert f"{FILE} is no JSON" in err
    assert "net" in out


@pytest.mark.parametrize("command", [("report",), ("compare", "one", "two")])
def test_without_any_sound_record_the_first_problem_is_the_error(bench, tmp_path, command):
    put(tmp_path, "{")
    put(tmp_path, "[]", attempt="20270101")
    code, _, err = bench(*command, "--results", tmp_path)
    assert code == 2
    assert f"bench: error: no record in {tmp_path} can be read: {tmp_path}/trials/{FILE} is no JSON" in err
    assert err.rstrip().endswith("And 1 more such problems.")


def test_compare_prints_problems_too(bench, tmp_path):
    put(tmp_path, "{")
    put_sound(tmp_path)
    code, _, err = bench("compare", "net", "two", "--results", tmp_path)
    assert code == 2
    assert "bench: warning: " in err
    assert "unknown architecture 'two'" in err


def test_many_problems_are_counted(capsys):
    print_problems([f"problem {number}" for number in range(MOST_PROBLEMS + 5)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "bench: warning: problem 0"
    assert lines[MOST_PROBLEMS:] == ["bench: warning: and 5 more such problems"]


def test_a_failure_is_printed_with_the_end_of_its_log(capsys, tmp_path):
    log = "\n".join(["first", *map(str, range(9)), f"[bold]last[/]{ESCAPE}"])
    value = {**PLAIN, "status": "failed", "reason": Reason.EXCEPTION, "message": "[red]no[/]", "log_tail": log}
    record = TrialRecord.from_json(value)
    print_failure(record, tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("failed, exception: net on data, seed 3: [red]no[/] (record: ")
    assert lines[1:] == [*(f"    {number}" for number in range(9)), "    [bold]last[/]\\x1b]0;title\\x07"]


def test_nesting_up_to_the_limit_is_read(tmp_path):
    inner = 0
    for _ in range(DEEPEST - 2):  # below the record and its metrics
        inner = [inner]
    put(tmp_path, changed("metrics.deep", inner))
    assert read_records(tmp_path).problems == ()
