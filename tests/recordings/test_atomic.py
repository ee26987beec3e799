from __future__ import annotations

import errno

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.atomic import renamed_when_done


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
