"""Runs of cross-validation, a comparison or a learning curve: jobs whose results are a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.engine import carry_out
from hbn_foundation.experiments.executors import count_workers, gpus_of_a_machine, read_cluster
from hbn_foundation.experiments.hashing import canonical_hash
from hbn_foundation.experiments.job import DONE, KEPT, Entry, Job
from hbn_foundation.experiments.params import EngineParams
from hbn_foundation.experiments.store import SCORES
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import PREDICTIONS
from hbn_foundation.experiments.worker import PRELOAD, Context
from hbn_foundation.progress import say
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.supervision.run_folder import RUN, prune_unfinished

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset

TASKS = "hbn_foundation.experiments.tasks"

#: What a fork server imports beside the trainings.
EVALUATING = ("hbn_foundation.experiments.tasks", "sklearn.linear_model", "scipy.linalg")


@dataclass(frozen=True)
class Run:
    """One run of an experiment.

    Attributes
    ----------
    job
        Trains or scores.
    name
        Words for messages.
    dataset
        What it learns from and is scored on, with its own splits.
    recipe
        Parameters of its training.
    method
        What it tries, where the runs differ in that.
    place
        What else sets it apart, as columns of the results: `repeat`, `fold`, `seed`, `share`, …
    """

    job: Job
    name: str
    dataset: EEGDataset
    recipe: Any
    method: str = ""
    place: dict[str, Any] = field(default_factory=dict)

    @property
    def splits(self) -> pd.DataFrame:
        """`subject` and `split`."""
        return self.dataset.splits


def make_job(
    kind: str, task: str, identity: dict[str, Any], arguments: dict[str, Any],
    training: RunParams, base: Entry | None = None,
) -> Job:  # fmt: skip
    """Make a job of a function of `tasks`, or `module:function`; the identity makes its key."""
    target = task if ":" in task else f"{TASKS}:{task}"
    return Job(
        kind, canonical_hash(identity), target, arguments, base, identity,
        training.batch_size, training.max_training_time,
    )  # fmt: skip


def result_of(job: Job, stores: Stores) -> Path:
    """Give the folder of a result that is there."""
    return stores.store(job.kind).path(job.key)


def read_scores(runs: Iterable[Run], stores: Stores) -> pd.DataFrame:
    """Read the scores of finished runs, one row per method; NaN where there is no score."""
    tables = [
        pd.DataFrame(json.loads((result_of(run.job, stores) / SCORES).read_text()))
        .fillna(np.nan).infer_objects().assign(**run.place)
        for run in runs
    ]  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def read_predictions(runs: Iterable[Run], stores: Stores) -> pd.DataFrame:
    """Read the predictions of finished runs for their test windows."""
    tables = [
        pd.read_parquet(result_of(run.job, stores) / PREDICTIONS).assign(**run.place)
        for run in runs
    ]
    return pd.concat(tables, ignore_index=True)


def run_all(
    name: str,
    runs: Sequence[Run],
    encoders: Sequence[Run],
    stores: Stores,
    params: EngineParams,
    device_plan: dict[str, Any],
    said: Callable[[Run], str],
) -> None:
    """Carry out the runs whose results are missing.

    Parameters
    ----------
    name
        Of the experiment, for its lines.
    runs, stores
        What is to be done, and where results go.
    encoders
        Pretrainings; of these, only what a missing result begins at is carried out.
    params
        Where jobs run, of `at_once`.
    device_plan
        `chosen` says where to train.
    said
        One line about a finished run.

    Raises
    ------
    UserError
        When a job has no result.
    """
    recipe = runs[0].recipe
    plan = {**device_plan, "chosen": params.device or device_plan["chosen"]}
    threads = None if params.engine == "inline" else params.threads  # one job has all of them
    context = Context(
        stores, plan, recipe.supervision, params.retries, threads, params.job_start,
        gpus_of_a_machine(params), (*PRELOAD, *EVALUATING),
    )  # fmt: skip
    needed = {run.job.base for run in runs if not stores.store(run.job.kind).has(run.job.key)}
    jobs = [one.job for one in encoders if one.job.entry in needed] + [run.job for run in runs]
    kept = sum(stores.store(job.kind).has(job.key) for job in jobs)
    if kept:
        say(f"{name}: {kept} of {len(jobs)} results are kept")
    unfinished = [path.parent for path in stores.work.glob(f"*/{RUN}")]
    most = max(recipe.trainer.keep_unfinished, count_workers(params, context.device))
    prune_unfinished(unfinished, most)
    by_job = {run.job.id: run for run in runs}

    def tell(job: Job) -> None:
        if job.id in by_job:
            say(said(by_job[job.id]))

    outcomes = carry_out(jobs, context, params, name, tell=tell)
    failed = {job: one for job, one in outcomes.items() if one.status not in (DONE, KEPT)}
    if failed:
        first, outcome = next(iter(failed.items()))
        raise UserError(
            f"{name}: {len(failed)} of {len(jobs)} jobs have no result; {first}: {outcome.what}\n"
            "The same command runs what is missing"
        )


def at_once(params: EngineParams, n_jobs: int, device_plan: dict[str, Any]) -> EngineParams:
    """Let so many jobs run at once on the CPU of this machine; on a GPU there is one job to each.

    A single worker here is none: the jobs run one after another in the foreground.
    """
    params = read_cluster(params)
    if params.engine != "local":
        return params
    on_cpu = (params.device or device_plan["chosen"]) == "cpu"
    workers = params.workers or (n_jobs if on_cpu else params.gpus)
    engine = "inline" if workers == 1 else "local"
    return params.model_copy(update={"workers": workers, "engine": engine})
