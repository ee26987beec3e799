"""A run's folder: which checkpoint is the newest whole one, whose run it is, what stays."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.training.supervision.incidents import read_incidents
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.run_folder import (
    BEST,
    DONE,
    LOCK,
    METADATA,
    OWN_DIGEST,
    RUN,
    SPARE_BYTES,
    STATE,
    WEIGHTS,
    RunFolder,
    check_space,
    damage,
    first_difference,
    in_use,
    mark_done,
    open_run,
    own_digest,
    prune,
)

IDENTITY = {"encoder": {"hidden_dim": 32, "tokens": ["band"]}, "data": {"signals": "a1"}}
OTHER = {"encoder": {"hidden_dim": 64, "tokens": ["band"]}, "data": {"signals": "a1"}}


def save(folder, content: bytes, state: bool = True, **metadata) -> None:
    """A checkpoint of these bytes."""
    folder.mkdir(parents=True)
    files = {WEIGHTS: content, **({STATE: content[::-1]} if state else {})}
    for name, part in files.items():
        (folder / name).write_bytes(part)
        key = f"{name.partition('.')[0]}_sha256"
        metadata[key] = hashlib.sha256(part).hexdigest()
    metadata[OWN_DIGEST] = own_digest(metadata)
    (folder / METADATA).write_text(json.dumps(metadata, indent=2))


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "one", IDENTITY)
    yield folder
    folder.close()


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "hbn_foundation")
    return lambda: caplog.messages


def test_a_run_that_was_not_closed_was_killed(run):
    """The lock of a killed process is free, and its number is still there."""
    (run.path / LOCK).write_text("4710")
    run._lock.close()
    RunFolder(run.path, IDENTITY).close()
    assert [incident.device for incident in read_incidents(run.path)] == [""]  # no beat yet
    Link(run.path).beat("step", device="cuda", epoch=3, step=25)
    (run.path / LOCK).write_text("4711")
    RunFolder(run.path, IDENTITY).close()
    _, incident = read_incidents(run.path)
    assert (incident.kind, incident.device, incident.section) == ("killed", "cuda", "step")
    assert (incident.epoch, incident.step) == (3, 25)
    assert "process 4711" in incident.what
    RunFolder(run.path, IDENTITY).close()  # the one before was closed
    assert len(read_incidents(run.path)) == 2


def test_the_newest_is_by_number(run):
    assert run.newest() == (None, 0)
    for number in (0, 998, 999, 1000):
        save(run.path / f"epoch-{number + 1:03d}", b"abc")
    assert run.newest() == (run.path / "epoch-1001", 1001)
    (run.path / ".epoch-1002.4f4f").mkdir()  # was being written
    assert run.newest()[1] == 1001


@settings(max_examples=40)
@given(st.sampled_from([WEIGHTS, STATE, METADATA]), st.data())
def test_a_file_cut_at_any_byte_is_seen(tmp_path_factory, name, data):
    run = RunFolder(tmp_path_factory.mktemp("runs") / "one", IDENTITY)
    for number in range(3):
        save(run.path / f"epoch-{number + 1:03d}", b"some weights" * 9)
    path = run.path / "epoch-003" / name
    length = data.draw(st.integers(0, path.stat().st_size - 1))
    os.truncate(path, length)
    assert run.newest() == (run.path / "epoch-002", 2)
    assert (run.path / "epoch-003.damaged" / name).stat().st_size == length
    run.close()


@given(st.sampled_from([WEIGHTS, STATE]), st.data())
def test_a_bit_turned_anywhere_is_seen(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("runs") / "epoch-001"
    save(folder, b"some weights" * 9)
    content = bytearray((folder / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(content)
    assert damage(folder) == f"{name} is damaged, its digest differs"


@pytest.mark.parametrize("name", [WEIGHTS, STATE, METADATA])
def test_a_missing_file_is_named(run, name, lines):
    save(run.path / "epoch-001", b"abc")
    (run.path / "epoch-001" / name).unlink()
    assert run.newest() == (None, 0)
    assert f"{name} is missing; renamed to epoch-001.damaged" in lines()[-1]
    (incident,) = read_incidents(run.path)
    assert (incident.kind, incident.what) == ("damaged", f"epoch-001: {name} is missing")
    assert incident.action == "renamed to epoch-001.damaged, the one before is used"


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '"text"', "\x00\xff", "altered"])
def test_metadata_of_another_form_are_damage(run, content):
    save(run.path / "epoch-001", b"abc", flag=True)
    path = run.path / "epoch-001" / METADATA
    path.write_text(path.read_text().replace("true", "false") if content == "altered" else content)
    assert damage(run.path / "epoch-001") == "metadata.json is damaged"
    assert run.newest() == (None, 0)


def test_what_cannot_be_used_is_kept_aside_and_told(run, lines):
    for number, version in ((1, 1), (2, 2), (3, 2)):
        save(run.path / f"epoch-00{number}", b"abc", format_version=version)
        if version == 2:
            (run.path / f"epoch-00{number}" / WEIGHTS).write_bytes(b"abd")
    assert run.newest() == (None, 0)
    assert len([line for line in lines() if "renamed to" in line]) == 3
    assert "epoch-001: written by an older version" in lines()[-1]
    assert len(list(run.path.glob("*.damaged"))) == 3
    assert run.newest() == (None, 0)


def test_a_damaged_best_is_put_aside(run):
    save(run.path / BEST, b"best", state=False)
    run.check_best()
    assert (run.path / BEST / WEIGHTS).read_bytes() == b"best"
    (run.path / BEST / WEIGHTS).write_bytes(b"b")
    run.check_best()
    assert not (run.path / BEST).exists()
    (incident,) = read_incidents(run.path)
    assert incident.what == "best: weights.safetensors is damaged, its digest differs"


def test_a_folder_in_use_is_refused_and_a_free_one_is_taken_up(run, lines):
    save(run.path / "epoch-001", b"abc")
    with pytest.raises(UserError, match=f"running already .process {os.getpid()}") as caught:
        open_run(run.path.parent, "two", IDENTITY, True)
    assert "\n" not in str(caught.value)
    assert in_use(run.path)
    run.close()
    assert not in_use(run.path)
    again = open_run(run.path.parent, "two", IDENTITY, True)
    assert again.path == run.path
    assert lines()[-1] == "resuming the run one after epoch 1"
    again.close()


@pytest.mark.parametrize(
    ("identity", "difference"),
    [
        (OTHER, "encoder.hidden_dim is 32 there and 64 here"),
        ({**IDENTITY, "data": {"signals": "b2"}}, "data.signals is a1 there and b2 here"),
        (IDENTITY, "its run.json is damaged"),
    ],
)
def test_what_differs_is_named(run, lines, identity, difference):
    save(run.path / "epoch-001", b"abc")
    run.close()
    if "damaged" in difference:
        (run.path / RUN).write_text("{")
    other = open_run(run.path.parent, "two", identity, True)
    assert other.path.name == "two"
    other.close()
    assert lines()[-1] == f"the unfinished run one is not resumed: {difference}; a new one begins"


def test_a_run_anew_or_done(run):
    save(run.path / "epoch-001", b"abc")
    save(run.path / BEST, b"abc", state=False)
    run.close()
    for resume in (False, True):
        if resume:
            mark_done(run.path)
        other = open_run(run.path.parent, f"new-{resume}", IDENTITY, resume)
        assert other.path.name == f"new-{resume}"
        other.close()
        mark_done(other.path)
    assert not (run.path / "epoch-001").exists()
    assert (run.path / BEST).exists()


def ended(path, age: float, *checkpoints: str, identity=IDENTITY) -> Path:
    """A run that ended so many seconds ago, with checkpoints of these names."""
    folder = RunFolder(path, identity)
    for name in checkpoints:
        save(folder.path / name, b"0" * 10**6, state=name != BEST)
    folder.close()
    os.utime(path / RUN, (time.time() - age,) * 2)
    return path


def test_weights_of_runs_that_are_done_go_but_for_the_newest(tmp_path):
    names = ("old", "all", "new", "open")
    for name in names:
        ended(tmp_path / name, 0, BEST, "epoch-001", "epoch-002.damaged")
        if name != "open":
            mark_done(tmp_path / name, keep_epochs=name == "all")
    assert not (tmp_path / "new" / "epoch-002.damaged").exists()
    prune(tmp_path, tmp_path / "new", 3)
    assert [(tmp_path / name / BEST).exists() for name in names] == [0, 1, 1, 1]
    assert [(tmp_path / name / "epoch-001").exists() for name in names] == [0, 1, 0, 1]
    assert (tmp_path / "old" / DONE).exists()


def test_of_unfinished_runs_the_last_ones_stay_and_a_line_names_the_others(tmp_path, lines):
    for age in range(5):
        ended(tmp_path / f"run{age}", age, "epoch-001", BEST, identity=OTHER)
    ended(tmp_path / "empty", 0)
    held = RunFolder(tmp_path / "run4", OTHER)
    current = RunFolder(tmp_path / "current", IDENTITY)
    prune(tmp_path, current.path, 2)
    left = [len(list((tmp_path / f"run{age}").glob("[be]*-*"))) for age in range(5)]
    assert left == [1, 1, 0, 0, 1]
    (line,) = lines()
    assert line.startswith("6 MB freed: the checkpoints of unfinished runs are removed but for the")
    assert "(trainer.keep_unfinished)" in line
    assert line.endswith(f"those of {tmp_path / 'run2'}, {tmp_path / 'run3'}")
    for folder in (held, current):
        folder.close()
    for name in ("run0", "run1", "run4", "empty"):
        mark_done(tmp_path / name)
    new = open_run(tmp_path, "new", OTHER, True)  # not one whose checkpoints are gone
    assert new.path.name == "new"
    new.close()
    prune(tmp_path, current.path, 2)
    assert lines() == [line]  # nothing more to remove


values = st.recursive(
    st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=2), values), st.dictionaries(st.text(max_size=2), values))
def test_identities_are_the_same_only_where_all_is(a, b):
    assert (first_difference(a, b) is None) == (a == b)
    assert first_difference(a, json.loads(json.dumps(a))) is None


def test_a_folder_that_cannot_be_written_is_told_in_a_line():
    with pytest.raises(UserError, match=r"cannot be written \(.*\); set trainer.work_dir"):
        RunFolder(Path("/proc/nowhere/run"), IDENTITY)


@pytest.mark.parametrize(("there", "counted"), [("epoch-001", 3000), ("epoch-001.damaged", 0)])
def test_room_for_the_checkpoints_is_asked_for(tmp_path, monkeypatch, there, counted):
    """What is there already need not fit again, unless it is put aside."""
    usage = namedtuple("usage", "total used free")
    (tmp_path / there).mkdir()
    (tmp_path / there / "weights").write_bytes(b"0" * 3000)
    for missing in (0, 1):
        free = 4 * 3000 + 4 * 1000 + SPARE_BYTES - counted - missing
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(10**15, 0, free))
        if not missing:
            check_space(tmp_path, 1000, 3000, epochs=3)
    with pytest.raises(UserError, match=r"MB are free and the checkpoints need \d+ MB") as caught:
        check_space(tmp_path, 1000, 3000, epochs=3)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
