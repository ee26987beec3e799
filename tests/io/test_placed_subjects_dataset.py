"""The table of placed subjects is added to, whole or not at all, by runs side by side."""

import multiprocessing

import pandas as pd
import pytest
from kedro.io import DatasetError

from hbn_foundation.errors import UserError
from hbn_foundation.io.placed_subjects import PlacedSubjectsDataset


def rows(subjects, split: str = "train") -> pd.DataFrame:
    return pd.DataFrame(
        {"division": "seed 0", "method": "hash", "subject": list(subjects), "split": split}
    )


def add(path: str, number: int) -> None:
    for part in range(5):
        PlacedSubjectsDataset(filepath=path).save(rows([f"00{number}{part}"]))


def test_names_keep_their_zeros_and_no_file_is_an_empty_table(tmp_path):
    dataset = PlacedSubjectsDataset(filepath=str(tmp_path / "deep" / "placed.csv"))
    assert dataset.load().empty
    assert not dataset.exists()
    dataset.save(rows([]))
    assert not dataset.exists()
    dataset.save(rows(["001", "NA"]))
    dataset.save(rows(["NA", "1e3"]))
    assert dataset.load()["subject"].tolist() == ["001", "NA", "1e3"]


def test_a_subject_that_was_placed_otherwise_is_named_and_nothing_is_lost(tmp_path):
    dataset = PlacedSubjectsDataset(filepath=str(tmp_path / "placed.csv"))
    dataset.save(rows(["001", "002"]))
    with pytest.raises(DatasetError) as caught:
        dataset.save(rows(["002", "003"], "test"))
    assert isinstance(caught.value.__cause__, UserError)
    assert "(002)" in str(caught.value.__cause__)
    assert len(dataset.load()) == 2


def test_a_file_that_someone_has_changed_is_named(tmp_path):
    (tmp_path / "placed.csv").write_text("subject,split\na,train\n")
    with pytest.raises(DatasetError) as caught:
        PlacedSubjectsDataset(filepath=str(tmp_path / "placed.csv")).load()
    assert isinstance(caught.value.__cause__, UserError)
    says = "placed.csv: expected the columns division and method and subject and"
    assert says in str(caught.value.__cause__)


def test_runs_side_by_side_lose_no_subject(tmp_path):
    path = str(tmp_path / "placed.csv")
    workers = [
        multiprocessing.get_context("fork").Process(target=add, args=(path, k)) for k in (1, 2, 3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(PlacedSubjectsDataset(filepath=path).load()) == 15
    assert not list(tmp_path.glob("*.tmp"))
