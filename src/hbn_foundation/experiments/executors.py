"""Where jobs are carried out: in this process, or on Dask's workers here or elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import time
from importlib.util import find_spec
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.grid import read_file
from hbn_foundation.experiments.job import FAILED, Job, Outcome
from hbn_foundation.experiments.params import EngineParams, SlurmParams
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.worker import PRELOAD, Context, close_servers, run_job
from hbn_foundation.progress import say
from hbn_foundation.signals.parallel import THREADS, interrupts_held
from hbn_foundation.training.supervision.params import SupervisionParams

SECONDS_WITHOUT_WORKERS = 60.0
LOST = "the connection to Dask's scheduler is lost; the same command runs what is missing"
LIBRARIES = {"ssh": "asyncssh", "slurm": "dask_jobqueue"}


class Inline:
    """One job after another, in the foreground, each in a process of its own."""

    workers = 1

    def __init__(self, context: Context) -> None:
        self.context = context
        self._waiting: list[Job] = []

    def submit(self, job: Job) -> None:
        """Put it into the queue: jobs that have a base before others."""
        self._waiting.append(job)
        self._waiting.sort(key=lambda job: job.base is None)

    def next(self, timeout: float) -> tuple[Job, Outcome] | None:
        """Carry out the first in the queue; wait where there is none."""
        if not self._waiting:
            time.sleep(timeout)
            return None
        job = self._waiting.pop(0)
        return job, run_job(job, self.context)

    def close(self) -> None:
        """End the fork server."""
        close_servers()


class OnDask:
    """Jobs on a cluster; its scheduler keeps no state that matters.

    Parameters
    ----------
    context
        Of the jobs.
    cluster
        Of Dask.
    workers
        How many there are to be.
    """

    def __init__(self, context: Context, cluster: Any, workers: int) -> None:
        from distributed import Client

        self.context, self.cluster, self.workers = context, cluster, workers
        self.client = Client(cluster, set_as_default=False)
        self._ended: queue.Queue[tuple[Job, Any]] = queue.Queue()
        self._futures: dict[str, Any] = {}
        self._count = 0
        self._since, self._reported = time.monotonic(), False

    def submit(self, job: Job) -> None:
        """Send it to a worker that is free.

        A base is no dependency of Dask's: it would send all that depend on it to the one worker
        that has its outcome.
        """
        self._count += 1
        future = self.client.submit(
            _on_worker,
            job,
            self.context,
            key=f"{job.id}-{self._count}",
            pure=False,
            priority=0 if job.base is None else 1,
            resources=_resources(self.context),
            retries=0,
        )
        self._futures[job.id] = future
        future.add_done_callback(lambda future: self._ended.put((job, future)))

    def next(self, timeout: float) -> tuple[Job, Outcome] | None:
        """Wait for the next that ends; one whose worker died too often has failed."""
        from distributed.scheduler import KilledWorker

        try:
            job, future = self._ended.get(timeout=timeout)
        except queue.Empty:
            if self.client.status in ("closed", "closing"):
                raise UserError(LOST) from None
            self._report_missing_workers()
            return None
        self._futures.pop(job.id, None)
        try:
            return job, future.result(timeout=60)
        except KilledWorker as error:
            worker = str(getattr(error.last_worker, "address", ""))
            what = f"its worker died {self.context.retries + 1} times"
            return job, Outcome(FAILED, what, worker=worker)
        except Exception as error:
            if future.cancelled():  # with the scheduler: this process cancels none
                raise UserError(LOST) from None
            text = " ".join(str(error).split())
            return job, Outcome(FAILED, f"{type(error).__name__}: {text}")

    def _report_missing_workers(self) -> None:
        """Log once that there is no worker: they may be queued, or have died as they started."""
        if self.cluster.scheduler_info["workers"]:
            self._since = time.monotonic()
        elif time.monotonic() - self._since > SECONDS_WITHOUT_WORKERS and not self._reported:
            self._reported = True
            say("no worker has connected: they are still queued, or their logs name an error")

    def close(self) -> None:
        """Close client and cluster; jobs that run are ended with their workers."""
        for part in (self.client, self.cluster):
            with contextlib.suppress(Exception):  # the scheduler may be gone
                part.close(timeout=10)


def _on_worker(job: Job, context: Context) -> Outcome:
    """Run a job in a worker process."""
    from distributed import get_worker

    worker = get_worker()
    name = str(worker.name if worker.name is not None else worker.address)
    return run_job(job, context, name.removeprefix("tcp://").replace(":", "-"))


def make_executor(params: EngineParams, context: Context) -> Inline | OnDask:
    """Start what the parameters name.

    Raises
    ------
    UserError
        When a library is missing, or the cluster does not start.
    """
    if params.engine == "inline":
        return Inline(context)
    library = LIBRARIES.get(params.engine)
    if library is not None and find_spec(library) is None:
        raise UserError(
            f"engine={params.engine}: {library} is not installed; "
            'pip install "hbn-foundation[cluster]"'
        )
    import dask

    dask.config.set(_settings(context, params.engine))
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    start = {"local": _local, "ssh": _ssh, "slurm": _slurm}[params.engine]
    try:
        executor = OnDask(context, start(params, context), count_workers(params, context.device))
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"engine={params.engine}: no cluster: {text}") from error
    if find_spec("bokeh"):
        say(f"Dask's dashboard: {executor.client.dashboard_link}")
    return executor


def read_cluster(params: EngineParams) -> EngineParams:
    """Read the cluster's file, where one is named; errors as of `read_file`."""
    if params.cluster_file is None:
        return params
    given = params.model_dump(exclude={"cluster_file"})
    return read_file(type(params), params.cluster_file, "cluster_file", given)


def count_workers(params: EngineParams, device: str) -> int:
    """How many jobs run at once."""
    if params.engine == "inline":
        return 1
    if params.engine == "ssh" and params.ssh is not None:
        return params.ssh.workers_per_host * (len(params.ssh.hosts) - 1)
    if params.engine == "slurm":
        return (params.slurm or SlurmParams()).jobs
    if params.workers is not None:
        return params.workers
    if (params.device or device) != "cpu":
        return params.gpus
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // params.threads)


def _gpus_of_a_machine(params: EngineParams) -> int:
    """How many GPUs the workers of one machine divide among them; 0 where the system does."""
    if params.engine == "ssh" and params.ssh is not None:
        return params.ssh.workers_per_host
    return params.gpus if params.engine == "local" else 0


def make_context(
    params: EngineParams,
    stores: Stores,
    device_plan: dict[str, Any],
    limits: SupervisionParams,
    threads: int | None,
    preload: tuple[str, ...] = (),
) -> Context:
    """Make what the jobs of an experiment share; `threads` of each, None for all."""
    plan = {**device_plan, "chosen": params.device or device_plan["chosen"]}
    preload = (*PRELOAD, *preload)
    return Context(
        stores, plan, limits, params.retries, threads, _gpus_of_a_machine(params), preload
    )


def _settings(context: Context, engine: str) -> dict[str, Any]:
    """Dask's settings: a job computes in a child, so a worker's own memory is not limited.

    Workers of this machine log nothing: what goes wrong is in the outcome of the job. Those
    elsewhere write to logs of their own; over ssh Dask reads there where they listen.
    """
    memory = ("target", "spill", "pause", "terminate")
    level = "critical" if engine == "local" else "info"
    # a worker reads its level from its environment, before it is sent these settings
    environment = dict.fromkeys(THREADS, str(context.threads or 1))
    return {
        "logging.distributed": level,
        "distributed.scheduler.allowed-failures": context.retries,
        "distributed.scheduler.work-stealing": False,
        "distributed.scheduler.worker-saturation": 1.0,
        **{f"distributed.worker.memory.{name}": False for name in memory},
        "distributed.nanny.pre-spawn-environ": environment | {"DASK_LOGGING__DISTRIBUTED": level},
    }


def _resources(context: Context) -> dict[str, float]:
    return {"GPU": 1} if context.device == "cuda" else {"job": 1}


def _local(params: EngineParams, context: Context) -> Any:
    from distributed import LocalCluster

    folder = context.stores.work / "dask"
    folder.mkdir(parents=True, exist_ok=True)
    with interrupts_held():  # threads and workers that are started here inherit it
        return LocalCluster(
            n_workers=count_workers(params, context.device),
            threads_per_worker=1,
            resources=_resources(context),
            dashboard_address="127.0.0.1:0",
            local_directory=str(folder),
            memory_limit=None,
            silence_logs=logging.CRITICAL,
        )


def _ssh(params: EngineParams, context: Context) -> Any:
    from distributed import SSHCluster

    assert params.ssh is not None  # EngineParams needs it
    return SSHCluster(
        list(params.ssh.hosts),
        connect_options=dict(params.ssh.connect),
        worker_options={
            "nthreads": 1,
            "n_workers": params.ssh.workers_per_host,
            "resources": _resources(context),
            "memory_limit": 0,
        },
        scheduler_options={"port": 0, "dashboard_address": ":0"},
        remote_python=params.ssh.python or sys.executable,
    )


def _slurm(params: EngineParams, context: Context) -> Any:
    from dask_jobqueue import SLURMCluster

    slurm = params.slurm or SlurmParams()
    resources = ",".join(f"{name}={count:g}" for name, count in _resources(context).items())
    cluster = SLURMCluster(
        queue=slurm.queue,
        account=slurm.account,
        cores=slurm.cores,
        processes=1,
        memory=slurm.memory,
        walltime=slurm.walltime,
        job_extra_directives=list(slurm.extra),
        job_script_prologue=list(slurm.prologue),
        worker_extra_args=[f"--resources={resources}", "--nthreads=1"],
        log_directory=str(context.stores.work / "slurm"),
    )
    cluster.scale(jobs=slurm.jobs)
    return cluster
