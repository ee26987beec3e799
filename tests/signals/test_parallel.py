"""Each task has its result, whatever becomes of the workers; workers end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hbn_foundation.signals.parallel import Limits, WorkerKilled, run_parallel
from processes import alive, wait_for

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def square(x: int) -> int:
    return x * x


def threads(_: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def fail_at_three(x: int) -> int:
    if x == 3:
        raise ValueError("three")
    return x


def die(x: int) -> int:
    """Of two signals at 2 and 3."""
    if x in (2, 3):
        os.kill(os.getpid(), signal.SIGKILL if x == 2 else signal.SIGSEGV)
    return x


def die_once(marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return marker


def nap(task: tuple[str, float]) -> float:
    """Sleep, with a file named as this process where a folder is given."""
    folder, seconds = task
    if folder:
        Path(folder, str(os.getpid())).touch()
    time.sleep(seconds)
    return seconds


def prepare_slowly() -> None:
    time.sleep(3)


def allocate(n_bytes: int) -> int:
    try:
        return len(bytearray(n_bytes))
    except MemoryError:
        return -1


@pytest.mark.parametrize("n_jobs", [0, 1, 2])
def test_every_task_has_its_result_and_exceptions_are_raised_here(n_jobs):
    assert dict(run_parallel(square, range(9), n_jobs)) == {x: x * x for x in range(9)}
    assert list(run_parallel(square, [], n_jobs)) == []
    with pytest.raises(ValueError, match="three"):
        list(run_parallel(fail_at_three, range(6), n_jobs))


def test_workers_compute_with_one_thread():
    assert [result for _, result in run_parallel(threads, range(2), 2)] == ["1", "1"]


def test_a_killed_worker_loses_its_task_alone_and_says_what_it_died_of():
    results = dict(run_parallel(die, range(8), 2))
    killed, fault = results.pop(2), results.pop(3)
    assert isinstance(killed, WorkerKilled)
    assert str(killed) == "its worker process was killed, probably for lack of memory"
    assert str(fault) == "its worker process ended by SIGSEGV"
    assert results == {x: x for x in range(8) if x not in (2, 3)}


def test_a_task_whose_worker_was_killed_once_is_tried_again(tmp_path):
    marker = str(tmp_path / "died")
    assert list(run_parallel(die_once, [marker], 2)) == [(marker, marker)]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_task_that_takes_too_long_is_ended_alone(n_jobs):
    started = time.monotonic()
    limits = Limits(seconds=lambda task: 2.0, prepare=prepare_slowly)  # which is not counted
    tasks = [("", seconds) for seconds in (0.0, 600.0, 0.1, 0.2)]
    results = dict(run_parallel(nap, tasks, n_jobs, limits))
    assert time.monotonic() - started < 60
    assert str(results.pop(tasks[1])) == "ended because it took more than 2 s"
    assert results == {task: task[1] for task in tasks if task[1] < 600}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux bounds the memory")
def test_a_task_cannot_take_more_memory_than_it_may():
    results = dict(run_parallel(allocate, [10**6, 2 * 10**9], 1, Limits(memory_gb=1.0)))
    assert results == {10**6: 10**6, 2 * 10**9: -1}


def test_workers_end_with_what_asks_for_results(tmp_path):
    results = run_parallel(nap, [("", 0), (str(tmp_path), 600)], 2)
    assert next(results) == (("", 0), 0)
    wait_for(lambda: list(tmp_path.iterdir()))
    [worker] = (int(path.name) for path in tmp_path.iterdir())
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 5
    assert not alive(worker)


LEFT = """
import sys
from hbn_foundation.signals.parallel import run_parallel
from signals.test_parallel import square
results = run_parallel(square, range(100), 2)
sys.modules["builtins"].kept = results  # gone after the modules that it needs
next(results)
"""


def test_results_that_nobody_asks_for_leave_no_message_at_the_end():
    ended = subprocess.run(
        [sys.executable, "-c", LEFT],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


SLEEPING = """
from hbn_foundation.signals.parallel import run_parallel
from signals.test_parallel import nap
list(run_parallel(nap, [({folder!r}, 600)] * 2, 2))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_a_parent_that_is_killed_or_interrupted(tmp_path, number):
    parent = subprocess.Popen(
        [sys.executable, "-c", SLEEPING.format(folder=str(tmp_path))],
        env=ENVIRONMENT, start_new_session=True, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    workers: list[int] = []
    try:
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        workers = [int(path.name) for path in tmp_path.iterdir()]
        if number == signal.SIGINT:  # a terminal sends it to all
            os.killpg(parent.pid, number)
        else:
            parent.kill()
        _, message = parent.communicate(timeout=30)
        wait_for(lambda: not any(map(alive, workers)), 60)
        assert message.count("Traceback") == (number == signal.SIGINT)  # of the parent alone
    finally:
        parent.kill()
        parent.wait()
        for worker in filter(alive, workers):
            os.kill(worker, signal.SIGKILL)
