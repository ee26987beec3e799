"""A source is looked at before it is written down."""

from __future__ import annotations

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.find import prepare
from hbn_foundation.recordings.params import SourceParams


def test_a_root_that_is_there(tmp_path):
    (tmp_path / "sub-1").mkdir()
    (tmp_path / "dataset_description.json").write_text("{}")
    source = prepare(SourceParams(root=str(tmp_path)))
    assert source["root"] == str(tmp_path)
    assert source["simulated"] is False


@pytest.mark.parametrize(
    ("name", "says"), [("absent", "no such folder"), ("file", "a file"), (".", "not a BIDS data")]
)
def test_a_wrong_root_is_told_at_once(tmp_path, name, says):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=says) as caught:
        prepare(SourceParams(root=str(tmp_path / name)))
    assert "\n" not in str(caught.value)


def test_a_url_is_not_taken_for_a_folder():
    assert prepare(SourceParams(root="s3://bucket/folder"))["root"] == "s3://bucket/folder"


def test_says_how_to_get_what_is_not_there(tmp_path):
    source = SourceParams(root=str(tmp_path / "no"), how_to_get="download it from x.org")
    with pytest.raises(UserError, match=r"no: no such folder.*; download it from x\.org$"):
        prepare(source)
