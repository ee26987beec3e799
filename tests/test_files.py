from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hbn_foundation import files
from hbn_foundation.errors import UserError
from hbn_foundation.files import renamed_when_done, write_directory


def test_a_broken_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("former")

    def break_off():
        with renamed_when_done(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_with_path_and_need(tmp_path):
    with (
        pytest.raises(UserError, match=r"file: disk full, 3,000,000 bytes needed"),
        renamed_when_done(tmp_path / "file", 3_000_000),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_short_write_is_a_full_disk(tmp_path):
    with (
        pytest.raises(UserError, match="disk full"),
        renamed_when_done(tmp_path / "signal"),
    ):
        raise OSError("1277100 requested and 1191424 written")
    assert not list(tmp_path.iterdir())


def test_other_errors_without_a_number_are_no_full_disk(tmp_path):
    with pytest.raises(OSError, match="odd"), renamed_when_done(tmp_path / "signal"):
        raise OSError("odd")


def test_a_directory_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, real = [], os.fsync
    names = lambda: [path.name for path in tmp_path.iterdir()]  # noqa: E731

    def fsync(number):
        synced.append((Path(os.readlink(f"/proc/self/fd/{number}")), names()))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    write_directory(tmp_path / "best", {"weights": b"1", "metadata": b"2"})
    *inside, last = synced
    assert {path.name for path, _ in inside[:2]} == {"weights", "metadata"}
    assert inside[2][0].name.startswith(".best.")
    assert all("best" not in there for _, there in inside)
    assert last == (tmp_path, ["best"])


def test_a_directory_whose_replacement_fails_stays(tmp_path, monkeypatch):
    write_directory(tmp_path / "best", {"weights": b"former"})
    real = Path.replace

    def replace(path, target):
        if target == tmp_path / "best" and (path / "weights").read_bytes() == b"new":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(files.Path, "replace", replace)
    with pytest.raises(UserError, match="disk full"):
        write_directory(tmp_path / "best", {"weights": b"new"})
    assert (tmp_path / "best" / "weights").read_bytes() == b"former"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
