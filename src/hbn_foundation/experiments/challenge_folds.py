"""Both challenges over repeated subject splits: each subject is predicted by a model new to it.

The encoder of a fold is that of the cross-validation of the foundation model with equal folds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.evaluation.evaluate import Answers
from hbn_foundation.evaluation.recipes import ChallengeRecipe, FoundationRecipe
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.folds import make_folds, stores_in, wanted
from hbn_foundation.experiments.job import Job
from hbn_foundation.experiments.learning_curve import identity_of
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.experiments.running import Run, at_once, make_job, result_of, run_jobs
from hbn_foundation.experiments.store import METRICS
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import PREDICTIONS
from hbn_foundation.progress import say

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset

FOLD = "challenge"


def cross_validate_challenge(
    dataset: EEGDataset,
    learned: EEGDataset,
    foundation: FoundationRecipe,
    recipe: ChallengeRecipe,
    scratch: bool,
    device_plan: dict[str, Any],
    experiments: ExperimentParams,
) -> Answers:
    """Pretrain, fine-tune and predict anew in each fold of `recipe.evaluation.repeats`.

    Results of finished folds are kept; the same call resumes one that was killed.

    Parameters
    ----------
    dataset, learned
        What encoders are pretrained on, and the windows of the challenge; their own splits do not
        matter.
    foundation, recipe
        Parameters of pretraining, and of the challenge.
    scratch
        Whether a model from random weights is trained beside each.
    device_plan, experiments
        Where to train, and where the folds run.

    Returns
    -------
    Answers
        Of all methods for the test windows of all folds, with `repeat` and `fold`; empty without
        repeats.
    """
    repeats = recipe.evaluation.repeats
    if repeats is None:
        return Answers(pd.DataFrame(), {})
    results = {FOLD: Path(recipe.trainer.work_dir) / "folds"}
    stores = stores_in(Path(foundation.trainer.work_dir) / "folds", experiments, results)
    folds = make_folds(
        dataset, foundation, repeats, stores, device_plan=device_plan,
        label=foundation.evaluation.label, stratify=foundation.evaluation.stratify_scores_by,
    )  # fmt: skip
    jobs = list_jobs(folds, learned, recipe, scratch, stores, device_plan)
    place = {job.id: fold for job, fold in zip(jobs, folds, strict=True)}

    def tell(job: Job) -> None:
        if job.id in place:
            say(f"{place[job.id].name}: test subjects predicted")

    engine = at_once(experiments, repeats.n_jobs, device_plan)
    run_jobs("folds of the challenge", [*wanted(folds, jobs, stores), *jobs], stores, engine,
             device_plan, recipe, tell)  # fmt: skip
    found = [result_of(job, stores) for job in jobs]
    parts = [
        pd.read_parquet(folder / PREDICTIONS).assign(**fold.place)
        for folder, fold in zip(found, folds, strict=True)
    ]
    about = [json.loads((folder / METRICS).read_text()) for folder in found]
    return Answers(pd.concat(parts, ignore_index=True), pooled(about, repeats.repeats))


def list_jobs(
    folds: Sequence[Run],
    learned: EEGDataset,
    recipe: ChallengeRecipe,
    scratch: bool,
    stores: Stores,
    device_plan: dict[str, Any],
) -> list[Job]:
    """List the job of each fold, which begins at its encoder."""
    data = put_dataset(learned.replace(splits=learned.splits.iloc[:0]), stores.work)
    common = identity_of(learned, recipe, device_plan) | recipe.identity() | {"scratch": scratch}
    jobs = []
    for fold in folds:
        subjects = fold.splits.sort_values("subject").to_numpy().tolist()
        identity = {**common, "encoder": fold.job.key, "subjects": subjects}
        job = make_job(
            FOLD, "answer_fold", identity,
            {"data": data, "splits": fold.splits, "recipe": recipe, "scratch": scratch},
            recipe.trainer, fold.job.entry,
        )  # fmt: skip
        jobs.append(replace(job, seconds=job.seconds * (1 + scratch)))
    return jobs


def pooled(about: Sequence[dict[str, Any]], repeats: int) -> dict[str, Any]:
    """Describe the windows of all folds: those that learn and choose on average over folds."""
    counts: dict[str, dict[str, int]] = {}
    for split, of_split in about[0]["sample"].items():
        parts = repeats if split == "test" else len(about)
        counts[split] = {
            name: round(sum(one["sample"][split][name] for one in about) / parts)
            for name in of_split
        }
    return {"sample": counts, "n_channels": about[0]["n_channels"],
            "folds": len(about) // repeats, "repeats": repeats}  # fmt: skip
