"""Fine-tune by several plans over repeated subject splits, baselines beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.evaluate import main_metric
from hbn_foundation.evaluation.provenance import finetuning_provenance
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.scorers import OF_NUMBERS
from hbn_foundation.evaluation.tasks.labels import targets_of
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.folds import make_folds, stores_in
from hbn_foundation.experiments.label_tasks import (
    Draw,
    fit_draws,
    train_draw,
    training_subjects,
    with_labels_of,
)
from hbn_foundation.experiments.listing import Fold, check_runs, dealt_by, fold_job
from hbn_foundation.experiments.params import ComparisonParams, ExperimentParams
from hbn_foundation.experiments.running import (
    Run,
    at_once,
    read_predictions,
    read_scores,
    run_all,
)
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.labels.strata import labelling_order
from hbn_foundation.params import former_names
from hbn_foundation.scores import WITHIN
from hbn_foundation.training.job import digest
from hbn_foundation.training.supervision.incidents import FILE as INCIDENTS

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.recipes import PretrainingRecipe

COMPARISON, BASELINES = "comparison", "baselines"
FIRST = ["repeat", "fold", "seed", "method", "n_train", "n_test"]
NOT_IN_THE_SCORES = {"batch_size", "bootstraps"}


class Compared(NamedTuple):
    """What the runs give.

    Attributes
    ----------
    folds
        One row per repeat, fold, seed and method: scores and costs.
    predictions
        Of all runs on their test windows, for resampling subjects.
    incidents
        Of all trainings, as JSON lines that name the run; empty without any.
    """

    folds: pd.DataFrame
    predictions: pd.DataFrame
    incidents: str


def compare_plans(
    dataset: EEGDataset,
    learned: EEGDataset,
    foundation: PretrainingRecipe,
    recipe: LabelRecipe,
    params: ComparisonParams,
    device_plan: dict[str, Any],
    experiments: ExperimentParams | None = None,
) -> Compared:
    """Fine-tune each plan with each seed in each fold, and fit the baselines once per fold.

    Results of finished runs are kept; the same call resumes one that was killed.

    Parameters
    ----------
    dataset
        What encoders are pretrained on; its own splits do not matter.
    learned
        What the label is learned from: the same, or the windows of the trials.
    foundation, recipe
        Parameters of pretraining, whose folder has the encoders of the cross-validation, and of
        fine-tuning.
    params
        Plans, seeds, folds.
    device_plan
        `chosen` says where to train.
    experiments
        Where the runs are carried out; by default in processes of this machine.

    Raises
    ------
    UserError
        When labels, plans or scores do not fit, before anything is trained.
    """
    experiments = experiments or ExperimentParams()
    results = {COMPARISON: Path(params.work_dir) / "results"}
    stores = stores_in(Path(foundation.trainer.work_dir) / "folds", experiments, results)
    recipe.check_new_encoder("finetuning")
    by = dealt_by(recipe, foundation)
    encoders = make_folds(dataset, foundation, params.repeats, stores, device_plan, by)
    runs = list_runs(list(map(Fold.of, encoders)), learned, recipe, params, stores, device_plan)
    check_runs(COMPARISON, runs, foundation)
    is_regression = targets_of(runs[0].dataset, recipe.label).is_regression
    compared_score(params.score, is_regression, recipe.strata_column is not None)
    engine = at_once(experiments, params.repeats.n_jobs, device_plan)
    run_all(COMPARISON, runs, encoders, stores, engine, device_plan)
    return Compared(
        read_scores(runs, stores, FIRST),
        read_predictions(runs, stores),
        all_incidents(runs, stores),
    )


def list_runs(
    folds: Sequence[Fold],
    learned: EEGDataset,
    recipe: LabelRecipe,
    params: ComparisonParams,
    stores: Stores,
    device_plan: dict[str, Any],
) -> list[Run]:
    """List the runs fold by fold: baselines first, then each plan with each seed."""
    data = put_dataset(learned.replace(splits=learned.splits.iloc[:0]), stores.work)
    common = {
        "code": finetuning_provenance(recipe.trainer.precision, device_plan),
        "windows": digest(learned.windows),
        "participants": digest(learned.participants),
        "label": recipe.label.model_dump(mode="json"),
    }
    settings = recipe.evaluation.model_dump(mode="json", exclude=NOT_IN_THE_SCORES)
    context = recipe.context.model_dump(mode="json")
    of_baselines = {**common, **former_names({BASELINES: settings, "context": context})}
    runs = []
    for whole in folds:
        splits = labelled_splits(
            whole.splits, learned, params.labelled_subjects, params.repeats.seed, recipe
        )
        fold, own = whole._replace(splits=splits), learned.replace(splits=splits)
        subjects = tuple(training_subjects(splits, learned.windows))
        first = Draw(params.seeds[0], subjects)
        job = fold_job(COMPARISON, fit_draws, fold, recipe, of_baselines, data=data, draws=[first],
                       methods=recipe.evaluation.baselines)  # fmt: skip
        runs.append(Run(job, fold.name, own, recipe, BASELINES, {**fold.place, "seed": first.seed}))
        for plan in params.plans:
            for seed in params.seeds:
                tried = with_plan(recipe, plan, seed)
                job = fold_job(COMPARISON, train_draw, fold, tried, common | tried.identity(),
                               data=data, draw=Draw(seed, subjects), methods=[plan])  # fmt: skip
                name, place = f"{fold.name}, seed {seed}", {**fold.place, "seed": seed}
                runs.append(Run(job, name, own, tried, plan, place))
    return runs


def with_plan(recipe: LabelRecipe, strategy: str, seed: int) -> LabelRecipe:
    """Give the recipe another strategy and seed."""
    changes: dict[str, Any] = {"strategy": strategy}
    if strategy != recipe.plan.strategy:  # whose lengths phase2_epochs is a check of
        changes["phase2_epochs"] = None
    plan = recipe.plan.model_copy(update=changes)
    trainer = recipe.trainer.model_copy(update={"seed": seed})
    return recipe.model_copy(update={"plan": plan, "trainer": trainer})


def all_incidents(runs: Sequence[Run], stores: Stores) -> str:
    """Gather what the trainings met with: those of the folds' encoders, then those of the runs."""
    found = {run.job.base: {"method": "pretraining", **run.place} for run in runs
             if run.method == BASELINES}  # fmt: skip
    found |= {run.job.entry: {"method": run.method, **run.place} for run in runs}
    lines = [
        json.dumps({"run": name, **json.loads(line)})
        for entry, name in found.items()
        if entry and (path := stores.store(entry.kind).path(entry.key) / INCIDENTS).is_file()
        for line in path.read_text().splitlines()
    ]
    return "".join(f"{line}\n" for line in lines)


def labelled_splits(
    splits: pd.DataFrame,
    learned: EEGDataset,
    labelled_subjects: int | None,
    seed: int,
    recipe: LabelRecipe,
) -> pd.DataFrame:
    """Take training subjects beyond a number out of the splits; those with windows count.

    The order of the subjects depends on the seed and their classes alone, so that a fold's six
    labelled subjects are among its eight; those that stay are of every class of the label where
    it is one of subjects, and balanced over the strata of its scores.

    Raises
    ------
    UserError
        When there are not as many training subjects.
    """
    if labelled_subjects is None:
        return splits
    training = training_subjects(splits, learned.windows)
    if labelled_subjects > len(training):
        raise UserError(
            f"finetuning_comparison.runs.labelled_subjects={labelled_subjects}: a fold has "
            f"{len(training)} training subjects; expected at most as many"
        )
    order = labelling_order(
        training, learned.participants, recipe.label, recipe.strata_column, seed
    )
    return with_labels_of(splits, order[:labelled_subjects])


def compared_score(score: str | None, is_regression: bool, stratified: bool) -> str:
    """Name the score that is compared.

    Raises
    ------
    UserError
        When it is none of this kind of label.
    """
    if score is None:
        return main_metric(is_regression, stratified)
    if score == WITHIN and not stratified:
        raise UserError(
            f"finetuning_comparison.runs.score={score}: computed where "
            "finetuning.evaluation.stratify_scores_by is given"
        )
    if (score.removeprefix("recording_") in OF_NUMBERS) != is_regression:
        kind = "numbers" if is_regression else "classes"
        raise UserError(
            f"finetuning_comparison.runs.score={score}: not for {kind}, which the label is of; "
            f"expected {main_metric(is_regression)} or null"
        )
    return score
