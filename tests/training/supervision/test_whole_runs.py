"""Parent and child as processes: the parent is killed, interrupted, or started twice."""

from __future__ import annotations

import random
import signal

import pytest
from stand_in import EPOCHS, STEPS, expected, open_run, supervise

from hbn_foundation.training.supervision.heartbeat import read_beat
from hbn_foundation.training.supervision.incidents import read_incidents
from hbn_foundation.training.supervision.run_folder import mark_done
from processes import alive, imported_by, wait_for


def at_step(folder, step):
    """Wait for the training to come to a step; give its child's process number."""
    return wait_for(lambda: (beat := read_beat(folder)) and beat.step >= step and beat.pid)


@pytest.mark.parametrize("step", random.Random(0).sample(range(EPOCHS * STEPS - 1), 3))
def test_a_run_killed_at_any_step_takes_its_child_along_and_is_gone_on_with(start, tmp_path, step):
    folder = tmp_path / "runs" / "run"
    process = start(pause=0.05, hold=(step + 1, ""))
    child = at_step(folder, step)
    process.kill()
    process.wait()
    wait_for(lambda: not alive(child))
    again = start(name="another")
    assert again.wait(60) == 0
    assert (tmp_path / "runs" / "result").read_text() == expected()
    assert not (tmp_path / "runs" / "another").exists()
    (incident,) = read_incidents(folder)
    assert (incident.kind, incident.device) == ("killed", "simulated")
    assert incident.step in (step, step + 1)
    assert f"process {process.pid}" in incident.what
    assert incident.action == "resuming from the last whole checkpoint"


def test_a_child_that_hangs_holding_the_lock_dies_with_its_parent(start, tmp_path):
    process = start(fault="hang_gil@3")
    child = at_step(tmp_path / "runs" / "run", 2)
    process.kill()
    process.wait()
    wait_for(lambda: not alive(child))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(start, tmp_path, number):
    process = start(hold=(7, ""))
    child = at_step(tmp_path / "runs" / "run", 7)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith(f"TrainingStopped: Stopped by {number.name}")
    assert "the same command resumes it" in said
    assert not alive(child)
    assert start().wait(60) == 0
    assert (tmp_path / "runs" / "result").read_text() == expected()


def test_a_signal_while_the_child_starts(start, tmp_path):
    process = start(hold=(1, ""))
    wait_for((tmp_path / "runs" / "run" / "log.txt").exists)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert said.startswith("TrainingStopped: Stopped by SIGTERM")


def test_of_two_runs_at_once_the_second_refuses(start, tmp_path):
    first = start(hold=(2, str(tmp_path / "go")))
    at_step(tmp_path / "runs" / "run", 2)
    second = start()
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"is running already (process {first.pid})" in said
    assert said.count("\n") == 1
    (tmp_path / "go").touch()
    assert first.wait(60) == 0
    assert (tmp_path / "runs" / "result").read_text() == expected()


def test_a_second_run_beside_it_mixes_nothing(start, run, tmp_path):
    """As with `resume: false`: another folder, another lock."""
    process = start(pause=0.05, name="beside")  # in the folder of `run`, which is held here
    said, _ = process.communicate(timeout=60)
    assert "is running already" in said
    other = open_run(tmp_path / "runs", "beside", {"seed": 0}, False)
    assert supervise(run)["weights"] == supervise(other)["weights"] == expected()
    other.close()
    mark_done(other.path)


def test_the_parent_needs_no_torch():
    rooms = ("pretrain", "supervision.supervisor")
    found = imported_by("\n".join(f"import hbn_foundation.training.{room}" for room in rooms))
    assert "hbn_foundation" in found
    assert not found & {"torch", "lightning", "mne", "sklearn"}
