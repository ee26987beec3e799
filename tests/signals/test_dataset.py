"""The counts of a data set add up, and a saved one comes back."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from hbn_foundation.signals.dataset import EEGDataset, dataset_statistics


@pytest.fixture
def data() -> EEGDataset:
    recordings = pd.DataFrame(
        {
            "recording": ["a-rest", "a-sums", "b-rest", "c-rest", "d-rest"],
            "subject": ["a", "a", "b", "c", "d"],
            "task": ["rest", "sums", "rest", "rest", "rest"],
            "duration": [1800.0, 900.0, 900.0, None, 3600.0],
            "n_channels": [19, 19, 18, None, 19],
            "status": ["ok", "ok", "ok", "failed", "ok"],
            "reason": [None, None, None, "truncated", None],
        }
    )
    splits = pd.DataFrame(
        {"subject": ["a", "b", "c"], "split": ["train", "validation", "test"], "stratum": "all"}
    )
    participants = pd.DataFrame(
        {"subject": ["a", "b", "c"], "age": [7.0, 9.0, None], "sex": ["F", "M", None]}
    )
    windows = pd.DataFrame({"subject": ["a"] * 6 + ["b"] * 2, "task": ["rest", "sums"] * 4})
    return EEGDataset(SimpleNamespace(table=recordings), windows, splits, participants)


def test_rows_are_splits_and_their_total(data):
    summary, table = dataset_statistics(data)
    table = table.set_index("split")
    assert table.index.tolist() == ["train", "validation", "test", "total"]
    assert table.loc["train", ["subjects", "recordings", "windows"]].tolist() == [1, 2, 6]
    assert table.loc["train", "hours"] == 0.75
    # Subject d is in no split: its hour belongs to no row.
    assert table.loc["total", "hours"] == 1.0
    assert table.loc["total", "failed"] == 1
    assert table.loc["total", ["sex_F", "sex_M", "sex_unknown"]].tolist() == [1, 1, 1]
    assert table.loc["total", "age_mean"] == 8.0
    counted = table.drop("total")[["subjects", "recordings", "windows", "hours", "failed"]].sum()
    assert (counted == table.loc["total", counted.index].astype(float)).all()
    assert summary["failed"] == {"count": 1, "of": 5, "reasons": {"c-rest": "truncated"}}
    assert summary["channels"] == {"min": 18, "median": 19.0, "max": 19}
    assert summary["tasks"]["sums"]["windows"] == 4


def test_it_is_json_even_where_nothing_is_known(data):
    summary, _ = dataset_statistics(data)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["balance"]["train"] == {"rest": 0.5, "sums": 0.5}
    assert summary["balance"]["test"] == {"rest": 0, "sums": 0}
    bare, table = dataset_statistics(data.replace(participants=data.participants[["subject"]]))
    json.dumps(bare, allow_nan=False)
    assert "age_mean" not in table
