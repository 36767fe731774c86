import dataclasses
import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from bench import store as store_module
from bench.environment import Device, describe
from bench.errors import StoreError
from bench.events import Epoch
from bench.records import Reason, Status, TrialRecord
from bench.store import Store, write_predictions
from tests.test_spec import SPEC

ENVIRONMENT = describe(Device("CPU", "a processor"), "tensorflow")
EPOCH = Epoch(1, 10, 2.0, 0.1, None, None, 0.01, 1.0, 100.0)


def record(**changes):
    values = {
        "trial_id": SPEC.trial_id,
        "attempt": "20260101T000000.000000Z-aaaa",
        "status": Status.OK,
        "spec": SPEC,
        "environment": ENVIRONMENT,
        "started_at": "2026-01-01T00:00:00+00:00",
        "seconds": 12.5,
        "metrics": {"test_accuracy": 0.5},
        "phases": {"data": 0.1},
        "resolved": {"device": "CPU"},
    }
    return TrialRecord(**{**values, **changes})


def commit(store, keep_checkpoint=False, **changes):
    attempt = store.begin(SPEC.trial_id)
    return attempt.commit(record(attempt=attempt.name, **changes), [EPOCH], keep_checkpoint=keep_checkpoint)


def test_a_record_reads_back(tmp_path):
    store = Store(tmp_path)
    folder = commit(store, status=Status.FAILED, reason=Reason.BAD_MODEL, message="no", traceback="where")
    assert folder.parent == tmp_path / "trials" / SPEC.trial_id
    (read,) = store.records()
    assert read == record(
        attempt=folder.name, status=Status.FAILED, reason=Reason.BAD_MODEL, message="no", traceback="where"
    )
    assert (folder / "history.csv").read_text().splitlines()[0].startswith("epoch,steps,train_loss,train_accuracy,")


def test_another_attempt_adds_a_folder_and_touches_no_other(tmp_path):
    store = Store(tmp_path)
    first = commit(store)
    before = (first / "record.json").read_bytes()
    second = commit(store, status=Status.DIVERGED, reason=Reason.NON_FINITE_LOSS)
    assert first != second
    assert (first / "record.json").read_bytes() == before
    assert [each.status for each in store.records()] == [Status.OK, Status.DIVERGED]  # oldest first


def test_an_attempt_that_is_being_made_is_no_record(tmp_path):
    store = Store(tmp_path)
    attempt = store.begin(SPEC.trial_id)
    attempt.log.write_text("training")
    assert store.records() == []


def test_predictions_hold_no_pickles(tmp_path):
    write_predictions(tmp_path, np.eye(3, dtype=np.float16), np.arange(3), np.eye(3, dtype=int))
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as stored:
        assert {name: stored[name].dtype.name for name in stored} == {
            "logits": "float16",
            "labels": "int32",
            "confusion_matrix": "int32",
        }
        np.testing.assert_array_equal(stored["logits"], np.eye(3))


def test_a_results_folder_that_cannot_be_made_is_one_clear_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the results folder .* cannot be written: .* --results"):
        Store(tmp_path / "file" / "results").check_writable()
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file").begin(SPEC.trial_id)


def test_a_record_that_finds_no_room_says_so(tmp_path):
    """On a real full disk: /dev/full takes the place of the temporary file."""
    attempt = Store(tmp_path).begin(SPEC.trial_id)
    (attempt.folder / "history.csv").symlink_to("/dev/full")
    tidy, store_module.tidy = store_module.tidy, lambda folder: None
    try:
        with pytest.raises(StoreError, match=r"record of net-data-seed3-\w+ cannot be written: .*No space left on dev"):
            attempt.commit(record(attempt=attempt.name), [EPOCH] * 1_000, keep_checkpoint=False)
    finally:
        store_module.tidy = tidy
    assert list(tmp_path.glob("trials/*")) == []  # no trace of it


def test_every_field_of_a_record_is_json():
    assert set(json.loads(json.dumps(record().to_json()))) == {item.name for item in dataclasses.fields(TrialRecord)}


def test_a_trial_that_is_being_made_is_claimed(tmp_path):
    first = Store(tmp_path).begin(SPEC.trial_id)
    assert Store(tmp_path).begin(SPEC.trial_id) is None
    first.abandon()
    assert list((tmp_path / "trials").iterdir()) == []  # neither claim nor folder is left
    assert Store(tmp_path).begin(SPEC.trial_id) is not None


CLAIM_AND_WAIT = """
import sys, time
from pathlib import Path
from bench.store import Store
attempt = Store(Path(sys.argv[1])).begin(sys.argv[2])
(attempt.folder / "log.txt").write_text("half")
print("claimed", flush=True)
time.sleep(600)
"""


@pytest.fixture
def dead_claim(tmp_path):
    """A claim of a process that was killed, with its unfinished attempt."""
    arguments = [sys.executable, "-c", CLAIM_AND_WAIT, str(tmp_path), SPEC.trial_id]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "claimed\n"
        assert Store(tmp_path).begin(SPEC.trial_id) is None
        other.kill()
    (trial,) = (tmp_path / "trials").iterdir()
    assert len(list(trial.iterdir())) == 2
    return trial


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "results" / "trials").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results" / "trials" / SPEC.trial_id).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link, through which nothing is written"):
        Store(tmp_path / "results").begin(SPEC.trial_id)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_claim_of_a_dead_process_is_taken_over(tmp_path, dead_claim):
    attempt = Store(tmp_path).begin(SPEC.trial_id)
    assert {path.name for path in dead_claim.iterdir()} == {".claim", attempt.folder.name}


def test_what_a_dead_process_left_is_swept_up(tmp_path, dead_claim):
    (tmp_path / ".leaderboard.csv.4194304@elsewhere.tmp").write_text("another machine's, which may live")
    (tmp_path / f".leaderboard.csv.4194304@{platform.node()}.tmp").write_text("no process has that number")
    Store(tmp_path).sweep_up()
    assert {path.name for path in tmp_path.rglob("*")} == {"trials", ".leaderboard.csv.4194304@elsewhere.tmp"}


REPORT_AND_DIE = """
import os, signal, sys
from pathlib import Path
import pandas as pd
from bench.report.files import write_report
pd.DataFrame.to_csv = lambda *_, **__: Path(_[1]).write_text("half") and os.kill(os.getpid(), signal.SIGKILL)
write_report(Path(sys.argv[1]), [])
"""


def test_half_a_report_of_a_killed_process_is_swept_up(tmp_path):
    subprocess.run([sys.executable, "-c", REPORT_AND_DIE, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    Store(tmp_path).sweep_up()
    assert list(tmp_path.iterdir()) == []


def test_what_lives_is_not_swept_up(tmp_path):
    attempt = Store(tmp_path).begin(SPEC.trial_id)
    Store(tmp_path).sweep_up()
    assert attempt.folder.is_dir()
    assert Store(tmp_path).begin(SPEC.trial_id) is None


def test_many_processes_never_share_a_claim(tmp_path):
    """Each adds one to a file that only the holder of the claim may touch, reading and writing in two steps."""
    (tmp_path / "count").write_text("0")
    script = """
import sys, time
from pathlib import Path
from bench.store import Store
folder = Path(sys.argv[1])
for _ in range(40):
    while (attempt := Store(folder).begin("trial")) is None:
        time.sleep(0)
    count = int((folder / "count").read_text())
    time.sleep(0.0005)
    (folder / "count").write_text(str(count + 1))
    attempt.abandon()
"""
    others = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(4)]
    assert [other.wait() for other in others] == [0] * 4
    assert (tmp_path / "count").read_text() == "160"
    assert list((tmp_path / "trials").iterdir()) == []


def test_only_what_belongs_to_an_attempt_is_kept_and_of_a_long_log_both_ends(tmp_path):
    attempt = Store(tmp_path).begin(SPEC.trial_id)
    (attempt.folder / "more").mkdir()
    (attempt.folder / "more" / "of it").write_text("x")
    (attempt.folder / "huge.bin").write_bytes(b"x" * 10_000)
    attempt.log.write_text("first\n" + "x" * 3_000_000 + "\nlast")
    assert attempt.log_tail().endswith("\nlast")
    folder = attempt.commit(record(attempt=attempt.name), [EPOCH], keep_checkpoint=False)
    assert {path.name for path in folder.iterdir()} == {"record.json", "history.csv", "log.txt"}
    log = (folder / "log.txt").read_text()
    assert log.startswith("first\n")
    assert log.endswith("\nlast")
    assert "bytes are left out here]" in log
    assert len(log) < 2_200_000


def test_a_checkpoint_is_kept_for_those_who_go_on_with_it_alone(tmp_path):
    store = Store(tmp_path)
    store.begin(SPEC.trial_id).checkpoint.write_text("state")
    store = Store(tmp_path)
    (tmp_path / "trials" / SPEC.trial_id / ".claim").unlink()
    folder = commit(store, keep_checkpoint=True, status=Status.INTERRUPTED, reason=Reason.USER)
    checkpoint = folder.parent / ".checkpoint.npz"
    assert checkpoint.exists()
    commit(store)
    assert not checkpoint.exists()


@pytest.mark.parametrize("ends", ["commit", "abandon"])
def test_half_a_checkpoint_of_a_trial_that_was_killed_while_saving_goes_with_its_attempt(tmp_path, ends):
    attempt = Store(tmp_path).begin(SPEC.trial_id)
    half = attempt.checkpoint.with_name(f".{attempt.checkpoint.name}.1@elsewhere.tmp")
    half.write_bytes(b"half of it")
    if ends == "commit":
        attempt.commit(record(attempt=attempt.name), [], keep_checkpoint=True)
    else:
        attempt.abandon()
    assert not half.exists()


def test_a_checkpoint_that_a_killed_process_has_left_after_its_record_is_not_gone_on_with(tmp_path):
    store = Store(tmp_path)
    trial = commit(store, status=Status.DIVERGED, reason=Reason.NON_FINITE_LOSS).parent
    (trial / ".checkpoint.npz").write_text("state")
    os.utime(trial / ".checkpoint.npz", (0, 0))  # saved before the record was written
    store.begin(SPEC.trial_id).abandon()
    assert not (trial / ".checkpoint.npz").exists()


def test_a_claim_that_is_a_link_or_a_folder_is_not_written_through(tmp_path):
    store, other = Store(tmp_path / "results"), tmp_path / "other.txt"
    other.write_text("somebody's work")
    trial = store.folder / "trials" / SPEC.trial_id
    trial.mkdir(parents=True)
    (trial / ".claim").symlink_to(other)
    store.sweep_up()
    with pytest.raises(StoreError, match="cannot be written"):
        store.begin(SPEC.trial_id)
    assert other.read_text() == "somebody's work"
    (trial / ".claim").unlink()
    (trial / ".claim").mkdir()
    store.sweep_up()
    with pytest.raises(StoreError, match="cannot be written"):
        store.begin(SPEC.trial_id)
