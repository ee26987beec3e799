"""A child that hangs, crashes, is killed or says nothing: the training goes on to the same end."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from stand_in import EPOCHS, NARROW, STEPS, expected, supervise

import hbn_foundation
from hbn_foundation.errors import UserError
from hbn_foundation.training.supervision import supervisor
from hbn_foundation.training.supervision.fork_server import ForkServer
from hbn_foundation.training.supervision.heartbeat import read_beat
from hbn_foundation.training.supervision.incidents import read_incidents
from hbn_foundation.training.supervision.process import WORK, start_interpreter
from hbn_foundation.training.supervision.run_folder import RunFolder
from hbn_foundation.training.supervision.supervisor import TrainingStopped
from processes import alive, wait_for

PACKAGE = Path(hbn_foundation.__file__).parents[1]


def test_nothing_happens_and_nothing_is_recorded(run):
    assert supervise(run)["weights"] == expected()
    assert read_incidents(run.path) == []
    beat = read_beat(run.path)
    assert (beat.section, beat.step, beat.steps) == ("end", EPOCHS * STEPS, EPOCHS * STEPS)


@pytest.fixture(scope="module")
def server():
    server = ForkServer(("stand_in",), {"OMP_NUM_THREADS": "1"})
    yield server
    server.close()


@pytest.mark.parametrize(
    ("fault", "forked", "kind", "what", "in_stack"),
    [
        ("hang@8", False, "silent", "silent for", "in inject"),
        ("hang_gil@8", False, "silent", "silent for", "in inject"),
        ("hang_gil@8", True, "silent", "silent for", "in inject"),
        ("stubborn@8", False, "silent", "silent for", ""),
        ("crash@8", False, "died", "SIGSEGV", "in inject"),
        ("crash@8", True, "died", "SIGSEGV", "in inject"),
        ("kill@8", False, "died", "SIGKILL", ""),
        ("kill@8", True, "died", "SIGKILL", ""),
        ("exit@8", False, "no_result", "status 0 but left no result", ""),
        ("exit@8", True, "no_result", "status 0 but left no result", ""),
        ("cuda@8", False, "device_error", "illegal memory access", "in inject"),
    ],
)
def test_each_fault_is_survived(run, server, fault, forked, kind, what, in_stack):
    """Once more on the device, as an epoch was done there; the second time on the CPU."""
    start = server.start_child if forked else start_interpreter
    result = supervise(run, fault, limits={**NARROW, "kill_after": 1.0}, start_child=start)
    assert result["weights"] == expected()
    first, second = read_incidents(run.path)
    assert (first.kind, first.device, first.section) == (kind, "simulated", "step")
    assert (first.step, first.epoch) == (7, 2)
    assert what in first.what
    assert in_stack in first.stack
    assert first.action == "restart on simulated from the last checkpoint"
    assert second.action == "restart on cpu from the last checkpoint"
    assert second.step in (5, 7)  # at 7 only where the first step after the restart is not the 8th
    assert read_beat(run.path).device == "cpu"


def test_a_hang_in_the_very_first_step_leads_to_the_cpu_at_once(run):
    assert supervise(run, "hang@1", limits=NARROW)["weights"] == expected()
    (incident,) = read_incidents(run.path)
    assert (incident.section, incident.step) == ("first_step", 0)
    assert incident.action == "restart on cpu from the last checkpoint"


@pytest.mark.parametrize("where", ["start", "evaluation", "checkpoint"])
def test_a_hang_elsewhere_is_found_by_the_limit_of_its_section(run, where):
    result = supervise(run, misbehave=where, limits={where: 5.0 if where == "start" else 1.5})
    assert result["weights"] == expected()
    (incident,) = read_incidents(run.path)
    assert (incident.kind, incident.section) == ("silent", where)
    assert "in go_wrong" in incident.stack


def test_a_child_that_hangs_before_it_reads_its_work_does_not_hang_the_parent(
    run, tmp_path, monkeypatch
):
    """More than a pipe holds is waiting to be read."""
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(1000)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UserError, match="given up after 1 restarts"):
        supervise(run, payload=b"0" * 10**7, limits={"start": 0.5, "max_restarts": 1})


def test_what_the_child_started_goes_with_it(run):
    supervise(run, "hang@3*1", misbehave="helper", limits=NARROW)
    wait_for(lambda: not alive(int((run.path / "helper").read_text())))


def test_three_restarts_without_a_new_epoch_are_enough(run):
    with pytest.raises(UserError, match="given up after 4 restarts") as caught:
        supervise(run, "kill@7*9")
    assert "\n" not in str(caught.value)
    actions = [incident.action for incident in read_incidents(run.path)]
    restarts = ["restart on simulated", *["restart on cpu"] * 3]
    assert [action.split(" from ")[0] for action in actions[:-1]] == restarts
    assert actions[-1].startswith("given up")
    assert run.newest()[1] == 1


@pytest.mark.parametrize(
    ("fault", "sizes", "batches"),
    [("oom@8", (48, 24), (24, None)), ("oom_evaluation@8", (128, 64), (None, 64))],
)
def test_too_little_memory_halves_the_batch_of_training_or_of_validation(
    run, fault, sizes, batches
):
    result = supervise(run, fault)
    assert result["weights"] == expected()
    assert (result["micro_batch"], result["evaluation_batch"]) == batches
    incidents = read_incidents(run.path)
    assert {incident.kind for incident in incidents} == {"out_of_memory"}
    for incident, size in zip(incidents, sizes, strict=True):
        assert f" {size} windows at once" in incident.action


def test_an_exception_is_not_retried_and_brings_its_traceback(run):
    with pytest.raises(UserError, match="failed at step 7: InjectedError: an error") as caught:
        supervise(run, "error@8")
    assert "in inject" in str(caught.value)
    assert str(run.path) in str(caught.value)
    (incident,) = read_incidents(run.path)
    assert (incident.kind, incident.step) == ("error", 7)
    assert "in inject" in incident.stack
    assert supervise(run)["weights"] == expected()  # what was saved is usable


def test_what_the_user_can_mend_is_one_line_and_not_tried_again(run, monkeypatch):
    with pytest.raises(UserError, match=r"^trainer: something is not as it should be$"):
        supervise(run, misbehave="user")
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE))  # no stand-in there
    with pytest.raises(UserError, match="No module named 'stand_in'"):
        supervise(run)
    assert len(read_incidents(run.path)) == 2


def test_the_time_is_one_budget_and_ends_softly(run):
    result = supervise(run, seconds=3.0, hold=(12, ""), device="cpu")
    assert result == {"stopped": "time limit, the stand-in's"}
    (incident,) = read_incidents(run.path)
    assert (incident.kind, incident.device, incident.section) == ("time_limit", "cpu", "end")
    assert (incident.what, incident.stack) == (result["stopped"], "")
    assert "more max_training_time resumes it" in incident.action
    assert supervise(run)["weights"] == expected()


def test_the_budget_is_the_same_after_restarts(run):
    deadlines = []

    def start(folder):
        deadlines.append(pickle.loads((folder / WORK).read_bytes())[2].deadline)
        return start_interpreter(folder)

    supervise(run, "kill@8", start_child=start)
    assert len(deadlines) == 3
    assert len(set(deadlines)) == 1


def test_a_child_that_does_not_end_in_time_is_ended(run):
    began = time.monotonic()
    result = supervise(run, "hang@7", seconds=5.0, limits={"grace": 1.0})
    assert result == {}
    assert 6.0 <= time.monotonic() - began < 40.0  # the limits of silence are longer
    (incident,) = read_incidents(run.path)
    assert incident.kind == "time_limit"
    assert "in inject" in incident.stack
    assert run.newest()[1] == 1


def test_no_restart_when_the_time_is_over(run):
    """It starts for longer than there is time, and dies."""
    result = supervise(run, "kill@2*9", seconds=0.01, pause=0.1)
    assert not result or result["stopped"].startswith("time limit")
    assert [incident.kind for incident in read_incidents(run.path)] == ["time_limit"]


def ignore(*_) -> None:
    pass


@pytest.fixture
def harmless():
    """Signals that come too late end a test, and not all tests."""
    with supervisor.handled(ignore):
        yield


@contextmanager
def interrupted(number: int, run: RunFolder, step: int = 7, again: bool = False):
    """Send this process a signal when the training has come to a step, perhaps again and again."""
    over = threading.Event()

    def send():
        wait_for(lambda: (beat := read_beat(run.path)) is not None and beat.step >= step)
        os.kill(os.getpid(), number)
        while again and not over.wait(0.5):
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


LAST = EPOCHS * STEPS


@pytest.mark.parametrize(
    ("number", "step", "epochs"),
    [(signal.SIGINT, 7, "1 whole epoch"), (signal.SIGTERM, LAST, f"{EPOCHS} whole epochs")],
)
def test_a_signal_stops_the_training_at_a_step_and_the_next_run_goes_on(
    run, harmless, number, step, epochs
):
    """Also at the last step: the signal still stops what follows."""
    with (
        interrupted(number, run, step),
        pytest.raises(TrainingStopped, match=f"by {number.name} .* after {epochs};") as stop,
    ):
        supervise(run, hold=(step, ""))
    assert stop.value.signal_number == number
    assert not alive(read_beat(run.path).pid)
    (incident,) = read_incidents(run.path)
    assert (incident.kind, incident.section, incident.step) == ("stopped", "end", step)
    assert signal.getsignal(number) is ignore  # as it was before
    assert supervise(run)["weights"] == expected()


@pytest.mark.parametrize("again", [True, False])
def test_a_second_signal_or_the_end_of_the_grace_ends_a_child_that_does_not_stop(
    run, harmless, again
):
    began = time.monotonic()
    limits = {} if again else {"grace": 1.0}
    with interrupted(signal.SIGINT, run, again=again), pytest.raises(TrainingStopped):
        supervise(run, epochs=10**5, pause=0.02, misbehave="deaf", limits=limits)
    assert time.monotonic() - began < 40.0  # grace and silence are longer
    (incident,) = read_incidents(run.path)
    assert incident.kind == "stopped"
    assert not alive(read_beat(run.path).pid)


def test_only_the_child_is_asked_to_stop(run):
    """By somebody who lists processes: that ends the training too, and does not finish it."""

    def ask():
        pid = wait_for(lambda: (beat := read_beat(run.path)) and beat.step >= 3 and beat.pid)
        os.kill(pid, signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(TrainingStopped):
        supervise(run, hold=(3, ""))
    thread.join()


def test_a_pause_of_the_whole_machine_is_no_silence(run, monkeypatch):
    """Parent and child stand still for longer than the limit, as in a suspended machine."""
    monkeypatch.setattr(supervisor, "PAUSE", 2.0)
    real, paused = time.sleep, []

    def sleep(seconds):
        beat = read_beat(run.path)
        if not paused and beat is not None and beat.step >= 7:
            paused.append(beat.pid)
            os.kill(beat.pid, signal.SIGSTOP)
            real(6.0)
            threading.Timer(0.3, os.kill, (beat.pid, signal.SIGCONT)).start()
        real(seconds)

    monkeypatch.setattr(supervisor.time, "sleep", sleep)
    released = run.path / "go"
    threading.Timer(1.0, released.touch).start()  # while it is paused, or before
    result = supervise(run, hold=(7, str(released)), limits={"step_least": 5.0})
    assert result["weights"] == expected()
    assert paused
    assert read_incidents(run.path) == []


def test_a_child_that_cannot_be_killed_is_left_and_its_device_with_it(run, monkeypatch):
    """As in an uninterruptible call of a driver: the system takes the signal and nothing ends."""
    left = []
    real = supervisor.Child.end
    monkeypatch.setattr(supervisor, "ABANDONED", set())

    def end(child, stack_seconds, kill_seconds):
        if stack_seconds and not left:
            left.append(child)
            return False
        return real(child, stack_seconds, kill_seconds)

    monkeypatch.setattr(supervisor.Child, "end", end)
    assert supervise(run, "hang@8*1", limits=NARROW)["weights"] == expected()
    (incident,) = read_incidents(run.path)
    assert f"process {left[0].process.pid} cannot be killed" in incident.what
    assert incident.action == "restart on cpu from the last checkpoint"  # in spite of its progress
    assert real(left[0], 0.0, 5.0)
    assert {"simulated"} == supervisor.ABANDONED  # for the trainings that follow in this process
