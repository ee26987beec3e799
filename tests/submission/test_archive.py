"""A zip from anywhere is refused, in one line, when it is more than plain files side by side."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import written

from hbn_foundation.errors import UserError
from hbn_foundation.submission.archive import Submission


def zipped(path: Path, *names: str, mode: int = 0, size: int = 3) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("submission.py", "pass")
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, b"0" * size)
    return path


@pytest.mark.parametrize(
    ("names", "mode", "expected"),
    [
        (["inner/weights.pt"], 0, "'inner/weights.pt' is no plain name of a file; a submission is"),
        (["inner/"], 0, "is no plain name of a file"),
        (["/etc/cron.d/x"], 0, "is no plain name of a file"),
        (["C:\\x"], 0, "is no plain name of a file"),
        (["\\x"], 0, "is no plain name of a file"),
        (["../x"], 0, "is no plain name of a file"),
        ([".."], 0, "is no plain name of a file"),
        (["a\nb"], 0, "is no plain name of a file"),
        (["link"], stat.S_IFLNK | 0o777, "is a link or no plain file"),
        (["pipe"], stat.S_IFIFO | 0o666, "is a link or no plain file"),
        (["Submission.py"], 0, "'submission.py' is in it more than once"),
    ],
)
def test_refused(tmp_path, names, mode, expected):
    path = zipped(tmp_path / "a.zip", *names, mode=mode)
    with pytest.raises(UserError) as caught:
        Submission.load(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_too_large(tmp_path):
    path = zipped(tmp_path / "bomb.zip", "weights.pt", size=3_000_000)
    assert path.stat().st_size < 20_000
    with pytest.raises(UserError, match="its files are 3 MB unpacked; expected at most 1 MB"):
        Submission.load(path, most_megabytes=1.0)


def test_too_many_files(tmp_path):
    path = zipped(tmp_path / "a.zip", *(f"{number}.txt" for number in range(1000)))
    with pytest.raises(UserError, match="1,001 files in it; expected at most 1,000"):
        Submission.load(path)


def test_without_a_source(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("model.py", "pass")
    with pytest.raises(UserError, match=r"no submission\.py in it; found model\.py"):
        Submission.load(tmp_path / "a.zip")


@pytest.mark.parametrize("content", [b"", b"not a zip"])
def test_no_zip(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a zip"):
        Submission.load(tmp_path / "a.zip")


def test_damaged(tmp_path):
    content = bytearray(written().to_bytes())
    content[60:90] = bytes(30)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a zip"):
        Submission.load(tmp_path / "a.zip")


def test_missing(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Submission.load(tmp_path / "a.zip")


names = st.text("abcdefgh_.", min_size=1, max_size=8).filter(lambda name: set(name) - {"."})


@given(st.dictionaries(names, st.binary(max_size=30), max_size=4))
def test_there_and_back(files):
    files = {"submission.py": b"pass", **files}
    buffer = io.BytesIO(Submission(files).to_bytes())
    with zipfile.ZipFile(buffer) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files


def test_saved_zip_is_read_and_unpacked(tmp_path):
    submission = written()
    path = submission.save(tmp_path / "version" / "submission.zip")
    again = Submission.load(path)
    assert again == submission
    (tmp_path / "empty").mkdir()
    again.unpack(tmp_path / "empty")
    found = {file.name: file.read_bytes() for file in (tmp_path / "empty").iterdir()}
    assert found == submission.files
