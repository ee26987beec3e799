"""Independent tasks in worker processes, each of which can be killed alone.

The workers are fresh interpreters (started by joblib's loky), so that the calling script needs no
`if __name__ == "__main__"`. Each has its own pipe, one task at a time and one thread, and ends
within seconds of its parent process, even if that is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import itertools
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from hbn_foundation.progress import draw_nothing

Task = TypeVar("Task")
Result = TypeVar("Result")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
PARENT_POLL_SECONDS = 2.0
WAIT_SECONDS = 0.5
GRACE_SECONDS = 60.0
"""Seconds beyond its limit after which a worker ends itself: its parent no longer exists, and the
running code holds the interpreter lock, so that no thread can check for that."""

OOM_SCORE_ADJUSTMENT = 500
"""When memory runs out, Linux first kills the process with the highest score: a worker."""

READY, WORKING, DONE, FAILED, DIED, LATE = "ready", "working", "done", "failed", "died", "late"


class WorkerKilled(Exception):  # noqa: N818 - says what happened
    """A task whose worker process died twice, or was ended because it took too long."""


@dataclass(frozen=True)
class Limits:
    """Limits of a task; None is no limit.

    Attributes
    ----------
    seconds
        Seconds that a task may take, as a function of it.
    prepare
        Called in each worker before its first task, for imports; its time does not count.
    memory_gb
        Memory of a worker in 10⁹ bytes; beyond it an allocation is a MemoryError. Without effect
        where the system has no such limits (macOS, Windows).
    """

    seconds: Callable[[Any], float] | None = None
    prepare: Callable[[], None] | None = None
    memory_gb: float | None = None


def run_parallel(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    n_jobs: int,
    limits: Limits | None = None,
) -> Iterator[tuple[Task, Result | WorkerKilled]]:
    """Yield each task with its result, in the order in which they are done.

    The result is a WorkerKilled if the task exceeded its time limit, or if its worker died both
    times it was run, the second time alone. An exception of `function`, which workers import from
    its module, is raised here and ends all workers. `n_jobs` counts workers; −1 is one for each
    core, 0 computes in this process, without limits.
    """
    if n_jobs == 0:
        from threadpoolctl import threadpool_limits

        for task in tasks:
            with threadpool_limits(1):
                result = function(task)
            yield task, result
        return
    if n_jobs < 0:
        from joblib import cpu_count

        n_jobs = cpu_count()
    workers: list[_Worker] = []

    def start(task: Task) -> _Worker:
        return _Worker(function, limits or Limits(), task)

    def end_all() -> None:
        while workers:
            workers.pop().kill()

    atexit.register(end_all)  # runs before the modules that it needs are unloaded
    try:
        died = yield from _results(start, workers, tasks, n_jobs)
        died = yield from _results(start, workers, [task for task, _ in died], 1)
        yield from ((task, WorkerKilled(cause)) for task, cause in died)
    finally:
        atexit.unregister(end_all)
        end_all()


def _results(
    start: Callable[[Any], _Worker], workers: list[_Worker], tasks: Iterable[Any], n_workers: int
) -> Generator[tuple[Any, Any], None, list[tuple[Any, str]]]:
    """Yield results until all tasks are done; return the tasks whose worker died, with causes."""
    died: list[tuple[Any, str]] = []
    tasks = iter(tasks)
    workers += map(start, itertools.islice(tasks, n_workers))
    while workers:
        answered = wait([worker.pipe for worker in workers], WAIT_SECONDS)
        for worker in list(workers):
            task = worker.task
            state, value = worker.look(worker.pipe in answered)
            if state == WORKING:
                continue
            if state == FAILED:
                raise value
            following = list(itertools.islice(tasks, 1))
            if following and state == DONE:
                worker.give(following[0])
            else:
                workers.remove(worker)
                worker.kill()
                workers += map(start, following)
            if state == DIED:
                died.append((task, value))
            else:
                yield task, value
    return died


class _Worker:
    """A worker process and its task."""

    def __init__(self, function: Callable[[Any], Any], limits: Limits, task: Any) -> None:
        from joblib.externals.loky.backend.context import get_context

        context = get_context("loky")
        self.limits, self.ready = limits, False
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve,
            args=(theirs, function, limits.prepare, os.getpid(), limits.memory_gb),
            daemon=True,
            env=dict.fromkeys(THREADS, "1"),
        )
        with interrupts_held():
            self.process.start()
        theirs.close()
        self.give(task)

    def give(self, task: Any) -> None:
        self.task, self.looked = task, time.monotonic()
        self.seconds = self.limits.seconds(task) if self.limits.seconds else float("inf")
        self.seconds_left = self.seconds if self.ready else float("inf")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `look` finds it dead
            self.pipe.send((task, self.seconds))

    def look(self, answered: bool) -> tuple[str, Any]:
        """Return the state of the task, and its result, exception or cause of death."""
        before, self.looked = self.looked, time.monotonic()
        # time for which all processes were stopped (Ctrl-Z, a closed laptop) does not count
        self.seconds_left -= min(self.looked - before, 2 * WAIT_SECONDS)
        if not answered:
            if self.seconds_left > 0:
                return WORKING, None
            return LATE, WorkerKilled(f"ended because it took more than {self.seconds:.0f} s")
        try:
            state, value = self.pipe.recv()
        except (EOFError, OSError):
            return DIED, self._cause()
        if state == READY:
            self.ready, self.seconds_left = True, self.seconds
            return WORKING, None
        return state, value

    def kill(self) -> None:
        from joblib.externals.loky.backend.utils import kill_process_tree

        kill_process_tree(self.process)
        self.pipe.close()

    def _cause(self) -> str:
        self.process.join(WAIT_SECONDS)  # for its exit code
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return "its worker process was killed, probably for lack of memory"
        how = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with code {code}"
        return f"its worker process ended {how}"


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes in this block that do not receive Ctrl-C, which is meant for the parent."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # started inside the block, it would reset the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(
    pipe: Connection,
    function: Callable[[Any], Any],
    prepare: Callable[[], None] | None,
    parent: int,
    memory_gb: float | None,
) -> None:
    """Answer tasks until the pipe is closed; run in the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    draw_nothing()  # the terminal is the parent's
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _limit_memory(memory_gb)
    if prepare is not None:
        prepare()
    pipe.send((READY, None))
    with open(os.devnull, "w") as nowhere:
        while True:
            try:
                task, seconds = pipe.recv()
            except (EOFError, OSError):
                return
            if seconds < threading.TIMEOUT_MAX:
                faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=nowhere)
            try:
                answer: tuple[str, Any] = DONE, function(task)
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = FAILED, _picklable(error)
            faulthandler.cancel_dump_traceback_later()
            pipe.send(answer)


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, which a killed parent cannot announce."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(1)


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _limit_memory(memory_gb: float | None) -> None:
    """Bound the memory of this process, and let the system end it first when memory runs out."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE_ADJUSTMENT))
    if memory_gb is None:
        return
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        n_bytes = int(memory_gb * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, n_bytes))
