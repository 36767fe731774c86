import dataclasses
import json

import numpy as np
import pytest

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


def commit(store, **changes):
    attempt = store.begin(SPEC.trial_id)
    return attempt.commit(record(attempt=attempt.name, **changes), [EPOCH])


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


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema_version": 1}', "{"])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    folder = commit(Store(tmp_path))
    (folder / "record.json").write_text(text)
    with pytest.raises(StoreError, match=r"record\.json (is not a record|has schema version None)"):
        Store(tmp_path).records()


def test_a_record_of_another_schema_is_refused(tmp_path):
    folder = commit(Store(tmp_path))
    value = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**value, "schema_version": 99}))
    with pytest.raises(StoreError, match="has schema version 99, this bench reads 1"):
        Store(tmp_path).records()


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
    attempt = Store(tmp_path).begin(SPEC.trial_id)
    (attempt.folder / "record.json").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"record of net-data-seed3-\w+ cannot be written: .*No space left on device"):
        attempt.commit(record(attempt=attempt.name), [])


def test_every_field_of_a_record_is_json():
    assert set(json.loads(json.dumps(record().to_json()))) == {item.name for item in dataclasses.fields(TrialRecord)}
