from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.sidecars import UnreadableSidecar, read_json, read_table

TABLE = "name\ttype\tunits\nFp1\tEEG\tµV\n\nCz\tEEG\n"


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("cp1252", "cp1252"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_tables_are_read_in_the_encodings_of_all_systems(tmp_path, encoding, told, newline):
    file = tmp_path / "channels.tsv"
    file.write_bytes(TABLE.replace("\n", newline).encode(encoding))
    table = read_table(file)
    assert table.columns == ["name", "type", "units"]
    assert table.rows == [
        {"name": "Fp1", "type": "EEG", "units": "µV"},
        {"name": "Cz", "type": "EEG", "units": ""},
    ]
    assert table.notes == ([f"channels.tsv is not in UTF-8: read as {told}"] if told else [])


def test_a_table_whose_tabs_became_spaces(tmp_path):
    file = tmp_path / "t.tsv"
    file.write_text("name  type units\nFz    EEG  µV\n\nCz    EEG  µV \n")
    table = read_table(file)
    assert table.columns == ["name", "type", "units"]
    assert table.rows[1] == {"name": "Cz", "type": "EEG", "units": "µV"}
    assert table.notes == ["t.tsv is separated by ' ' instead of tabs"]
    file.write_text("participant id\n01\n02\n")
    assert read_table(file).columns == ["participant id"]


def test_latin_1_bytes_that_cp1252_lacks(tmp_path):
    (tmp_path / "t.tsv").write_bytes(b"name\n\x81\xb5\n")
    assert read_table(tmp_path / "t.tsv").rows == [{"name": "\x81µ"}]


def test_other_separators_double_columns_and_long_rows_are_told(tmp_path):
    file = tmp_path / "t.tsv"
    file.write_text("name;x;x\nCz;1,5;2;3\n")
    table = read_table(file)
    assert table.rows == [{"name": "Cz", "x": "1,5"}]
    assert table.notes == [
        "t.tsv is separated by ';' instead of tabs",
        "t.tsv names x twice: the first column counts",
        "t.tsv: more cells than the header in 1 row",
    ]
    file.write_text('name\tnote\nCz\t"of 5\nPz\t"two\tcells"\n')
    assert [row["name"] for row in read_table(file).rows] == ["Cz", "Pz"]
    file.write_text("\n")
    assert read_table(file) == ([], [], ["t.tsv is empty"])


def test_a_file_that_is_there_and_cannot_be_read_is_named(tmp_path):
    link = tmp_path / "channels.tsv"
    link.symlink_to(tmp_path / "annex")
    with pytest.raises(UnreadableSidecar, match=r"channels\.tsv: a link to a file that is not the"):
        read_table(link)
    with pytest.raises(UnreadableSidecar, match=r"cannot be read \(Is a directory\)"):
        read_table(tmp_path)
    (tmp_path / "b.tsv").write_bytes(os.urandom(16) + b"\0\0\0")
    with pytest.raises(UnreadableSidecar, match=r"b\.tsv: no text"):
        read_table(tmp_path / "b.tsv")


@pytest.mark.parametrize("content", ['{"a": 6', "[1]", "", "[" * 100_000])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "eeg.json").write_text(content)
    with pytest.raises(UnreadableSidecar, match=r"eeg\.json: not "):
        read_json(tmp_path / "eeg.json")
    (tmp_path / "eeg.json").write_bytes('{"ä": "µV"}'.encode("cp1252"))
    assert read_json(tmp_path / "eeg.json") == {"ä": "µV"}


def test_real_sidecars_of_hbn(hbn_metadata_root):
    files = sorted(hbn_metadata_root.glob("ds005507/sub-*/eeg/*_eeg.json"))
    assert {read_json(file)["PowerLineFrequency"] for file in files} == {60}


@given(st.binary(max_size=60))
def test_any_bytes_are_a_table_or_an_error_that_names_the_file(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "any.tsv"
    file.write_bytes(content)
    try:
        table = read_table(file)
    except UnreadableSidecar as error:
        assert str(error).startswith("any.tsv: ")  # noqa: PT017
    else:
        assert all(list(row) == table.columns for row in table.rows)
