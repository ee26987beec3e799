"""What a build has cleaned is known to the next one, whatever became of either."""

import json

import numpy as np
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.clean import CleanedRecording
from hbn_foundation.recordings.timeline import Timeline
from hbn_foundation.signals.clean_task import describe, describe_failure, signal_file
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


def test_the_last_line_of_a_killed_build_may_be_cut(store):
    lines = [json.dumps(failure()), json.dumps(failure("other"))[:90]]
    (store / "journal" / "1-a.jsonl").write_text("\n".join(lines))
    Journal(store).merge()
    assert list(Journal(store).known(*KEY)) == ["content"]
    assert not list(store.glob("journal/*.jsonl"))


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


def test_a_signal_that_is_lost_is_not_known(store):
    cleaned = CleanedRecording(("A",), np.eye(3)[:1], np.ones(1), Timeline.unbroken(9, 100.0))
    Journal(store).add(describe({"recording": "sub-1"}, cleaned, "content", "cleaning"))
    assert not Journal(store).known(*KEY)
    signal_file(store, "sub-1", "content", "cleaning").touch()
    assert list(Journal(store).known(*KEY)) == ["content"]


def test_a_damaged_table_is_named(store):
    (store / "cleaned.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"cleaned.parquet: cannot be read .*; restore it, or rem"):
        Journal(store)
