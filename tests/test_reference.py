"""The committed reference results: real records, and the leaderboard that is made from them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from bench.archive import read_records
from bench.records import Status
from bench.report.files import to_markdown
from bench.report.tables import leaderboard

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"
pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="not in a checkout")


def test_the_leaderboard_is_made_from_the_records(tmp_path):
    table = leaderboard(read_records(REFERENCE).records)
    assert (REFERENCE / "leaderboard.md").read_text(encoding="utf-8") == to_markdown(table)
    table.to_csv(tmp_path / "leaderboard.csv", index=False)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "leaderboard.csv"), pd.read_csv(REFERENCE / "leaderboard.csv"), check_exact=False
    )


def test_every_record_is_borne_out_by_its_predictions():
    records = read_records(REFERENCE).records
    assert len(records) >= 10
    for record in records:
        assert record.status == Status.OK
        with np.load(REFERENCE / "trials" / record.trial_id / record.attempt / "predictions.npz") as stored:
            assert stored["logits"].dtype == np.float16
            accuracy = accuracy_score(stored["labels"], stored["logits"].argmax(axis=1))
        assert accuracy == pytest.approx(record.metrics["test_accuracy"], abs=0.001)  # float16 rounds a few ties


def test_all_of_it_is_small():
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) < 20e6
