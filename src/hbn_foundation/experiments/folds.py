"""Pretrain and probe over repeated subject splits.

The encoder of a fold is a job of its own, whose key covers all that its weights depend on: a run
with another label pretrains nothing twice, and a comparison of plans begins at the same encoders.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.evaluation.folds import deal, fold_rows, fold_table
from hbn_foundation.evaluation.params import EvaluationParams, RepeatParams
from hbn_foundation.evaluation.provenance import provenance
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.hashing import canonical_hash
from hbn_foundation.experiments.job import Job
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.experiments.running import (
    Run,
    at_once,
    make_job,
    result_of,
    run_all,
)
from hbn_foundation.experiments.store import METRICS
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.tasks import pretrain_encoder, probe_encoder
from hbn_foundation.params import former_names
from hbn_foundation.scores import WITHIN
from hbn_foundation.training.job import digest
from hbn_foundation.training.pretrain import PretrainingJob

if TYPE_CHECKING:
    from hbn_foundation.labels.params import LabelParams
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.recipes import PretrainingRecipe

ENCODER, PROBE = "encoder", "probe"
CPU = {"chosen": "cpu"}
NOT_IN_THE_SCORES = {"repeats", "batch_size", "bootstraps"}  # a single fold has no intervals


def cross_validate(
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    params: EvaluationParams,
    work_dir: str | Path,
    *,
    device_plan: dict[str, Any] = CPU,
    experiments: ExperimentParams | None = None,
) -> pd.DataFrame:
    """Pretrain, probe and compare anew in each fold of repeated subject splits.

    In each fold the encoder sees training subjects only, every choice is made on validation
    subjects and every score is of test subjects; all methods share the folds.

    Parameters
    ----------
    dataset
        The data; its own splits do not matter.
    recipe
        Parameters of pretraining.
    params
        Parameters of the evaluation; `repeats` says how many folds.
    work_dir
        Where encoders and results of finished folds are kept.
    device_plan
        Where to train; the CPU by default.
    experiments
        Where the folds run; by default in processes of this machine.

    Returns
    -------
    pandas.DataFrame
        One row per fold and method; empty without `repeats`.

    Raises
    ------
    UserError
        When there are too few subjects, or a fold fails.
    """
    if params.repeats is None:
        return fold_table([])
    experiments = experiments or ExperimentParams()
    stores = stores_in(Path(work_dir), experiments)
    by = params.label, params.stratify_scores_by
    folds = make_folds(dataset, recipe, params.repeats, stores, device_plan, by)
    code = provenance(recipe.trainer.precision, device_plan).evaluation
    probes = [replace(fold, job=_probe(fold, params, code)) for fold in folds]
    engine = at_once(experiments, params.repeats.n_jobs, device_plan)
    run_all("cross-validation", probes, folds, stores, engine, device_plan, _said)
    rows = [fold_rows(**run.place, metrics=_read(run, stores)) for run in probes]
    return fold_table([row for of_fold in rows for row in of_fold])


def stores_in(
    folder: Path, experiments: ExperimentParams, results: dict[str, Path] | None = None
) -> Stores:
    """Give the stores of an experiment that begins at the encoders of folds.

    Parameters
    ----------
    folder
        Of the folds.
    experiments
        How results reach workers elsewhere.
    results
        Folders of other kinds of result; by default those of the probes.
    """
    results = results or {PROBE: folder / "results"}
    return Stores({ENCODER: folder / "encoders", **results}, folder / "work", experiments)


def make_folds(
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    repeats: RepeatParams,
    stores: Stores,
    device_plan: dict[str, Any],
    by: tuple[LabelParams, str | None],
) -> list[Run]:
    """List the folds, each with the job that pretrains its encoder.

    They are stratified `by` a label, where it is one of subjects, and by a column.
    """
    # once, in this process: a file that changes meanwhile must not move the results of a fold
    code = provenance(recipe.trainer.precision, device_plan).pretraining
    data = put_dataset(dataset.replace(splits=dataset.splits.iloc[:0]), stores.work)
    folds = []
    subjects = dataset.windows["subject"].unique()
    for name, place, splits in deal(subjects, dataset.participants, repeats, *by):
        own = dataset.replace(splits=splits)
        identity = {
            "code": code,
            **PretrainingJob(own, recipe, device_plan).identity(),
            # subjects that are tested do not shape the encoder, but must not change unnoticed
            "subjects": splits.sort_values("subject").to_numpy().tolist(),
        }
        arguments = {"data": data, "splits": splits, "recipe": recipe}
        job = make_job(ENCODER, pretrain_encoder, identity, arguments, recipe.trainer)
        folds.append(Run(job, name, own, recipe, place=place))
    return folds


def _probe(fold: Run, params: EvaluationParams, code: str) -> Job:
    evaluation = params.model_copy(update={"bootstraps": 0})
    identity = {
        "encoder": fold.job.key,
        "code": code,
        "participants": digest(fold.dataset.participants),
        **former_names({"evaluation": params.model_dump(mode="json", exclude=NOT_IN_THE_SCORES)}),
    }
    if params.label.kind == "event":
        identity["events"] = digest(fold.dataset.events)
    arguments = {name: fold.job.arguments[name] for name in ("data", "splits")}
    target = f"{probe_encoder.__module__}:{probe_encoder.__name__}"
    return Job(
        PROBE, canonical_hash(identity), target, {**arguments, "evaluation": evaluation},
        fold.job.entry, identity, params.batch_size,
    )  # fmt: skip


def _said(run: Run, stores: Stores) -> str:
    scores = _read(run, stores)["probe"]["pretrained"]
    auroc = scores.get(WITHIN, scores["window_auroc"])
    what = "no score, one class only" if auroc is None else f"pretrained AUROC {auroc:.3f}"
    return f"{run.name}: {what}"


def _read(run: Run, stores: Stores) -> dict[str, Any]:
    return dict(json.loads((result_of(run.job, stores) / METRICS).read_text()))
