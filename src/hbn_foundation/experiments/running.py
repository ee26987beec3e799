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
from hbn_foundation.evaluation.methods import display_name
from hbn_foundation.evaluation.scorers import scorer_of
from hbn_foundation.experiments.engine import carry_out
from hbn_foundation.experiments.executors import count_workers, make_context, read_cluster
from hbn_foundation.experiments.hashing import canonical_hash
from hbn_foundation.experiments.job import DONE, KEPT, Entry, Job
from hbn_foundation.experiments.params import EngineParams
from hbn_foundation.experiments.store import SCORES
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import PREDICTIONS
from hbn_foundation.progress import say
from hbn_foundation.scores import WITHIN
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.supervision.run_folder import RUN, prune_unfinished

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset

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
    kind: str, task: Callable[..., Any], identity: dict[str, Any], arguments: dict[str, Any],
    training: RunParams, base: Entry | None = None,
) -> Job:  # fmt: skip
    """Make a job that calls a function of a module; the identity makes its key."""
    return Job(
        kind, canonical_hash(identity), f"{task.__module__}:{task.__name__}", arguments, base,
        identity, training.batch_size, training.max_training_time,
    )  # fmt: skip


def result_of(job: Job, stores: Stores) -> Path:
    """Give the folder of a result that is there."""
    return stores.store(job.kind).path(job.key)


def read_scores(runs: Iterable[Run], stores: Stores, first: Sequence[str] = ()) -> pd.DataFrame:
    """Read the scores of finished runs, one row per method; NaN where there is no score.

    `first` names the columns that come first.
    """
    tables = [
        pd.DataFrame(json.loads((result_of(run.job, stores) / SCORES).read_text()))
        .fillna(np.nan).infer_objects().assign(**run.place)
        for run in runs
    ]  # fmt: skip
    table = pd.concat(tables, ignore_index=True)
    return table[[*first, *(name for name in table if name not in first)]]


def said(run: Run, stores: Stores) -> str:
    """One line about a finished run: the score of each method, averaged over its rows."""
    rows = read_scores([run], stores)
    score = next(name for name in (WITHIN, "nrmse", "window_nrmse", "window_auroc") if name in rows)
    means = rows.groupby("method")[score].mean()
    if means.isna().all():
        words = "missing, one test value only"
    else:
        values = means.map("{:.3f}".format).replace("nan", "missing")
        words = ", ".join(f"{display_name(str(name))} {one}" for name, one in values.items())
    start = f"{run.name}: " if run.name else ""
    return f"{start}{scorer_of(score).display_name} {words}"


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
    said: Callable[[Run, Stores], str] = said,
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
        Gives a line about a finished run.

    Raises
    ------
    UserError
        When a job has no result.
    """
    recipe = runs[0].recipe
    threads = None if params.engine == "inline" else params.threads  # one job has all of them
    context = make_context(params, stores, device_plan, recipe.supervision, threads, EVALUATING)
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
            say(said(by_job[job.id], stores))

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
