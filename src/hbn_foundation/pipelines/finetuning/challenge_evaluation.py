"""Nodes that evaluate and report; each hands its work to one function of a room below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe
from hbn_foundation.pipelines import types


def evaluate_response_times(
    checkpoint: Any,
    predictions: types.DataFrame,
    dataset: types.EEGDataset,
    recipe: Challenge1Recipe,
    scratch_predictions: types.DataFrame,
) -> tuple[dict[str, Any], types.DataFrame, types.DataFrame]:
    """Score response times and success of the test trials, baselines beside the model.

    Returns
    -------
    metrics : dict
        What the scores are of, and how they came about.
    scores : DataFrame
        A row per metric and method.
    answers : DataFrame
        What every method says of every test trial.
    """
    from hbn_foundation.evaluation.tasks import response_times

    models = _models(predictions, scratch_predictions)
    metrics, scores, answers = response_times.evaluate_response_times(
        checkpoint, dataset, recipe.evaluation, models
    )
    return _with_table(metrics, "challenge1_table", predictions), scores, answers


def report_response_times(
    checkpoint: Any,
    predictions: types.DataFrame,
    dataset: types.EEGDataset,
    scores: types.DataFrame,
    metrics: dict[str, Any],
    history: types.DataFrame,
    recipe: Challenge1Recipe,
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
    from hbn_foundation.evaluation.report import challenges

    return _shown(
        *challenges.report_response_times(
            checkpoint, predictions, dataset, scores, metrics, history, recipe.evaluation.seed
        )
    )  # fmt: skip


def evaluate_factors(
    checkpoint: Any,
    predictions: types.DataFrame,
    dataset: types.EEGDataset,
    recipe: Challenge2Recipe,
    scratch_predictions: types.DataFrame,
) -> tuple[dict[str, Any], types.DataFrame, types.DataFrame, types.DataFrame]:
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
        The model's rows of these.
    """
    from hbn_foundation.evaluation.methods import FINE_TUNED
    from hbn_foundation.evaluation.tasks import factors

    models = _models(predictions, scratch_predictions)
    metrics, scores, answers = factors.evaluate_factors(
        checkpoint, dataset, recipe.evaluation, models
    )
    own = answers[answers["method"] == FINE_TUNED].drop(columns="method").reset_index(drop=True)
    return _with_table(metrics, "challenge2_table", own), scores, answers, own


def report_factors(
    checkpoint: Any,
    predictions: types.DataFrame,
    dataset: types.EEGDataset,
    scores: types.DataFrame,
    metrics: dict[str, Any],
    answers: types.DataFrame,
    history: types.DataFrame,
) -> tuple[str, str, Any, Any]:
    """Print the scores, and write the report; returns as `report_response_times`."""
    from hbn_foundation.evaluation.report import challenges

    return _shown(
        *challenges.report_factors(
            checkpoint, predictions, dataset, scores, metrics, answers, history
        )
    )  # fmt: skip


def _models(predictions: types.DataFrame, scratch: types.DataFrame) -> dict[str, types.DataFrame]:
    """Predictions by method; those from scratch are empty where they were not asked for."""
    from hbn_foundation.evaluation.methods import FINE_TUNED, SCRATCH

    models = {FINE_TUNED: predictions, SCRATCH: scratch}
    return {name: table for name, table in models.items() if len(table)}


def _with_table(metrics: dict[str, Any], maker: str, predictions: Any) -> dict[str, Any]:
    """Add what is wrong with the CSV that a submission would have."""
    from hbn_foundation.errors import UserError
    from hbn_foundation.evaluation.report.criteria import TABLE_PROBLEM
    from hbn_foundation.submission import tables

    try:
        getattr(tables, maker)(predictions)
    except UserError as error:
        return {**metrics, TABLE_PROBLEM: str(error)}
    return {**metrics, TABLE_PROBLEM: None}


def _shown(report: Any, figures: dict[str, Any]) -> tuple[str, str, Any, Any]:
    from hbn_foundation.evaluation.report.render import render_page, render_text, show

    text = render_text(report)
    show(text)
    return render_page(report), text, figures["answers"], figures["spatial"]
