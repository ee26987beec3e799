"""Independent tasks in worker processes, such that a worker that is killed loses only its task.

The workers are loky's (joblib): they start fresh interpreters, and need no guard in the script
that calls. Each computes with one thread, and ends within seconds of the process that started it,
even if that is killed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

from hbn_foundation.progress import draw_nothing

Task = TypeVar("Task")
Result = TypeVar("Result")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
SECONDS_BETWEEN_LOOKS = 2.0
MANAGER = "ExecutorManagerThread"
KILLED = "its worker process was killed, probably for want of memory"


class WorkerKilled(Exception):  # noqa: N818 - says what happened
    """A task whose worker process died, twice."""


def run_parallel(
    function: Callable[[Task], Result], tasks: Iterable[Task], n_jobs: int
) -> Iterator[tuple[Task, Result | WorkerKilled]]:
    """Yield each task with its result, as they are done.

    Parameters
    ----------
    function
        Of a module, so that workers can import it.
    tasks
        What it is called with, one after another.
    n_jobs
        Worker processes; 1 computes in this process, −1 takes one for each core.

    Yields
    ------
    task, result
        A task whose worker died is tried again, alone in a worker; if that dies too the result
        is a WorkerKilled. Exceptions of `function` are raised here, and end the rest.
    """
    if n_jobs == 1:
        from threadpoolctl import threadpool_limits

        for task in tasks:
            with threadpool_limits(1):
                result = function(task)
            yield task, result
        return
    waiting = iter(tasks)
    while True:
        lost = yield from _run_until_broken(function, waiting, count_workers(n_jobs))
        if not lost:
            return
        for task in lost:
            again = yield from _run_until_broken(function, iter([task]), 1)
            if again:
                yield task, WorkerKilled(KILLED)


def count_workers(n_jobs: int) -> int:
    """Count of worker processes for `n_jobs`; below 1 the cores this process may use."""
    if n_jobs >= 1:
        return n_jobs
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run_until_broken(
    function: Callable[[Task], Result], tasks: Iterator[Task], n_workers: int
) -> Generator[tuple[Any, Any], None, list[Any]]:
    """Yield results until the tasks are done or a worker dies; return the tasks then lost."""
    from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

    first = list(itertools.islice(tasks, 1))
    if not first:
        return []
    pool = ProcessPoolExecutor(
        n_workers,
        env=dict.fromkeys(THREADS, "1"),
        initializer=_end_with,
        initargs=(os.getpid(),),
    )
    running: dict[Any, Any] = {}
    broken: list[Any] = []
    try:
        tasks = itertools.chain(first, tasks)
        while True:
            while len(running) < 2 * n_workers and not broken:
                for task in itertools.islice(tasks, 1):
                    running[pool.submit(function, task)] = task
                    break
                else:
                    break
            if not running:
                return broken
            yield from _collect(running, broken, BrokenProcessPool)
    finally:
        with _quiet_manager():
            pool.shutdown(kill_workers=True)


@contextlib.contextmanager
def _quiet_manager() -> Iterator[None]:
    """Let loky's own thread, whose pipes close while it waits on them, print no traceback."""
    told = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if failed.thread is None or failed.thread.name != MANAGER:
            told(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = told


def _end_with(parent: int) -> None:
    """End this worker when the process that started it is gone: a killed one cannot say so.

    The terminal is that one's, too.
    """
    draw_nothing()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _collect(
    running: dict[Any, Any], broken: list[Any], broken_error: type[BaseException]
) -> Iterator[Any]:
    """Wait for some of the running futures and yield their results; note the lost tasks."""
    from concurrent.futures import FIRST_COMPLETED, wait

    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        task = running.pop(future)
        try:
            result = future.result()
        except broken_error:
            broken.append(task)
            continue
        yield task, result
