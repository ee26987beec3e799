"""Nodes that evaluate and report; each hands its work to one function of a room below."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hbn_foundation.evaluation.recipes import (
    Challenge1Recipe,
    Challenge2Recipe,
    ChallengeRecipe,
)
from hbn_foundation.pipelines import types


def evaluate_response_times(
    checkpoint: Any,
    predictions: types.DataFrame,
    dataset: types.EEGDataset,
    recipe: Challenge1Recipe,
    scratch_predictions: types.DataFrame,
    fold_answers: types.DataFrame,
    fold_sample: dict[str, Any],
) -> tuple[dict[str, Any], types.DataFrame, types.DataFrame, types.DataFrame]:
    """Score response times and success of the test trials, baselines beside the model.

    Returns
    -------
    metrics : dict
        What the scores are of, and how they came about.
    scores : DataFrame
        A row per metric and method.
    answers : DataFrame
        What every method says of every test trial.
    csv : DataFrame
        The table of the model's predictions; without rows where something is missing.
    """
    from hbn_foundation.submission.tables import challenge1_table

    models = _models(predictions, scratch_predictions)
    metrics, scores, every = _scored(checkpoint, dataset, recipe, models, fold_answers, fold_sample)
    metrics, csv = _with_table(metrics, challenge1_table, predictions)
    return metrics, scores, every, csv


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
    text = render_text(declared)
    show(text)
    return render_page(declared), text, figures["answers"], figures["spatial"]


def evaluate_factors(
    checkpoint: Any,
    predictions: types.DataFrame,
    dataset: types.EEGDataset,
    recipe: Challenge2Recipe,
    scratch_predictions: types.DataFrame,
    fold_answers: types.DataFrame,
    fold_sample: dict[str, Any],
) -> tuple[dict[str, Any], types.DataFrame, types.DataFrame, types.DataFrame, types.DataFrame]:
    """Score the factors of the test subjects, baselines beside the model.

    Returns
    -------
    metrics : dict
        What the scores are of, and how they came about.
    scores : DataFrame
        A row per factor, metric and method.
    answers : DataFrame
        What every method says of every test subject.
    subject_predictions : DataFrame
        What the checkpoint says of the test subjects of its own split.
    csv : DataFrame
        The table of the model's predictions; without rows where something is missing.
    """
    from hbn_foundation.evaluation.tasks import factors
    from hbn_foundation.evaluation.tasks.challenge_baselines import people_of
    from hbn_foundation.submission.tables import challenge2_table

    models = _models(predictions, scratch_predictions)
    metrics, scores, every = _scored(checkpoint, dataset, recipe, models, fold_answers, fold_sample)
    names = factors.predicted_factors(predictions)
    people = people_of(dataset.participants, names)
    subjects = factors.subject_predictions(predictions, people, names, recipe.evaluation)
    metrics, csv = _with_table(metrics, challenge2_table, subjects)
    return metrics, scores, every, subjects, csv


def _scored(
    checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: ChallengeRecipe,
    models: dict[str, types.DataFrame],
    fold_answers: types.DataFrame,
    fold_sample: dict[str, Any],
) -> Any:
    """Score the answers of the folds, or of the one split where there are none."""
    from hbn_foundation.evaluation.evaluate import Answers
    from hbn_foundation.evaluation.tasks.challenges import challenge_of

    challenge, params = challenge_of(recipe.evaluation), recipe.evaluation
    answers = Answers(fold_answers, fold_sample)
    if fold_answers.empty:
        answers = challenge.answer(checkpoint, dataset, params, models)
    return challenge.score(answers, params)


def _models(predictions: types.DataFrame, scratch: types.DataFrame) -> dict[str, types.DataFrame]:
    """Predictions by method; those from scratch are empty where they were not asked for."""
    from hbn_foundation.evaluation.methods import FINE_TUNED, SCRATCH

    models = {FINE_TUNED: predictions, SCRATCH: scratch}
    return {name: table for name, table in models.items() if len(table)}


def _with_table(
    metrics: dict[str, Any], maker: Callable[..., Any], predictions: Any
) -> tuple[dict[str, Any], types.DataFrame]:
    """Make the CSV, and add to the metrics what is wrong with it."""
    from hbn_foundation.errors import UserError
    from hbn_foundation.evaluation.report.criteria import TABLE_PROBLEM
    from hbn_foundation.progress import say

    try:
        return {**metrics, TABLE_PROBLEM: None}, maker(predictions)
    except UserError as error:
        say(f"{error}; the file has no rows")
        return {**metrics, TABLE_PROBLEM: str(error)}, predictions.iloc[:0]
