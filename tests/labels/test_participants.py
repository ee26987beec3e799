"""What is known about the subjects is read as written."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.labels.participants import (
    EXCLUDED_SUBJECTS,
    FACTORS,
    challenge_subjects,
    factor_table,
    is_excluded,
    participants_of,
    read_participants,
)

RELEASES = {"ds005505": 136, "ds005506": 150, "ds005507": 184, "ds005508": 324, "ds005509": 330}


def rooted(root, labels, text: str | bytes, **files: str):
    """Write folders and participants.tsv; return the root."""
    for label in labels:
        (root / f"sub-{label}").mkdir()
    content = text if isinstance(text, bytes) else text.encode()
    (root / "participants.tsv").write_bytes(content)
    for name, other in files.items():
        (root / f"{name}.json").write_text(other)
    return root


def test_names_lose_their_prefix_and_keep_their_zeros(tmp_path):
    text = "age\tparticipant_id\tsite\n7.5\tsub-007\tNA\nn/a\t012\tRU\n"
    table = read_participants(rooted(tmp_path, [], text))
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


def test_no_column_that_names_subjects_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match="column participant_id, found subject, age") as caught:
        read_participants(rooted(tmp_path, ["01"], "subject\tage\nA\t2\n"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "ids", "read", "says"),
    [
        (["001", "002"], ["1", "2"], ["001", "002"], "2 of 2 .* 1 is read as sub-001"),
        (["001", "002"], ["1.0", "sub-2"], ["001", "002"], "2 of 2"),
        (["1", "02"], ["001", "sub-02"], ["1", "02"], "1 of 2 .* 001 is read as sub-1"),
        (["P01", "P2"], ["p1", "sub_P02"], ["P01", "P2"], "2 of 2"),
        (["1", "01"], ["1", "001"], ["1", "001"], "no row of 1 of 2 subjects .01."),
        (["001"], ["1", "01"], ["1", "01"], "no row of 1 of 1 subjects .*its rows are of 1, 01"),
        (["001"], ["001", "1"], ["001", "1"], None),
        (["A"], ["Q"], ["Q"], r"no row of 1 of 1 subjects \(A\): .* rows are of Q"),
    ],
)
def test_rows_meet_folders_where_one_alone_can_be_meant(tmp_path, caplog, labels, ids, read, says):
    text = "participant_id\tage\n" + "".join(f"{name}\t{5 + k}\n" for k, name in enumerate(ids))
    with caplog.at_level("INFO"):
        table = read_participants(rooted(tmp_path, labels, text))
    assert table["subject"].tolist() == read
    assert table["age"].tolist() == [5 + k for k in range(len(ids))]
    assert re.search(says, caplog.text) if says else not caplog.text


def test_a_column_of_another_name_may_name_the_subjects(tmp_path, caplog):
    text = "Nr\tSubject\tAge\tGender\n7\tsub-01\t8,5\tweiblich\n8\tsub-02\t9\tM\n"
    with caplog.at_level("INFO"):
        table = read_participants(rooted(tmp_path, ["01", "02"], text))
    assert table["subject"].tolist() == ["01", "02"]
    assert table["age"].tolist() == [8.5, 9.0]
    assert "no column participant_id; Subject names the subjects" in caplog.text
    assert "column Age is read as age" in caplog.text
    assert "column Gender is read as sex" in caplog.text
    assert "sex: 1 of 2 values recognised as F or M; unknown are weiblich" in caplog.text


def test_numbers_are_read_as_people_write_them_or_named(tmp_path, caplog):
    ages = ["8,5", "9", "89+", "18-38", "n/a", "12y", ",5", "1e1", "NA", "> 89"]
    text = "participant_id\tage\tdose\tname\n" + "".join(
        f"sub-0{k}\t{age}\t{k}\t{'1e3' if k < 5 else '1000'}\n" for k, age in enumerate(ages)
    )
    with caplog.at_level("INFO"):
        table = read_participants(rooted(tmp_path, [f"0{k}" for k in range(10)], text))
    known = [8.5, 9.0, 89.0, None, None, None, 0.5, 10.0, None, 89.0]
    pd.testing.assert_series_equal(table["age"], pd.Series(known, name="age", dtype=float))
    assert table["dose"].dtype == "int64"
    assert table["name"].tolist() == ["1e3"] * 5 + ["1000"] * 5  # which are not one number
    assert "participants.tsv: age: 4 of 9 values are written as 8,5 is, which is read as 8.5" in (
        caplog.text
    )
    assert "age: 6 of 9 values recognised as a number; unknown are 18-38, 12y, NA" in caplog.text


def test_what_means_unknown_among_numbers_and_sexes(tmp_path, caplog):
    text = "participant_id\tsex\tscore\tsite\n1\tF\t2\tNA\n2\tM\tNA\tEU\n3\tNA\t.\tEU\n"
    with caplog.at_level("INFO"):
        table = read_participants(rooted(tmp_path, ["1", "2", "3"], text))
    assert table["score"].tolist()[0] == 2.0
    assert table["score"].isna().tolist() == [False, True, True]
    assert table["sex"].isna().tolist() == [False, False, True]
    assert table["site"].tolist() == ["NA", "EU", "EU"]
    assert "score: 1 of 3 values recognised as a number; unknown are NA, ." in caplog.text


def test_a_column_of_many_numbers_stays_one_where_a_few_values_are_none(tmp_path, caplog):
    """Else a regression would stop, and a label of classes would have one per number."""
    rows = [f"sub-{k}\t{k},5\t{k % 3}\n" for k in range(8)] + ["sub-8\trefused\tother\n"]
    text = "participant_id\tscore\tgroup\n" + "".join(rows)
    with caplog.at_level("INFO"):
        table = read_participants(rooted(tmp_path, range(9), text))
    assert table["score"].tolist()[:8] == [k + 0.5 for k in range(8)]
    assert "score: 8 of 9 values recognised as a number; unknown are refused" in caplog.text
    assert set(table["group"]) == {"0", "1", "2", "other"}
    assert "group" not in caplog.text


def test_a_label_of_which_nothing_is_recognised_says_so_with_examples(tmp_path, caplog):
    text = "participant_id\tage\tsex\n01\tyoung\tx1\n02\told\tx2\n"
    with caplog.at_level("INFO"):
        people = read_participants(rooted(tmp_path, ["01", "02"], text))
    assert "age: none of 2 values recognised as a number; unknown are young, old" in caplog.text
    assert "sex: none of 2 values recognised as F or M; unknown are x1, x2" in caplog.text
    assert factor_table(people)[["age", "sex"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("values", "sidecar", "read", "numbers"),
    [
        (["F", "f", "female", "M", "m", "male"], None, list("FFFMMM"), [0, 0, 0, 1, 1, 1]),
        (["female", "male", "male"], None, ["female", "male", "male"], [0, 1, 1]),
        (["1", "2", "n/a"], {"1": "Male", "2": "Female (self-reported)"}, ["M", "F", None],
         [1, 0, None]),
        (["1", "2", "1"], None, [1, 2, 1], [None, None, None]),
        (["1", "2", "1"], "n/a", [1, 2, 1], [None, None, None]),
        (["F", "Other", "o"], None, ["F", "O", "O"], [0, None, None]),
    ],
)  # fmt: skip
def test_sex_is_of_one_spelling(tmp_path, values, sidecar, read, numbers):
    text = "participant_id\tsex\n" + "".join(f"{k}\t{value}\n" for k, value in enumerate(values))
    files = {} if sidecar is None else {"participants": json.dumps({"sex": {"Levels": sidecar}})}
    table = read_participants(rooted(tmp_path, range(len(values)), text, **files))
    assert [None if pd.isna(value) else value for value in table["sex"]] == read
    sexes = [None if pd.isna(value) else value for value in factor_table(table)["sex"]]
    assert sexes == numbers


def test_a_header_that_names_a_column_twice(tmp_path, caplog):
    text = "participant_id\tparticipant_id\tage\nsub-01\tQ1\t28\n"
    with caplog.at_level("INFO"):
        table = read_participants(rooted(tmp_path, ["01"], text))
    assert table.to_dict("list") == {"subject": ["01"], "age": [28]}
    assert "participant_id twice: the first column counts" in caplog.text


def test_rows_of_one_subject_cost_no_more_than_they_disagree_on(tmp_path, caplog):
    text = (
        "participant_id\tage\tsex\nsub-01\t9\tF\nsub-02\t7\tM\nsub-01\t9\tF\n"
        "sub-03\t5\tM\nsub-03\t6\tM\nsub-03\tn/a\tn/a\n"
    )
    with caplog.at_level("INFO"):
        table = read_participants(rooted(tmp_path, ["01", "02", "03"], text)).set_index("subject")
    assert table["sex"].to_dict() == {"01": "F", "02": "M", "03": "M"}
    assert table["age"].dropna().to_dict() == {"01": 9, "02": 7}
    assert "1 rows are there twice, the same each time" in caplog.text
    assert r"several rows of 1 subject (03); they differ in age, which is unknown" in caplog.text


def test_a_table_that_cannot_be_read_is_said_and_stops_nothing(tmp_path, caplog):
    rooted(tmp_path, ["01", "02"], b"zip\x00\x01\xff" * 20)
    for content in (None, b""):
        if content is not None:
            (tmp_path / "participants.tsv").write_bytes(content)
        with caplog.at_level("INFO"):
            assert read_participants(tmp_path).columns.tolist() == ["subject"]
    (tmp_path / "participants.tsv").unlink()
    (tmp_path / "participants.tsv").symlink_to(tmp_path / "annex")
    with caplog.at_level("INFO"):
        assert read_participants(tmp_path)["subject"].tolist() == ["01", "02"]
    for reason in ("no text", "is empty", "a link to a file that is not there"):
        assert reason in caplog.text


@pytest.fixture
def people() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": ["a", "b", "NDARWV769JM7", "d"],
            "sex": ["F", "male", None, "O"],
            "age": [8.5, None, 10.0, 11.0],
            "p_factor": [0.5, -1.0, 0.0, None],
            "attention": [0.1, 0.2, 0.3, None],
            "internalizing": [1.0, 2.0, 3.0, None],
            "externalizing": [-1.0, -2.0, -3.0, None],
        }
    )


def test_factors_age_and_sex_are_numbers(people):
    table = factor_table(people.set_index(pd.Index([7, 3, 1, 0])))
    assert table.columns.tolist() == ["subject", *FACTORS, "age", "sex"]
    np.testing.assert_array_equal(table["sex"], [0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(table["age"], [8.5, np.nan, 10, 11])
    np.testing.assert_array_equal(table["externalizing"], [-1, -2, -3, np.nan])
    # the challenge drops its excluded subjects and those without factors
    assert challenge_subjects(table)["subject"].tolist() == ["a", "b"]
    assert len(EXCLUDED_SUBJECTS) == 9
    other = factor_table(people[["subject"]]).drop(columns="subject")
    assert other.isna().all(axis=None)
    assert other.dtypes.eq(float).all()
    with pytest.raises(UserError, match="attention of subject a is low, expected a number"):
        factor_table(people.assign(attention=["low", "0.2", None, None]))


def test_real_tables(eegmat_root, hbn_metadata_root):
    assert len(read_participants(eegmat_root)) == 20
    read = {name: read_participants(hbn_metadata_root / name) for name in RELEASES}
    assert {name: len(table) for name, table in read.items()} == RELEASES
    table = factor_table(pd.concat(read.values(), ignore_index=True))
    assert not table["subject"].duplicated().any()
    assert table["subject"].str.startswith("NDAR").all()
    unknown = table[list(FACTORS)].isna()
    assert (unknown.all(axis=1) == unknown.any(axis=1)).all()  # all four are missing together
    assert table["sex"].isin([0, 1]).all()
    assert table["age"].between(5, 22).all()


def test_participants_of_several_data_sets_are_in_one_table(tmp_path, caplog):
    texts = {
        "a": "participant_id\tage\tgroup\tdataset\nsub-01\t7\t1\tx\nsub-02\t8\t2\tx\n",
        "b": "participant_id\tgroup\tfirst\n01\tpatient\tclosed\n",
    }
    roots = {name: tmp_path / name for name in texts}
    for name, text in texts.items():
        roots[name].mkdir()
        rooted(roots[name], ["01", "02"], text)
    people = [("a", "01"), ("a", "02"), ("b", "01"), ("b", "01"), ("b", "02")]
    recordings = pd.DataFrame(
        {
            "dataset": [name for name, _ in people],
            "subject": [f"{name}-{subject}" for name, subject in people],
            "bids_root": [str(roots[name]) for name, _ in people],
        }
    )
    with caplog.at_level("INFO"):
        table = participants_of(recordings)
    assert table["subject"].tolist() == ["a-01", "a-02", "b-01", "b-02"]
    assert table["dataset"].tolist() == ["a", "a", "b", "b"]
    assert table["age"].tolist()[:2] == [7, 8]
    assert table["group"].tolist()[:3] == ["1", "2", "patient"]
    known = table.set_index("subject").notna()
    assert known["first"].tolist() == [False, False, True, False]
    assert not known.loc[["b-01", "b-02"], "age"].any()
    assert "participants: age only in a; unknown of all others" in caplog.text
    assert "group is a number in some data sets and a text in others" in caplog.text
    table.to_parquet(tmp_path / "participants.parquet")


def test_excluded_subjects_are_excluded_in_every_data_set():
    names = pd.Series([f"R1-{min(EXCLUDED_SUBJECTS)}", min(EXCLUDED_SUBJECTS), "R1-01"])
    assert is_excluded(names).tolist() == [True, True, False]
    assert is_excluded(names[:0]).tolist() == []
