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
FOLDERS = sorted(path.parent for path in REFERENCE.rglob("trials"))
pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="not in a checkout")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_leaderboard_is_made_from_the_records(folder, tmp_path):
    table = leaderboard(read_records(folder).records)
    assert (folder / "leaderboard.md").read_text(encoding="utf-8") == to_markdown(table)
    table.to_csv(tmp_path / "leaderboard.csv", index=False)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "leaderboard.csv"), pd.read_csv(folder / "leaderboard.csv"), check_exact=False
    )


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_record_is_borne_out_by_its_predictions(folder):
    records = read_records(folder).records
    assert records
    for record in records:
        assert record.status == Status.OK
        with np.load(folder / "trials" / record.trial_id / record.attempt / "predictions.npz") as stored:
            assert stored["logits"].dtype in (np.float16, np.float32)
            accuracy = accuracy_score(stored["labels"], stored["logits"].argmax(axis=1))
        assert accuracy == pytest.approx(record.metrics["test_accuracy"], abs=0.001)  # float16 rounds a few ties


def test_all_of_it_is_small():
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) < 20e6
