"""The room that checkpoints need is asked for before the training."""

import shutil
from collections import namedtuple

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.training import disk

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch):
    def set_free(number):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**15, 0, number))

    return set_free


def test_enough_is_enough(tmp_path, free):
    needed = disk.bytes_needed(1000, 3000, keep_last=3) + disk.SPARE
    assert needed == 4 * 3000 + 4 * 1000 + disk.SPARE
    free(needed)
    disk.check_space(tmp_path, 1000, 3000, 3)
    free(needed - 1)
    with pytest.raises(UserError, match=r"MB are free and the checkpoints need \d+ MB") as caught:
        disk.check_space(tmp_path, 1000, 3000, 3)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_what_is_there_already_need_not_fit_again(tmp_path, free):
    (tmp_path / "epoch-001").mkdir()
    (tmp_path / "epoch-001" / "weights").write_bytes(b"0" * 3000)
    free(disk.bytes_needed(1000, 3000, 3) + disk.SPARE - 3000)
    disk.check_space(tmp_path, 1000, 3000, 3)


def test_what_is_put_aside_is_not_used_again(tmp_path, free):
    (tmp_path / "epoch-001.damaged").mkdir()
    (tmp_path / "epoch-001.damaged" / "weights").write_bytes(b"0" * 3000)
    free(disk.bytes_needed(1000, 3000, 3) + disk.SPARE - 3000)
    with pytest.raises(UserError):
        disk.check_space(tmp_path, 1000, 3000, 3)
