"""One job, on the worker: kept already, held by others, or carried out in a process of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.job import (
    DONE,
    FAILED,
    HELD,
    KEPT,
    MISSING,
    OUT,
    Entry,
    Job,
    Outcome,
    rerun,
)
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.signals.parallel import THREADS
from hbn_foundation.training.supervision.display import Display, Quiet
from hbn_foundation.training.supervision.fork_server import ForkServer, ForkServerError
from hbn_foundation.training.supervision.incidents import FILE as INCIDENTS
from hbn_foundation.training.supervision.params import SupervisionParams
from hbn_foundation.training.supervision.process import RESULT, Process, start_interpreter
from hbn_foundation.training.supervision.run_folder import RunFolder, in_use
from hbn_foundation.training.supervision.supervisor import Supervisor, TrainingStopped, Work

TARGET = "hbn_foundation.experiments.job:run_target"
#: What a fork server imports, so that a job starts at once.
PRELOAD = (
    "hbn_foundation.experiments.targets",
    "hbn_foundation.training.pretrain",
    "hbn_foundation.training.pretraining_module",
    "hbn_foundation.training.objectives.make",
    "hbn_foundation.training.finetune",
    "hbn_foundation.training.head_fitting",
    "hbn_foundation.training.finetuned",
    "hbn_foundation.training.callbacks.checkpoints",
    "hbn_foundation.training.callbacks.phases",
    "hbn_foundation.training.callbacks.progress",
    "safetensors.torch",
    "lightning",
)


@dataclass(frozen=True)
class Context:
    """What all jobs of an experiment share, ready to be sent to a worker.

    Attributes
    ----------
    stores
        Where results and unfinished jobs lie.
    device_plan
        `chosen` says where to train.
    limits
        Of silence.
    retries
        How often a job that died or hung is started again.
    threads
        Of a job; None leaves them as they are.
    gpus
        Of each machine, one for each of its workers; 0 leaves that to the system.
    preload
        What a fork server imports.
    """

    stores: Stores
    device_plan: dict[str, Any] = field(default_factory=lambda: {"chosen": "cpu"})
    limits: SupervisionParams = field(default_factory=SupervisionParams)
    retries: int = 2
    threads: int | None = 1
    gpus: int = 0
    preload: tuple[str, ...] = PRELOAD

    @property
    def device(self) -> str:
        """Where jobs compute."""
        return str(self.device_plan["chosen"])

    @property
    def forks(self) -> bool:
        """Whether jobs are forked from a server that has everything imported."""
        return sys.platform == "linux" and self.device == "cpu"


def base_not_found(base: Entry, folder: object) -> str:
    """Say that a base is missing, and how to train it."""
    return f"base not found: {base.key} is not in {folder}; train it by {rerun(base.id)}"


def run_job(job: Job, context: Context, worker: str = "") -> Outcome:
    """Carry out a job unless its result is there; the result is on disk.

    Parameters
    ----------
    job
        What is to be done.
    context
        What all jobs share.
    worker
        Name of the worker; "" carries it out in the foreground.

    Raises
    ------
    TrainingStopped
        After SIGINT or SIGTERM in the foreground.
    """
    started = time.monotonic()
    try:
        status, what = _run(job, context, context.stores.at(worker))
    except TrainingStopped:
        raise
    except (UserError, ForkServerError) as error:
        status, what = FAILED, str(error)
    except Exception as error:  # anything else must not end the other jobs
        status, what = FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Outcome(status, what, time.monotonic() - started, worker)


def _run(job: Job, context: Context, stores: Stores) -> tuple[str, str]:
    if stores.get(job.kind, job.key) is not None:
        stores.send(job.kind, job.key)
        return KEPT, ""
    store, folder = stores.store(job.kind), stores.work / job.id
    lock = store.lease(job.key)
    if lock is None:
        return HELD, "another process"
    with lock:
        if in_use(folder):
            return HELD, "another process"
        if store.get(job.key) is not None:  # published just before it was locked
            return KEPT, ""
        found = None
        if job.base is not None:
            bases = stores.store(job.base.kind)
            found = bases.get(job.base.key) if stores.sync.skip_sync else stores.get(*job.base)
            if found is None:
                return MISSING, base_not_found(job.base, bases.root)
        made = folder / OUT / store.needs  # there: trained, not published
        if not ((folder / RESULT).is_file() and made.exists()):
            _carry_out(job, folder, context, found, stores.worker)
        if (folder / INCIDENTS).is_file():
            shutil.copy(folder / INCIDENTS, folder / OUT / INCIDENTS)
        store.publish(job.key, folder / OUT)
        stores.send(job.kind, job.key)
        shutil.rmtree(folder, ignore_errors=True)
    return DONE, ""


def _carry_out(job: Job, folder: Path, context: Context, base: Path | None, worker: str) -> None:
    """Call the job's target in a supervised process, resuming where an earlier one died."""
    run = RunFolder(folder, dict(job.identity))
    try:
        run.check_best()
        shutil.rmtree(folder / OUT, ignore_errors=True)
        work = Work(
            TARGET,
            {"job": job, "folder": folder, "base": base, "device_plan": context.device_plan},
            device=context.device,
            batch_size=job.batch_size,
            seconds=job.seconds,
            name=job.id,
        )
        limits = context.limits.model_copy(update={"max_restarts": context.retries})
        start_child = start_of_children(context, worker)
        Supervisor(run, work, limits, start_child, Quiet if worker else Display).run()
        if not (folder / OUT).is_dir():
            raise UserError(f"{job.id}: the time limit ended it; it resumes from its last epoch")
    finally:
        run.close()


_SERVERS: dict[tuple[Any, ...], ForkServer] = {}
_GPUS: dict[str, FileLock | None] = {}  # the lock of the one that this process has


def own_gpu(count: int) -> str:
    """Choose a GPU that no other worker on this machine has, for as long as this process lives.

    Parameters
    ----------
    count
        How many there are, where CUDA_VISIBLE_DEVICES does not name them.
    """
    if not _GPUS:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = [name for name in visible.split(",") if name] or list(map(str, range(count)))
        folder = Path(tempfile.gettempdir()) / f"hbn-foundation-gpus-{getpass.getuser()}"
        folder.mkdir(exist_ok=True)
        for name in names:
            lock = FileLock(folder / f"{name}.lock")
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                _GPUS[name] = lock
                break
        else:  # more workers than GPUs
            _GPUS[names[os.getpid() % len(names)]] = None
    return next(iter(_GPUS))


def start_of_children(context: Context, worker: str) -> Callable[[Path], Process]:
    """Give what starts the children of this process, with their threads pinned."""
    environment = dict.fromkeys(THREADS, str(context.threads)) if context.threads else {}
    if context.gpus and context.device == "cuda" and worker:
        environment["CUDA_VISIBLE_DEVICES"] = own_gpu(context.gpus)
    if not context.forks:
        return partial(start_interpreter, environment=environment)
    key = (os.getpid(), context.preload, tuple(environment.items()))
    if key not in _SERVERS:
        _SERVERS[key] = ForkServer(context.preload, environment)
    return _SERVERS[key].start_child


def close_servers() -> None:
    """End the fork servers of this process."""
    for server in _SERVERS.values():
        server.close()
    _SERVERS.clear()
