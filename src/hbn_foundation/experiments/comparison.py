"""Fine-tune by several plans over repeated subject splits, baselines beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.evaluate import main_metric
from hbn_foundation.evaluation.methods import display_name
from hbn_foundation.evaluation.provenance import finetuning_provenance
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.scorers import OF_NUMBERS
from hbn_foundation.evaluation.tasks.labels import targets_of
from hbn_foundation.experiments.checks import check_plan
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.folds import make_folds, stores_in
from hbn_foundation.experiments.label_tasks import (
    TASKS,
    Draw,
    training_subjects,
    with_labels_of,
)
from hbn_foundation.experiments.params import ComparisonParams, ExperimentParams
from hbn_foundation.experiments.running import (
    Run,
    at_once,
    make_job,
    read_predictions,
    read_scores,
    run_all,
)
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.tasks import rows_of
from hbn_foundation.labels.checks import check_targets
from hbn_foundation.labels.strata import labelling_order
from hbn_foundation.params import former_names
from hbn_foundation.scores import WITHIN
from hbn_foundation.training.job import digest
from hbn_foundation.training.supervision.incidents import FILE as INCIDENTS

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.recipes import PretrainingRecipe

COMPARISON, BASELINES = "comparison", "baselines"
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
    stores = stores_of(foundation, params, experiments)
    folds = make_folds(
        dataset, foundation, params.repeats, stores, device_plan=device_plan, label=recipe.label,
        stratify=recipe.strata_column,
    )  # fmt: skip
    runs = list_runs(folds, learned, recipe, params, stores, device_plan)
    _check(runs, foundation, params)
    engine = at_once(experiments, params.repeats.n_jobs, device_plan)
    run_all("comparison", runs, folds, stores, engine, device_plan,
            lambda run: said(run, read_scores([run], stores)))  # fmt: skip
    table = read_scores(runs, stores)
    first = ["repeat", "fold", "seed", "method", "n_train", "n_test"]
    return Compared(
        table[[*first, *(name for name in table if name not in first)]],
        read_predictions(runs, stores),
        all_incidents(runs, stores),
    )


def stores_of(
    foundation: PretrainingRecipe, params: ComparisonParams, experiments: ExperimentParams
) -> Stores:
    """Give the stores: encoders where the cross-validation keeps them, results of the runs."""
    results = {COMPARISON: Path(params.work_dir) / "results"}
    return stores_in(Path(foundation.trainer.work_dir) / "folds", experiments, results)


def list_runs(
    folds: Sequence[Run],
    learned: EEGDataset,
    recipe: LabelRecipe,
    params: ComparisonParams,
    stores: Stores,
    device_plan: dict[str, Any],
) -> list[Run]:
    """List the runs fold by fold: baselines first, then each plan with each seed."""
    code = finetuning_provenance(recipe.trainer.precision, device_plan)
    data = put_dataset(learned.replace(splits=learned.splits.iloc[:0]), stores.work)
    shared = {
        "code": code,
        "windows": digest(learned.windows),
        "participants": digest(learned.participants),
        "label": recipe.label.model_dump(mode="json"),
    }
    methods = [(BASELINES, params.seeds[0])]
    methods += [(plan, seed) for plan in params.plans for seed in params.seeds]
    runs = []
    for fold in folds:
        splits = labelled_splits(
            fold, learned, params.labelled_subjects, params.repeats.seed, recipe
        )
        common = {**shared, "encoder": fold.job.key,
                  "subjects": splits.sort_values("subject").to_numpy().tolist()}  # fmt: skip
        dataset = learned.replace(splits=splits)
        labelled = tuple(training_subjects(splits, learned.windows))
        for method, seed in methods:
            draw = Draw(seed, labelled)
            if method == BASELINES:
                own, identity = recipe, {**common, **_settings(recipe)}
                task = "fit_draws"
                of_task: Any = {"draws": [draw], "methods": recipe.evaluation.baselines}
            else:
                own = with_plan(recipe, method, seed)
                identity = {**common, **own.identity()}
                task, of_task = "train_draw", {"draw": draw, "methods": [method]}
            arguments = {"data": data, "splits": splits, "recipe": own, **of_task}
            job = make_job(COMPARISON, f"{TASKS}:{task}", identity, arguments, own.trainer,
                           fold.job.entry)  # fmt: skip
            runs.append(Run(job, fold.name, dataset, own, method, {**fold.place, "seed": seed}))
    return runs


def with_plan(recipe: LabelRecipe, strategy: str, seed: int) -> LabelRecipe:
    """Give the recipe another strategy and seed."""
    changes: dict[str, Any] = {"strategy": strategy}
    if strategy != recipe.plan.strategy:  # whose lengths phase2_epochs is a check of
        changes["phase2_epochs"] = None
    plan = recipe.plan.model_copy(update=changes)
    trainer = recipe.trainer.model_copy(update={"seed": seed})
    return recipe.model_copy(update={"plan": plan, "trainer": trainer})


def _settings(recipe: LabelRecipe) -> dict[str, Any]:
    settings = recipe.evaluation.model_dump(mode="json", exclude=NOT_IN_THE_SCORES)
    return former_names({BASELINES: settings, "context": recipe.context.model_dump(mode="json")})


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
    fold: Run, learned: EEGDataset, labelled_subjects: int | None, seed: int, recipe: LabelRecipe
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
        return fold.splits
    training = training_subjects(fold.splits, learned.windows)
    if labelled_subjects > len(training):
        raise UserError(
            f"finetuning_comparison.runs.labelled_subjects={labelled_subjects}: a fold has "
            f"{len(training)} training subjects; expected at most as many"
        )
    order = labelling_order(
        training, learned.participants, recipe.label, recipe.strata_column, seed
    )
    return with_labels_of(fold.splits, order[:labelled_subjects])


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


def _check(runs: Sequence[Run], foundation: PretrainingRecipe, params: ComparisonParams) -> None:
    """Find out before any training what would stop a run."""
    from hbn_foundation.training.finetune import check_recipe, further_targets

    runs[0].recipe.check_new_encoder("finetuning")
    targets = None
    for run in runs:
        if run.method == BASELINES:
            targets = targets_of(run.dataset, run.recipe.label)
            check_targets(targets, run.dataset.windows, run.dataset.splits)
            further_targets(run.dataset, run.recipe)
            if not len(rows_of(run.dataset, targets, "test")):
                raise UserError(
                    f"labels: no window of the test subjects of {run.name} has a known label"
                )
    assert targets is not None
    compared_score(params.score, targets.is_regression, runs[0].recipe.strata_column is not None)
    check_recipe(runs[0].dataset, runs[0].recipe, targets.is_regression)
    for run in runs:
        if run.job.base == runs[0].job.base and run.method != BASELINES:
            dataset = run.dataset
            check_plan(foundation.encoder, run.recipe, dataset.sfreq, dataset.n_samples, targets)


def said(run: Run, rows: pd.DataFrame) -> str:
    """One line about a finished run."""
    score: Any = main_metric("nrmse" in rows, WITHIN in rows)
    seed = f"seed {run.place['seed']}"
    if rows[score].isna().all():
        return f"{run.name}: {run.method}, {seed}: no score, one test value only"
    best = rows.loc[rows[score].idxmin() if score == "nrmse" else rows[score].idxmax()]
    name = display_name(str(best["method"]))
    name = f"best baseline, {name}" if run.method == BASELINES else f"{name}, {seed}"
    return f"{run.name}: {name}: {score.replace('_', ' ')} {best[score]:.3f}"
