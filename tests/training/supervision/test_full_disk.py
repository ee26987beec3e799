"""No room: what was written stays whole, and one line says what is missing."""

from __future__ import annotations

import os
import resource

import pytest
from stand_in import expected, fill, open_run, save, supervise

from hbn_foundation.errors import UserError
from hbn_foundation.training.supervision import supervisor
from hbn_foundation.training.supervision.heartbeat import read_beat
from hbn_foundation.training.supervision.run_folder import mark_done


def test_a_disk_that_is_full_from_the_start(small_disk):
    fill(small_disk)
    with pytest.raises(UserError, match="disk full"):
        open_run(small_disk, "another", {"seed": 0}, True)
    (small_disk / "ballast").unlink()
    run = open_run(small_disk, "run", {}, True)
    fill(small_disk)
    with pytest.raises(UserError, match="disk full") as caught:
        supervise(run)
    assert "\n" not in str(caught.value)
    (small_disk / "ballast").unlink()
    assert supervise(run)["weights"] == expected()
    run.close()


def test_a_disk_that_fills_while_it_trains(small_disk, tmp_path, monkeypatch):
    run, filled = open_run(small_disk, "run", {}, True), []
    real = supervisor.read_beat

    def read(folder):
        beat = real(folder)
        if not filled and beat is not None and beat.step >= 7:
            filled.append(fill(small_disk))
            (tmp_path / "go").touch()
        return beat

    monkeypatch.setattr(supervisor, "read_beat", read)
    with pytest.raises(UserError, match="disk full") as caught:
        supervise(run, hold=(7, str(tmp_path / "go")))
    assert "\n" not in str(caught.value)
    assert read_beat(small_disk / "run").step >= 7
    assert run.newest() == (run.path / "epoch-001", 1)  # whole by its digests
    (small_disk / "ballast").unlink()
    assert supervise(run)["weights"] == expected()
    run.close()
    mark_done(run.path)


def test_a_limit_of_the_file_size_in_the_child(tmp_path):
    """The second way to run out: EFBIG, as of a quota."""
    run = open_run(tmp_path, "run", {}, True)
    save(run.path / "epoch-001", b"whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(UserError, match="disk full") as caught:
            supervise(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert run.newest() == (run.path / "epoch-001", 1)
    assert os.listdir(run.path).count("epoch-001") == 1
