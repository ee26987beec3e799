"""Beats: what a reader sees, from the same process and from another one."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hbn_foundation.training import supervision
from hbn_foundation.training.supervision.heartbeat import (
    FILE,
    FIRST_STEP,
    SIZE,
    boot_id,
    read_beat,
)
from hbn_foundation.training.supervision.link import Link, Orders

ROOM = Path(supervision.__file__).parent
SHOWS_THE_DATE = ("incidents.py", "monitor.py", "job.py")


def test_what_is_not_said_stays(tmp_path):
    heart = Link(tmp_path)
    heart.beat("first_step", epochs=3, steps=30, device="cuda")
    heart.beat("step", step=1, loss=0.5)
    beat = read_beat(tmp_path)
    assert (beat.count, beat.section, beat.epochs, beat.step) == (2, "step", 3, 1)
    assert (beat.loss, beat.device) == (0.5, "cuda")
    assert 0 <= beat.age < 5
    assert beat.boot == boot_id()
    assert replace(beat, boot="another").age is None  # the machine was started anew


def test_no_beat_or_half_a_beat_is_none(tmp_path):
    assert read_beat(tmp_path) is None
    for content in (b"", b"{", b"[]", b'{"count": 1}', b"\xff\x00", b"null"):
        (tmp_path / FILE).write_bytes(content)
        assert read_beat(tmp_path) is None


def test_many_parameter_groups_do_not_spill_and_leave_nothing_behind(tmp_path):
    Link(tmp_path).beat("step", learning_rates={f"group {n}": 1e-3 for n in range(500)})
    assert (tmp_path / FILE).stat().st_size == SIZE
    assert read_beat(tmp_path).learning_rates == {}
    Link(tmp_path).beat("step", device="b")  # a shorter one
    assert json.loads((tmp_path / FILE).read_text())["device"] == "b"


def test_halves_of_two_beats_are_no_beat(tmp_path):
    heart, whole = Link(tmp_path), []
    for device in ("aaaa", "bbbb"):
        heart.beat("step", device=device)
        whole.append((tmp_path / FILE).read_bytes())
    middle = whole[0].index(b"aaaa") + 2
    (tmp_path / FILE).write_bytes(whole[0][:middle] + whole[1][middle:])
    assert json.loads((tmp_path / FILE).read_bytes())["device"] == "aabb"
    assert read_beat(tmp_path) is None


# All beats of this writer are of one length, so that two halves of two would still be JSON.
WRITER = """
import itertools, sys
from pathlib import Path
from hbn_foundation.training.supervision.link import Link
heart = Link(Path(sys.argv[1]))
for n in itertools.count():
    step = 1000 + n % 9000
    heart.beat("step", step=step, epoch=step, steps=step, device=str(step) * 700)
"""


def test_a_reader_never_sees_two_halves(tmp_path):
    seen = {}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) as writer:
        until = time.monotonic() + 60  # on a busy machine; a quiet one needs a second
        while len(seen) < 500 and time.monotonic() < until and writer.poll() is None:
            beat = read_beat(tmp_path)
            if beat is not None:
                seen[beat.count] = beat
                assert 0 <= beat.age < 60  # on the clock that both processes share
        writer.kill()
    assert len(seen) > 100
    for beat in seen.values():
        assert beat.step == beat.epoch == beat.steps
        assert beat.device == str(beat.step) * 700


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_jump_of_the_date_changes_no_age_and_no_deadline(tmp_path, monkeypatch, jump):
    link = Link(tmp_path, Orders("cpu", time.monotonic() + 1000))
    link.beat("step")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert 0 <= read_beat(tmp_path).age < 5
    assert link.asked_to_stop is None


def test_no_module_of_the_training_looks_at_the_date():
    """But for the time of an incident, which is for people, and what a monitor shows."""
    for path in ROOM.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                looks = name in ("time.time", "time.time_ns", "datetime.now", "datetime.today")
                assert not looks or path.name in SHOWS_THE_DATE, path


def test_the_time_left_has_validations_in_it_but_not_the_first_step(tmp_path, monkeypatch):
    """Of this epoch and the one before: steps become slower once more of a model is trained."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    link = Link(tmp_path)
    link.beat(FIRST_STEP, steps=400, epochs=40)
    now += 500.0
    link.step_done(9.0, step=1, epoch=1)
    assert read_beat(tmp_path).seconds_left == 399 * 9.0  # nothing else is known
    for step in range(2, 301):
        epoch = (step - 1) // 10 + 1
        seconds = 1.0 if epoch <= 20 else 10.0
        now += seconds + 5.0 * (step % 10 == 1)  # a validation between epochs
        link.step_done(seconds, step=step, epoch=epoch)
        if step == 20:
            assert read_beat(tmp_path).median_step == 1.0
            assert read_beat(tmp_path).seconds_left == pytest.approx(380 * 24 / 19)
        if step == 220:  # the second slow epoch
            assert read_beat(tmp_path).seconds_left == pytest.approx(180 * 10.26, rel=0.01)


def test_a_link_to_nobody_keeps_its_own_time():
    for seconds, asked in ((1000, None), (-1, "time_limit")):
        link = Link()
        link.beat("step")
        link.limit(seconds)
        assert (link.fault_due(1), link.asked_to_stop) == (None, asked)
