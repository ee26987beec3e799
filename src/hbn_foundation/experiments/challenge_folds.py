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
from hbn_foundation.evaluation.methods import FINE_TUNED, SCRATCH
from hbn_foundation.evaluation.provenance import finetuning_provenance
from hbn_foundation.evaluation.recipes import ChallengeRecipe, FoundationRecipe, LabelRecipe
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.folds import make_folds, stores_in
from hbn_foundation.experiments.job import Entry, Job
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.experiments.running import (
    Run,
    at_once,
    make_job,
    read_predictions,
    result_of,
    run_all,
)
from hbn_foundation.experiments.store import METRICS
from hbn_foundation.params import former_names
from hbn_foundation.training.job import digest

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
    data = put_dataset(learned.replace(splits=learned.splits.iloc[:0]), stores.work)
    common = identity_of(learned, recipe, device_plan)
    methods = (FINE_TUNED, SCRATCH) if scratch else (FINE_TUNED,)
    runs = []
    for fold in folds:
        own = learned.replace(splits=fold.splits)
        job = challenge_job(FOLD, fold.job.entry, data, fold.splits, recipe, methods, common)
        runs.append(Run(job, fold.name, own, recipe, place=fold.place))
    engine = at_once(experiments, repeats.n_jobs, device_plan)
    run_all("folds of the challenge", runs, folds, stores, engine, device_plan,
            lambda run: f"{run.name}: test subjects predicted")  # fmt: skip
    about = [json.loads((result_of(run.job, stores) / METRICS).read_text()) for run in runs]
    return Answers(read_predictions(runs, stores), pooled(about, repeats.repeats))


def challenge_job(
    kind: str, base: Entry, data: Path, splits: pd.DataFrame, recipe: ChallengeRecipe,
    methods: Sequence[str], common: dict[str, Any],
) -> Job:  # fmt: skip
    """Make the job that learns a challenge on training subjects, and predicts the test subjects."""
    subjects = splits.sort_values("subject").to_numpy().tolist()
    identity = {**common, **recipe.identity(), "encoder": base.key, "subjects": subjects,
                "methods": methods}  # fmt: skip
    arguments = {"data": data, "splits": splits, "recipe": recipe, "methods": methods}
    job = make_job(kind, "answer_tests", identity, arguments, recipe.trainer, base)
    return replace(job, seconds=len(methods) * job.seconds)


def identity_of(
    dataset: EEGDataset, recipe: ChallengeRecipe | LabelRecipe, device_plan: dict[str, Any]
) -> dict[str, Any]:
    """Name what scores depend on, beside the parameters of a training, encoder and subjects."""
    left_out = {"batch_size", "bootstraps", "repeats"}
    return {
        "code": finetuning_provenance(recipe.trainer.precision, device_plan),
        "signals": dataset.store.fingerprint,
        "windows": digest(dataset.windows),
        "participants": digest(dataset.participants),
        **former_names({
            "label": recipe.label.model_dump(mode="json"),
            "context": recipe.context.model_dump(mode="json"),
            "evaluation": recipe.evaluation.model_dump(mode="json", exclude=left_out),
        }),
    }  # fmt: skip


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
