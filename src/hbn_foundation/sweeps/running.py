"""One job, on the worker: kept already, held by others, or carried out in a process of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hbn_foundation.errors import UserError
from hbn_foundation.signals.parallel import THREADS
from hbn_foundation.sweeps.data import DataPlace
from hbn_foundation.sweeps.jobs import base_not_found
from hbn_foundation.sweeps.params import StoreParams
from hbn_foundation.sweeps.specs import BASE, FINETUNE, BaseSpec, FinetuneSpec
from hbn_foundation.sweeps.store import Store
from hbn_foundation.sweeps.sync import Remote
from hbn_foundation.training.supervision.display import Display, Quiet
from hbn_foundation.training.supervision.fork_server import ForkServer, ForkServerError
from hbn_foundation.training.supervision.params import SupervisionParams
from hbn_foundation.training.supervision.process import RESULT, Process, start_interpreter
from hbn_foundation.training.supervision.run_folder import RunFolder, in_use, try_lock
from hbn_foundation.training.supervision.supervisor import (
    Supervisor,
    TrainingStopped,
    Work,
)

DONE, KEPT, HELD, FAILED, BLOCKED, MISSING = (
    "done", "kept", "held", "failed", "blocked", "base_missing"
)  # fmt: skip
OUT = "out"
TRAINING = "hbn_foundation.sweeps.training"


@dataclass(frozen=True)
class Context:
    """What all jobs of a sweep share, ready to be sent to a worker.

    Attributes
    ----------
    data
        Where the data lies.
    stores
        Where bases, results and unfinished jobs go.
    device_plan
        `chosen` says where to train.
    limits
        Of silence.
    retries
        How often a job that died or hung is started again.
    threads
        Of a job.
    job_start
        `auto`, `fork` or `fresh`.
    gpus
        Of each machine, one for each of its workers; 0 leaves that to the system.
    train_base, finetune, preload
        What jobs call, and what a fork server imports for it.
    sweep
        Name of the sweep that the jobs are of, for their leases.
    """

    data: DataPlace
    stores: StoreParams
    device_plan: dict[str, Any] = field(default_factory=lambda: {"chosen": "cpu"})
    limits: SupervisionParams = field(default_factory=SupervisionParams)
    retries: int = 2
    threads: int = 1
    job_start: str = "auto"
    gpus: int = 0
    train_base: str = f"{TRAINING}:train_base_in"
    finetune: str = f"{TRAINING}:finetune_in"
    preload: tuple[str, ...] = ()
    sweep: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        # a worker elsewhere begins in another folder than this one
        object.__setattr__(self, "stores", self.stores.absolute())

    @property
    def forks(self) -> bool:
        """Whether jobs are forked from a server that has everything imported."""
        if self.job_start == "auto":
            return sys.platform == "linux" and self.device_plan["chosen"] == "cpu"
        return self.job_start == "fork"


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    status
        done, kept (was there), held (somebody else works on it), failed, blocked, base_missing.
    what
        The reason, in one line.
    seconds
        From its start on the worker to its entry in the store.
    worker
        Who carried it out.
    """

    status: str
    what: str = ""
    seconds: float = 0.0
    worker: str = ""


@dataclass(frozen=True)
class Place:
    """The folders of one worker.

    Attributes
    ----------
    stores
        By kind.
    remotes
        By kind; empty where all share a file system.
    work
        Of unfinished jobs.
    """

    stores: dict[str, Store]
    remotes: dict[str, Remote]
    work: Path

    @classmethod
    def of(cls, params: StoreParams, worker: str = "") -> Place:
        """Find the folders of a worker; without a name, or with a common disk, the common ones."""
        remotes = {}
        bases, results, work = map(Path, (params.bases, params.results, params.work))
        if params.sync_url and worker:
            names = {"host": socket.gethostname(), "worker": worker.replace("/", "_")}
            own = Path(params.worker_folder.format(**names))
            bases, results, work = own / "bases", own / "finetunings", own / "work"
        if params.sync_url:
            remotes = {
                kind: Remote(f"{params.sync_url.rstrip('/')}/{name}", kind, worker)
                for kind, name in ((BASE, "bases"), (FINETUNE, "finetunings"))
            }
        stores = {BASE: Store(bases.absolute()), FINETUNE: Store(results.absolute(), FINETUNE)}
        return cls(stores, remotes, work.absolute())

    def take(self, kind: str, key: str) -> Path | None:
        """Give a whole entry, fetched where it is elsewhere; None when there is none."""
        found = self.stores[kind].take(key)
        if (
            found is None
            and kind in self.remotes
            and self.remotes[kind].fetch(key, self.stores[kind])
        ):
            found = self.stores[kind].take(key)
        return found

    def send(self, kind: str, key: str) -> None:
        """Send an entry to where others fetch it, unless all share a file system."""
        if kind in self.remotes:
            self.remotes[kind].push(key, self.stores[kind])


def run_job(spec: BaseSpec | FinetuneSpec, context: Context, worker: str = "") -> Outcome:
    """Carry out a job unless its result is there; what it gives is on disk.

    Raises
    ------
    TrainingStopped
        After SIGINT or SIGTERM in the foreground.
    """
    started = time.monotonic()
    try:
        status, what = _run(spec, context, worker)
    except TrainingStopped:
        raise
    except (UserError, ForkServerError) as error:
        status, what = FAILED, str(error)
    except Exception as error:  # anything else must not take the sweep along
        status, what = FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Outcome(status, what, time.monotonic() - started, worker)


def _run(spec: BaseSpec | FinetuneSpec, context: Context, worker: str) -> tuple[str, str]:
    kind = BASE if isinstance(spec, BaseSpec) else FINETUNE
    place = Place.of(context.stores, worker)
    store = place.stores[kind]
    if place.take(kind, spec.hash) is not None:
        place.send(kind, spec.hash)
        return KEPT, ""
    lease = store.lease(spec.hash, context.sweep)
    folder = place.work / spec.id
    if lease is None or in_use(folder):
        if lease is not None:
            lease.release()
        return HELD, store.holder(spec.hash) or "another process"
    with lease:
        if store.take(spec.hash) is not None:  # published just before we had the lease
            return KEPT, ""
        arguments: dict[str, Any] = {}
        if isinstance(spec, FinetuneSpec):
            base = None
            if spec.base_hash is not None:
                bases = place.stores[BASE]
                skip = context.stores.skip_sync
                base = bases.take(spec.base_hash) if skip else place.take(BASE, spec.base_hash)
                if base is None:
                    return MISSING, base_not_found(spec.base_hash, bases.root)
            arguments = {"base": base, "keep_weights": context.stores.keep_weights}
        if not ((folder / RESULT).is_file() and (folder / OUT).is_dir()):  # trained, not published
            _carry_out(spec, folder, context, worker, arguments)
        store.publish(spec.hash, folder / OUT)
        place.send(kind, spec.hash)
    shutil.rmtree(folder, ignore_errors=True)
    return DONE, ""


def _carry_out(
    spec: BaseSpec | FinetuneSpec,
    folder: Path,
    context: Context,
    worker: str,
    arguments: dict[str, Any],
) -> None:
    """Train in a supervised process, going on where an earlier one died."""
    is_base = isinstance(spec, BaseSpec)
    supervised = spec.supervised if isinstance(spec, BaseSpec) else spec.tuning
    trainer: Any = supervised.trainer if supervised is not None else spec.trainer  # type: ignore[union-attr]
    run = RunFolder(folder, spec.hashed())
    try:
        run.check_best()
        shutil.rmtree(folder / OUT, ignore_errors=True)
        with start_of_children(context, worker) as start_child:
            work = Work(
                context.train_base if is_base else context.finetune,
                {"folder": folder, "spec": spec, "data": context.data, "run_id": spec.id,
                 "device_plan": context.device_plan, "threads": context.threads, **arguments},
                device=context.device_plan["chosen"],
                batch_size=trainer.batch_size,
                seconds=trainer.max_training_time,
                name=spec.id,
            )  # fmt: skip
            limits = context.limits.model_copy(update={"max_restarts": context.retries})
            Supervisor(run, work, limits, start_child, Quiet if worker else Display).run()
        if not (folder / OUT).is_dir():
            raise UserError(f"{spec.id}: the time limit ended it; it goes on from its last epoch")
    finally:
        run.close()


_SERVERS: dict[tuple[Any, ...], ForkServer] = {}
_GPUS: dict[str, IO[str] | None] = {}  # the locked file of the one that this process has


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
            file = open(folder / f"{name}.lock", "w")  # noqa: SIM115 - held until the process ends
            if try_lock(file):
                _GPUS[name] = file
                break
            file.close()
        else:  # more workers than GPUs
            _GPUS[names[os.getpid() % len(names)]] = None
    return next(iter(_GPUS))


@contextlib.contextmanager
def start_of_children(context: Context, worker: str) -> Iterator[Callable[[Path], Process]]:
    """Give what starts the children of this process, with their threads pinned."""
    environment = dict.fromkeys(THREADS, str(context.threads))
    if context.gpus and context.device_plan["chosen"] == "cuda" and worker:
        environment["CUDA_VISIBLE_DEVICES"] = own_gpu(context.gpus)
    if context.forks:
        preload = context.preload
        if not preload:
            from hbn_foundation.sweeps.training import PRELOAD

            preload = PRELOAD
        key = (os.getpid(), preload, tuple(environment.items()))
        if key not in _SERVERS:
            _SERVERS[key] = ForkServer(preload, environment)
        yield _SERVERS[key].start_child
        return
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)  # children inherit it
    try:
        yield start_interpreter
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def close_servers() -> None:
    """End the fork servers of this process."""
    for server in _SERVERS.values():
        server.close()
    _SERVERS.clear()
