"""Nodes of the challenges beside those of fine-tuning: each hands its work to a room below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hbn_foundation.evaluation.params import FactorEvaluationParams, FromScratchParams
from hbn_foundation.evaluation.recipes import (
    Challenge1Recipe,
    Challenge2Recipe,
    ChallengeRecipe,
    FoundationRecipe,
)
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.pipelines import types
from hbn_foundation.pipelines.finetuning.nodes import preview, window_seconds


def prepare_trials(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    trials: types.DataFrame,
    recipe: Challenge1Recipe,
    foundation: FoundationRecipe,
) -> tuple[types.EEGDataset, Any]:
    """Cut a window per trial, stop when something does not fit, draw the learning rates.

    Returns
    -------
    dataset : EEGDataset
        With one window per trial.
    lr_preview : Figure
        The rates over the run, for the plan's default course.
    """
    from hbn_foundation.signals.label_windows import windows_of_trials

    windows = windows_of_trials(
        recipe.label, dataset.store, trials, recipe.windows, window_seconds(foundation_checkpoint)
    )
    return _checked(foundation_checkpoint, dataset, windows, recipe, foundation)


def prepare_crops(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: Challenge2Recipe,
    foundation: FoundationRecipe,
) -> tuple[types.EEGDataset, Any]:
    """Cut windows to take crops of, stop when something does not fit, draw the learning rates.

    Returns
    -------
    dataset : EEGDataset
        One row per window, with what is learned about its subject.
    lr_preview : Figure
        The rates over the run, for the plan's default course.
    """
    from hbn_foundation.signals.windows import cut_crop_windows

    labels = [recipe.label, *(one.label for one in recipe.more_targets.chosen.values())]
    windows = cut_crop_windows(
        dataset.store,
        dataset.participants,
        [str(one.column) for one in labels if one.kind == "participant"],
        recipe.windows,
        seconds=window_seconds(foundation_checkpoint),
        jitter=recipe.regularisation.in_use.jitter_seconds,
    )
    return _checked(foundation_checkpoint, dataset, windows, recipe, foundation)


def train_from_scratch(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: ChallengeRecipe,
    device_plan: dict[str, Any],
    from_scratch: FromScratchParams,
    run_version: str,
) -> types.DataFrame:
    """Train the same model, alike, from random weights, and predict the test windows.

    Of the checkpoint, its architecture and its normalisation of the tokens are taken.

    Returns
    -------
    scratch_predictions : DataFrame
        As of the fine-tuned model; empty where it is not wanted, trained in folds, or the model
        itself begins from random weights.
    """
    from pandas import DataFrame

    from hbn_foundation.progress import say
    from hbn_foundation.training.finetune import FineTuningJob

    start, trainer = "from_scratch", recipe.trainer
    if not from_scratch.train or recipe.evaluation.repeats is not None or trainer.start == start:
        say("from scratch: left out")
        return DataFrame()
    changes = {"trainer": trainer.model_copy(update={"start": start}), "fault": None}
    alike = recipe.model_copy(update=changes)
    job = FineTuningJob(dataset, alike, device_plan, foundation_checkpoint)
    folder, run_id = Path(trainer.work_dir), f"{run_version}-{start}"
    checkpoint, _, _ = job.supervise(folder, run_id=run_id)
    predictions = predict(checkpoint, dataset, recipe)
    if checkpoint.when_stored is not None:  # nothing but its predictions is kept
        checkpoint.when_stored()
    return predictions


def cross_validate(
    all_windows: types.EEGDataset,
    dataset: types.EEGDataset,
    foundation: FoundationRecipe,
    recipe: ChallengeRecipe,
    device_plan: dict[str, Any],
    from_scratch: FromScratchParams,
    experiments: ExperimentParams,
) -> tuple[types.DataFrame, dict[str, Any]]:
    """Repeat pretraining and fine-tuning over subject splits, where the configuration asks for it.

    Returns
    -------
    fold_answers : DataFrame
        What all methods predict for the test windows of each fold; empty without repeats.
    fold_sample : dict
        How many windows the folds have.
    """
    from hbn_foundation.experiments.learning_curve import cross_validate_challenge

    return cross_validate_challenge(
        all_windows, dataset, foundation, recipe, from_scratch.train, device_plan, experiments
    )


def predict(checkpoint: Any, dataset: types.EEGDataset, recipe: ChallengeRecipe) -> types.DataFrame:
    """Predict the test windows."""
    from hbn_foundation.evaluation.tasks.challenges import challenge_of

    batch_size = recipe.trainer.batch_size
    return challenge_of(recipe.evaluation).predict(checkpoint, dataset, batch_size)


def evaluate(
    checkpoint: Any,
    predictions: types.DataFrame,
    dataset: types.EEGDataset,
    recipe: ChallengeRecipe,
    scratch_predictions: types.DataFrame,
    fold_answers: types.DataFrame,
    fold_sample: dict[str, Any],
) -> tuple[Any, ...]:
    """Score the test windows, or those of the folds, baselines beside the model.

    Returns
    -------
    metrics : dict
        What the scores are of, and how they came about.
    scores : DataFrame
        A row per target, metric and method.
    answers : DataFrame
        What every method says of every test trial or subject.
    subject_predictions : DataFrame
        Of factors alone: what the checkpoint says of the test subjects of its own split.
    csv : DataFrame
        The table of the model's predictions; without rows where something is missing.
    """
    from hbn_foundation.errors import UserError
    from hbn_foundation.evaluation.evaluate import Answers
    from hbn_foundation.evaluation.methods import FINE_TUNED, SCRATCH
    from hbn_foundation.evaluation.report.criteria import TABLE_PROBLEM
    from hbn_foundation.evaluation.tasks import challenges, factors
    from hbn_foundation.progress import say
    from hbn_foundation.submission.tables import challenge1_table, challenge2_table

    params, answers = recipe.evaluation, Answers(fold_answers, fold_sample)
    if fold_answers.empty:
        models = {FINE_TUNED: predictions, SCRATCH: scratch_predictions}
        models = {name: table for name, table in models.items() if len(table)}
        answers = challenges.all_answers(checkpoint, dataset, params, models)
    metrics, scores, every = challenges.challenge_of(params).score(answers, params)
    said, make_table, more = predictions, challenge1_table, []
    if isinstance(params, FactorEvaluationParams):
        said, make_table = factors.of_subjects(predictions, dataset, params), challenge2_table
        more = [said]
    try:
        csv, problem = make_table(said), None
    except UserError as error:
        csv, problem = said.iloc[:0], str(error)
        say(f"{problem}; the file has no rows")
    return {**metrics, TABLE_PROBLEM: problem}, scores, every, *more, csv


def report(
    checkpoint: Any,
    dataset: types.EEGDataset,
    scores: types.DataFrame,
    metrics: dict[str, Any],
    answers: types.DataFrame,
    history: types.DataFrame,
    recipe: ChallengeRecipe,
) -> tuple[str, str, Any, Any]:
    """Print the scores, and write the report.

    Returns
    -------
    page : str
        HTML with all figures.
    report : str
        The scores in plain text.
    answers_figure, spatial_figure : Figure
        Two of the page's figures.
    """
    from hbn_foundation.evaluation.report.challenges import report_challenge
    from hbn_foundation.evaluation.report.render import render_page, render_text, show

    declared, figures = report_challenge(
        checkpoint, dataset, scores, metrics, answers, history, recipe.evaluation
    )
    text = show(render_text(declared))
    return render_page(declared), text, figures["answers"], figures["spatial"]


def _checked(
    checkpoint: Any,
    dataset: types.EEGDataset,
    windows: types.DataFrame,
    recipe: ChallengeRecipe,
    foundation: FoundationRecipe,
) -> tuple[types.EEGDataset, Any]:
    """Check that the test subjects can be scored and have chosen nothing; then as fine-tuning."""
    from hbn_foundation.evaluation.preflight import check_challenge
    from hbn_foundation.labels.checks import check_reported
    from hbn_foundation.labels.people import CHOSEN, seen_subjects

    subjects, datasets = dataset.splits["subject"], dataset.store.datasets
    chosen_on = seen_subjects(checkpoint.metadata, CHOSEN, subjects, datasets)
    check_reported(dataset.splits, dataset.participants, chosen_on)
    learned = dataset.replace(windows=windows)
    check_challenge(dataset, learned, recipe, foundation.evaluation.label)
    return learned, preview(checkpoint, learned, recipe)
