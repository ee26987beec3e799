"""Independent tasks in worker processes, each of which can be ended alone.

The workers are fresh interpreters (loky's, of joblib) and need no guard in the script that calls.
Each has a pipe of its own and one task at a time, computes with one thread, and ends within
seconds of the process that started it, even if that is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
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
SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_OF_WAITING = 0.5
GRACE = 60.0
"""Seconds beyond its limit after which a worker ends itself: its parent is gone, and the code that
runs lets no thread look for it."""

OOM_SCORE = 500
"""Linux ends the processes with the highest score first when memory runs out: a worker."""


class WorkerKilled(Exception):  # noqa: N818 - says what happened
    """A task whose worker process died twice, or was ended because it took too long."""


@dataclass(frozen=True)
class Limits:
    """What a task may use.

    Attributes
    ----------
    seconds
        Seconds that a task may take, as a function of it; None is no limit.
    prepare
        Called in each worker before its first task, whose seconds it takes none of: imports.
    memory_gb
        Memory of a worker in 10⁹ bytes; beyond it an allocation is a MemoryError. None is no
        limit, and so is any value where the system has no such limits (macOS, Windows).
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
    """Yield each task with its result, as they are done.

    Parameters
    ----------
    function
        Of a module, so that workers can import it.
    tasks
        What it is called with, one after another.
    n_jobs
        Worker processes; −1 takes one for each core, 0 computes in this process, without limits.
    limits
        What a task may use; None is no limit.

    Yields
    ------
    task, result
        The result is a WorkerKilled for a task that took too long, and for one whose worker died
        and died again when it was alone. Exceptions of `function` are raised here, and end the
        rest.
    """
    if n_jobs == 0:
        from threadpoolctl import threadpool_limits

        for task in tasks:
            with threadpool_limits(1):
                result = function(task)
            yield task, result
        return
    pool = _Pool(function, limits or Limits())
    try:
        lost = yield from pool.run(iter(tasks), count_workers(n_jobs))
        for task in [task for task, _ in lost]:
            for _, why in (yield from pool.run(iter([task]), 1)):
                yield task, WorkerKilled(why)
    finally:
        pool.close()


def count_workers(n_jobs: int) -> int:
    """Count of worker processes for `n_jobs`; below 0 the cores this process may use."""
    if n_jobs >= 0:
        return n_jobs
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """Workers that are started when there are tasks for them."""

    def __init__(self, function: Callable[[Any], Any], limits: Limits) -> None:
        self.function, self.limits = function, limits
        self.workers: list[_Worker] = []
        atexit.register(self.close)  # before the modules that it needs are gone

    def run(
        self, tasks: Iterator[Any], n_workers: int
    ) -> Generator[tuple[Any, Any], None, list[tuple[Any, str]]]:
        """Yield results until the tasks are done; return those whose worker died, and of what."""
        lost: list[tuple[Any, str]] = []
        while True:
            self._give(tasks, n_workers)
            busy = {w.pipe: w for w in self.workers if w.busy}
            if not busy:
                return lost
            answered = wait(list(busy), SECONDS_OF_WAITING)
            for pipe, worker in busy.items():
                worker.seconds_left -= worker.seconds_waited()
                if pipe in answered:
                    try:
                        answer = worker.pipe.recv()
                    except (EOFError, OSError):
                        worker.process.join(SECONDS_OF_WAITING)  # for its own exit code
                        self._end(worker)
                        lost.append((worker.task, worker.cause()))
                        continue
                    if answer is None:
                        worker.begin()
                        continue
                    worker.busy = False
                    done, result = answer
                    if not done:
                        raise result
                elif worker.seconds_left > 0:
                    continue
                else:
                    result = WorkerKilled(f"ended because it took more than {worker.seconds:.0f} s")
                    self._end(worker)
                task = worker.task
                self._give(tasks, n_workers)
                yield task, result

    def _give(self, tasks: Iterator[Any], n_workers: int) -> None:
        """Give tasks to idle workers, starting them up to `n_workers`."""
        idle = [worker for worker in self.workers if not worker.busy]
        while idle or len(self.workers) < n_workers:
            try:
                task = next(tasks)
            except StopIteration:
                return
            if not idle:
                idle.append(_Worker(self.function, self.limits))
                self.workers.append(idle[-1])
            idle.pop().give(task)

    def _end(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.kill()

    def close(self) -> None:
        """End all workers at once."""
        atexit.unregister(self.close)
        while self.workers:
            self.workers.pop().kill()


class _Worker:
    """A worker process and the task it has."""

    def __init__(self, function: Callable[[Any], Any], limits: Limits) -> None:
        from joblib.externals.loky.backend.context import get_context

        self.limits, self.ready, self.busy = limits, False, False
        context = get_context("loky")
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

    def give(self, task: Any) -> None:
        self.task, self.busy = task, True
        self.seconds = self.limits.seconds(task) if self.limits.seconds else float("inf")
        self.seconds_left, self._looked = float("inf"), time.monotonic()
        if self.ready:
            self.begin()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is found dead
            self.pipe.send((task, self.seconds))

    def seconds_waited(self) -> float:
        """Seconds since the last look: not those for which all were stopped (Ctrl-Z, a laptop)."""
        before, self._looked = self._looked, time.monotonic()
        return min(self._looked - before, 2 * SECONDS_OF_WAITING)

    def begin(self) -> None:
        """Count the task's seconds from now."""
        self.ready, self.seconds_left = True, self.seconds

    def kill(self) -> None:
        from joblib.externals.loky.backend.utils import kill_process_tree

        kill_process_tree(self.process)
        self.pipe.close()

    def cause(self) -> str:
        """Say what a worker died of; to be asked when it is ended."""
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return "its worker process was killed, probably for want of memory"
        how = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with code {code}"
        return f"its worker process ended {how}"


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let a process that is started in this block not get Ctrl-C, which is its parent's."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # where it is started later, that ends the block
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
    """Send None when ready, then answer tasks: with (True, result) or (False, exception)."""
    _end_with(parent)
    _limit_memory(memory_gb)
    if prepare is not None:
        prepare()
    pipe.send(None)
    with open(os.devnull, "w") as nowhere:
        while True:
            try:
                task, seconds = pipe.recv()
            except (EOFError, OSError):
                return
            if seconds < threading.TIMEOUT_MAX:  # the parent ends it before, if there is one
                faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=nowhere)
            try:
                answer = True, function(task)
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = False, _picklable(error)
            faulthandler.cancel_dump_traceback_later()
            pipe.send(answer)


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _limit_memory(memory_gb: float | None) -> None:
    """Bound the memory, and be the first to end where there is none left."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE))
    if memory_gb is None:
        return
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        n_bytes = int(memory_gb * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, n_bytes))


def _end_with(parent: int) -> None:
    """End this worker when the process that started it is gone: a killed one cannot say so.

    The terminal is that one's, too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    draw_nothing()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
