"""What a build has cleaned is known to the next one, whatever became of either."""

import json

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.signals.clean_task import describe_failure
from hbn_foundation.signals.journal import Journal

SIGNATURE = [("sub-1_eeg.edf", 10, 5)]
KEY = ("sub-1", "cleaning")


def failure(content: str = "content", reason: str = "odd") -> dict:
    row = describe_failure({"recording": "sub-1"}, reason, content, "cleaning")
    return {**row, "files": json.dumps(SIGNATURE)}


def test_what_is_added_is_found_before_and_after_it_is_merged(tmp_path):
    first = Journal(tmp_path)
    first.add(failure("old", "first"))
    first.add(failure(reason="second"))
    for merged in (False, True):
        again = Journal(tmp_path)
        assert {c: row["reason"] for c, row in again.known(*KEY).items()} == {
            "old": "first",
            "content": "second",
        }
        assert again.find(*KEY, SIGNATURE)["reason"] == "first"
        assert again.find(*KEY, [("sub-1_eeg.edf", 11, 5)]) is None
        assert not again.known("sub-2", "cleaning")
        assert (tmp_path / "journal.jsonl").exists() is not merged
        first.merge()
    assert (tmp_path / "cleaned.parquet").is_file()


def test_builds_side_by_side_lose_nothing(tmp_path):
    running, other = Journal(tmp_path), Journal(tmp_path)
    running.add(failure("a"))
    other.add(failure("b"))
    other.merge()
    assert not (tmp_path / "journal.jsonl").exists()
    running.add(failure("c"))
    running.merge()
    assert set(Journal(tmp_path).known(*KEY)) == {"a", "b", "c"}


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "cleaned.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"cleaned.parquet: cannot be read .*; restore it, or rem"):
        Journal(tmp_path)
