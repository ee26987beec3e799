"""A zip from anywhere is refused, in one line, when it is more than plain files side by side."""

from __future__ import annotations

import io
import pickle
import stat
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import saved, toy_submission

from hbn_foundation.errors import UserError
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.weights import pack_weights, weights_problem


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("true",)


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
        (["inner/weights.pt"], 0, "'inner/weights.pt' lies in a folder or is one; a submission is"),
        (["inner/"], 0, "lies in a folder or is one"),
        (["/etc/cron.d/x"], 0, "is an absolute path"),
        (["C:\\x"], 0, "is an absolute path"),
        (["\\x"], 0, "is an absolute path"),
        (["../x"], 0, "leads out of the folder"),
        (["a\\..\\..\\x"], 0, "leads out of the folder"),
        (["link"], stat.S_IFLNK | 0o777, "is a symbolic link"),
        (["pipe"], stat.S_IFIFO | 0o666, "is no plain file"),
        (["a\nb"], 0, "is no name of a file"),
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
    content = bytearray(toy_submission()[0].to_bytes())
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
    submission, _ = toy_submission()
    path = submission.save(tmp_path / "version" / "submission.zip")
    again = Submission.load(path)
    assert again == submission
    (tmp_path / "empty").mkdir()
    again.unpack(tmp_path / "empty")
    found = {file.name: file.read_bytes() for file in (tmp_path / "empty").iterdir()}
    assert found == submission.files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (saved({"a": Evil()}), "its pickle takes posix.system; expected a plain state dict"),
        (saved(torch.nn.Linear(2, 2)), "its pickle takes torch.nn.modules.linear.Linear"),
        (pickle.dumps({"a": 1}), "not a state dict as torch.save writes it"),
        (b"\x93NUMPY", "not a state dict as torch.save writes it"),
    ],
)
def test_weights_that_are_more_than_numbers(content, expected):
    problem = weights_problem("weights.pt", content)
    assert problem is not None
    assert problem.startswith("weights.pt: ")
    assert expected in problem


def test_a_pickle_under_another_name():
    assert weights_problem("notes.txt", pickle.dumps(Evil())) is not None
    assert weights_problem("notes.txt", b"plain words") is None


def test_names_hidden_in_a_newer_protocol():
    buffer = io.BytesIO()
    torch.save({"a": Evil()}, buffer, pickle_protocol=4)
    assert "posix.system" in str(weights_problem("weights.pt", buffer.getvalue()))


def test_torchscript_is_code(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/code/__torch__.py", "pass")
    assert "holds code" in str(weights_problem("w.pt", (tmp_path / "w.pt").read_bytes()))


@pytest.mark.parametrize(
    "content",
    [
        pack_weights({"a": torch.ones(2, 3), "b": torch.tensor([True]), "c": torch.arange(3)}),
        saved(OrderedDict(a=torch.ones(2).half())),
        saved(torch.nn.Linear(2, 2).state_dict()),
        saved({"model": {"a": torch.nn.Parameter(torch.ones(2))}, "epoch": 3}),
    ],
)
def test_plain_weights(content):
    assert weights_problem("weights.pt", content) is None
    assert torch.load(io.BytesIO(content), weights_only=True) is not None


def test_packed_weights_are_what_they_were():
    weights = {"a": torch.randn(4, 2).T, "b": torch.tensor(3)}
    again = torch.load(io.BytesIO(pack_weights(weights)), weights_only=True)
    assert all(torch.equal(again[name], weights[name]) for name in weights)
