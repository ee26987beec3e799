"""A sweep: bases that many fine-tunings share, planned and carried out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.checks import check_trainings
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.engine import as_report, carry_out
from hbn_foundation.experiments.estimate import in_words
from hbn_foundation.experiments.executors import count_workers, gpus_of_a_machine, read_cluster
from hbn_foundation.experiments.grid import Defaults
from hbn_foundation.experiments.job import FAILED, KEPT, Entry, Outcome
from hbn_foundation.experiments.params import StoreParams, SweepRecipe
from hbn_foundation.experiments.planner import Data, Plan, make_plan
from hbn_foundation.experiments.selection import select
from hbn_foundation.experiments.specs import BASE, FINETUNE, Tuning
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import CHECKPOINT, job_of
from hbn_foundation.experiments.worker import Context, base_not_found

PRETRAINING = "pretraining"
NOT_IN_SWEEPS = ("context", "more_targets", "tokens", "input")

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
    context = Context(
        stores, {**device_plan, "chosen": engine.device or device_plan["chosen"]}, limits,
        engine.retries, engine.threads, engine.job_start, gpus_of_a_machine(engine),
    )  # fmt: skip
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
