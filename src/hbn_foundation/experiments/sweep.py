"""A sweep: bases that many fine-tunings share, planned, with what it will take, and carried out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hbn_foundation.errors import UserError, count_of
from hbn_foundation.experiments.checks import check_trainings
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.engine import as_report, carry_out
from hbn_foundation.experiments.executors import count_workers, make_context, read_cluster
from hbn_foundation.experiments.grid import Defaults
from hbn_foundation.experiments.job import FAILED, KEPT, Entry, Outcome
from hbn_foundation.experiments.params import StoreParams, SweepRecipe
from hbn_foundation.experiments.planner import Data, Plan, make_plan
from hbn_foundation.experiments.selection import select
from hbn_foundation.experiments.specs import BASE, FINETUNE, Tuning
from hbn_foundation.experiments.store import METRICS, Store
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import CHECKPOINT, job_of
from hbn_foundation.experiments.worker import base_not_found
from hbn_foundation.progress import duration

PRETRAINING = "pretraining"
NOT_IN_SWEEPS = ("context", "more_targets", "tokens", "input")
GUESSED = {BASE: (30.0, 14_000_000.0), FINETUNE: (10.0, 60_000.0)}  # seconds, bytes
SECONDS_AROUND = 0.3  # of a worker, before and after what a job itself measures
SECONDS_TO_BEGIN = 10.0  # until workers are there and have imported what trainings need
MOST_READ = 200  # results that are looked into

if TYPE_CHECKING:
    from hbn_foundation.recordings.params import CleaningParams
    from hbn_foundation.training.recipes import FineTuningRecipe, PretrainingRecipe
    from hbn_foundation.training.supervision.params import SupervisionParams


def stores_of(params: StoreParams) -> Stores:
    """Give the stores of a sweep; results without weights do not count where these are kept."""
    folders = {BASE: Path(params.bases), FINETUNE: Path(params.results)}
    needs = {FINETUNE: CHECKPOINT} if params.keep_weights else {}
    return Stores(folders, Path(params.work), params, needs=needs)


def plan_sweep(
    data: Data,
    foundation: PretrainingRecipe,
    finetuning: FineTuningRecipe,
    sweep: SweepRecipe,
    cleaning: CleaningParams,
    device_plan: dict[str, Any],
) -> tuple[Plan, str]:
    """Cross folds and grid, and check what can be checked.

    Parameters
    ----------
    data
        What jobs are trained on.
    foundation, finetuning
        Parameters that the grid does not vary.
    sweep
        Study, grid, which jobs, where they run.
    cleaning
        How the signals were cleaned.
    device_plan
        `chosen` says where to train.

    Returns
    -------
    Plan
        The jobs.
    str
        Counts, reuse, time, disk.

    Raises
    ------
    UserError
        What would stop a job, or would be left out of it.
    """
    finetuning.check_new_encoder("finetuning")
    for name in NOT_IN_SWEEPS:
        if getattr(finetuning, name) != type(finetuning).model_fields[name].default:
            raise UserError(
                f"finetuning.{name}: a sweep fine-tunes for one label, on single windows with the "
                f"tokens of its bases; leave {name} at its default"
            )
    tuning = Tuning(**{name: getattr(finetuning, name) for name in Tuning.model_fields})
    defaults = Defaults(
        foundation.encoder, foundation.objective, foundation.trainer, data.dataset.window,
        cleaning, tuning,
    )  # fmt: skip
    stores = stores_of(sweep.store)
    plan = select(
        make_plan(data, sweep.study, sweep.grid, defaults), sweep.jobs, stores.store(BASE)
    )
    for base in plan.bases:
        if base.cleaning != cleaning:  # of a file of jobs
            base.model_copy(update={"cleaning": cleaning.model_dump()}).check_same(base, base.id)
    check_trainings(plan, data)
    workers = count_workers(read_cluster(sweep.engine), device_plan["chosen"])
    return plan, in_words(plan, stores, workers)


def estimate(plan: Plan, stores: Stores, workers: int = 1) -> tuple[float, float, int]:
    """Estimate what is still to be done of a plan.

    A job takes what those of its kind in the store took on average, whatever their parameters;
    without any it is a guess.

    Returns
    -------
    seconds, disk : float
        Until all is done; bytes still to be written.
    measured : int
        How many earlier jobs these are from.
    """
    base, base_bytes, n_bases = mean_cost(stores.store(BASE))
    tuning, tuning_bytes, n_tunings = mean_cost(stores.store(FINETUNE))
    bases, tunings = missing(plan, stores)
    # all workers work at once, but no fine-tuning begins before its base is there
    chain = base * bool(bases) + tuning * bool(tunings)
    seconds = max((bases * base + tunings * tuning) / workers, chain)
    seconds += SECONDS_TO_BEGIN * bool(bases or tunings)
    return seconds, bases * base_bytes + tunings * tuning_bytes, n_bases + n_tunings


def mean_cost(store: Store) -> tuple[float, float, int]:
    """Mean seconds and bytes of a store's jobs, and how many; a guess where it has none."""
    found = []
    for key in store.hashes()[:MOST_READ]:
        try:
            seconds = float(json.loads((store.path(key) / METRICS).read_text())["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append((seconds + SECONDS_AROUND, store.size(key)))
    if not found:
        return (*GUESSED[store.what], 0)
    return fmean(row[0] for row in found), fmean(row[1] for row in found), len(found)


def missing(plan: Plan, stores: Stores) -> tuple[int, int]:
    """Count the bases and the fine-tunings without a result."""
    bases, tunings = (
        sum(not stores.store(spec.JOB).has(spec.hash) for spec in specs) for specs in plan
    )
    return bases, tunings


def in_words(plan: Plan, stores: Stores, workers: int) -> str:
    """Say in a few lines what is planned, what is kept, and what it will take."""
    n_bases, n_tuned = len(plan.bases), len(plan.finetunings)
    shared = sum(spec.base_hash is not None for spec in plan.finetunings)
    folds = count_of(len({spec.target for spec in plan.finetunings}), "fold")
    bases_left, tunings_left = missing(plan, stores)
    lacking = tunings_left - missing(plan, replace(stores, needs={}))[1]
    lines = [f"plan: {count_of(n_bases, 'base')} and {count_of(n_tuned, 'fine-tuning')} of {folds}"]
    if n_bases and shared:
        lines.append(
            f"reuse: each base serves {shared / n_bases:.3g} fine-tunings; trained alone they "
            f"would train {count_of(shared, 'base')}"
        )
    lines.append(
        f"kept from before: {count_of(n_bases - bases_left, 'base')}, "
        f"{count_of(n_tuned - tunings_left, 'fine-tuning')}"
    )
    if lacking:
        lines.append(f"made again for their weights: {count_of(lacking, 'fine-tuning')}")
    seconds, disk, measured = estimate(plan, stores, workers)
    basis = f"as {measured:,} earlier jobs took" if measured else "a guess"
    many = f"{workers} workers" if workers > 1 else "one worker"
    lines.append(f"time: about {duration(seconds)} with {many}, {basis}")
    return "\n".join([*lines, f"disk: about {disk / 1e6:,.0f} MB"])


def put_data(data: Data, params: StoreParams) -> dict[str, str]:
    """Write what the jobs are trained on where they find it.

    Returns
    -------
    dict
        Folder of the data of each kind of training: `pretraining`, and `finetune` of labels.
    """
    return {
        kind: str(put_dataset(data.of(kind), Path(params.work))) for kind in (PRETRAINING, FINETUNE)
    }


def run_sweep(
    plan: Plan,
    data: Mapping[str, str],
    sweep: SweepRecipe,
    device_plan: dict[str, Any],
    limits: SupervisionParams,
    base_report: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Carry out the jobs of a plan that are missing; return what became of each.

    Parameters
    ----------
    plan, sweep, device_plan
        As of `plan_sweep`; one job alone runs in the foreground.
    data
        Of `put_data`.
    limits
        Of silence.
    base_report
        Of the bases, where these were trained before: those that failed are not tried again.
    """
    engine = read_cluster(sweep.engine)
    if sweep.jobs.only is not None:
        engine = engine.model_copy(update={"engine": "inline"})
    stores = stores_of(sweep.store)
    context = make_context(engine, stores, device_plan, limits, engine.threads)
    known = {
        name: Outcome(row["status"], row["what"])
        for name, row in (base_report or {}).items()
        if row["status"] == FAILED
    }
    if sweep.jobs.skip_base_training:
        for base in plan.bases:
            found = stores.get(BASE, base.hash) is not None
            missing = base_not_found(Entry(BASE, base.hash), stores.store(BASE).root)
            known[base.id] = Outcome(KEPT) if found else Outcome(FAILED, missing)
    jobs = [
        *(job_of(base, Path(data[PRETRAINING if base.supervised is None else FINETUNE]))
          for base in plan.bases),
        *(job_of(spec, Path(data[FINETUNE]), sweep.store.keep_weights)
          for spec in plan.finetunings),
    ]  # fmt: skip
    return as_report(carry_out(jobs, context, engine, known=known))
