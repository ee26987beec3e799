"""What is known about the subjects is read as written."""

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.labels.participants import read_participants


def write(root, text: str):
    (root / "participants.tsv").write_text(text, encoding="utf-8-sig")
    return root


def test_names_lose_their_prefix_and_keep_their_zeros(tmp_path):
    table = read_participants(
        write(tmp_path, "age\tparticipant_id\tsite\n7.5\tsub-007\tNA\nn/a\t012\tRU\n")
    )
    assert table.columns.tolist() == ["subject", "age", "site"]
    assert table["subject"].tolist() == ["007", "012"]
    assert table["age"].isna().tolist() == [False, True]
    assert table["site"].tolist() == ["NA", "RU"]


def test_missing_table_gives_the_folders_and_a_line(tmp_path, caplog):
    for name in ("sub-02", "sub-01", "code"):
        (tmp_path / name).mkdir()
    with caplog.at_level("INFO"):
        table = read_participants(tmp_path)
    assert table["subject"].tolist() == ["01", "02"]
    assert "participants.tsv is missing" in caplog.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("subject\tage\n1\t2\n", "expected a column participant_id, found subject, age"),
        ("participant_id\nsub-1\n1\n", "several of 1"),
        ("", "not a tab-separated table"),
    ],
)
def test_a_broken_table_is_said_in_one_line(tmp_path, text, says):
    with pytest.raises(UserError, match=says) as caught:
        read_participants(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_real_tables(eegmat_root, hbn_metadata_root):
    assert len(read_participants(eegmat_root)) == 20
    table = read_participants(hbn_metadata_root / "ds005505")
    assert table["p_factor"].dtype == float
    assert table["subject"].str.startswith("NDAR").all()
