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


@pytest.fixture
def store(tmp_path):
    for folder in ("signals", "journal"):
        (tmp_path / folder).mkdir()
    return tmp_path


def test_what_is_added_is_found_before_and_after_it_is_merged(store):
    first = Journal(store)
    first.add(failure("old", "first"))
    first.add(failure(reason="second"))
    for merged in (False, True):
        again = Journal(store)
        assert {c: row["reason"] for c, row in again.known(*KEY).items()} == {
            "old": "first",
            "content": "second",
        }
        assert again.find(*KEY, SIGNATURE)["reason"] == "first"
        assert again.find(*KEY, [("sub-1_eeg.edf", 11, 5)]) is None
        assert not again.known("sub-2", "cleaning")
        assert bool(list(store.glob("journal/*.jsonl"))) is not merged
        first.merge()
    assert (store / "cleaned.parquet").is_file()


def test_a_journal_that_another_build_writes_is_read_and_left(store):
    running, other = Journal(store), Journal(store)
    running.add(failure("a"))
    other.add(failure("b"))
    other.merge()
    assert len(list(store.glob("journal/*.jsonl"))) == 1
    running.add(failure("c"))
    running.merge()
    assert not list(store.glob("journal/*.jsonl"))
    assert set(Journal(store).known(*KEY)) == {"a", "b", "c"}


def test_a_damaged_table_is_named(store):
    (store / "cleaned.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"cleaned.parquet: cannot be read .*; restore it, or rem"):
        Journal(store)
