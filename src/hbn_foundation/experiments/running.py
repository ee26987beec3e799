"""Carry out the jobs of cross-validation, a comparison or a learning curve, each with a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.engine import carry_out
from hbn_foundation.experiments.executors import count_workers, gpus_of_a_machine, read_cluster
from hbn_foundation.experiments.job import DONE, KEPT, Job
from hbn_foundation.experiments.params import EngineParams
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.worker import PRELOAD, Context
from hbn_foundation.progress import say
from hbn_foundation.training.recipes import TrainingRecipe
from hbn_foundation.training.supervision.run_folder import RUN, prune_unfinished

#: What a fork server imports beside the trainings.
EVALUATING = ("hbn_foundation.experiments.tasks", "sklearn.linear_model", "scipy.linalg")


def run_jobs(
    name: str,
    jobs: Sequence[Job],
    stores: Stores,
    params: EngineParams,
    device_plan: dict[str, Any],
    recipe: TrainingRecipe,
    tell: Callable[[Job], Any] | None = None,
) -> None:
    """Carry out the jobs whose results are missing.

    Parameters
    ----------
    name
        Of the experiment, for its lines.
    jobs, stores
        What is to be done, and where results go.
    params
        Where jobs run, of `at_once`.
    device_plan
        `chosen` says where to train.
    recipe
        Limits of silence, and how many unfinished trainings stay.
    tell
        Called with each job that is done.

    Raises
    ------
    UserError
        When a job has no result.
    """
    plan = {**device_plan, "chosen": params.device or device_plan["chosen"]}
    threads = None if params.engine == "inline" else params.threads  # one job has all of them
    context = Context(
        stores, plan, recipe.supervision, params.retries, threads, params.job_start,
        gpus_of_a_machine(params), (*PRELOAD, *EVALUATING),
    )  # fmt: skip
    kept = sum(stores.store(job.kind).has(job.key) for job in jobs)
    if kept:
        say(f"{name}: {kept} of {len(jobs)} results are kept")
    unfinished = [path.parent for path in stores.work.glob(f"*/{RUN}")]
    most = max(recipe.trainer.keep_unfinished, count_workers(params, context.device))
    prune_unfinished(unfinished, most)
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
