"""Nodes of the learning curves: each hands its work to one function of a room below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.evaluation.params import LearningCurveParams
from hbn_foundation.evaluation.recipes import ChallengeRecipe
from hbn_foundation.pipelines import types


def learn_from_shares(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: ChallengeRecipe,
    device_plan: dict[str, Any],
    runs: LearningCurveParams,
) -> types.DataFrame:
    """Learn from the labels of more and more subjects, baselines beside the model.

    Returns
    -------
    learning_curve : DataFrame
        One row per subset, seed and method.
    """
    from hbn_foundation.evaluation.challenge.learning_runs import learning_curve

    return learning_curve(foundation_checkpoint, dataset, recipe, runs, device_plan)


def report_learning_curve(learning_curve: types.DataFrame) -> tuple[Any, str]:
    """Draw the scores over the training subjects, and print the table.

    Returns
    -------
    learning_curve_figure : Figure
        A panel per score, a line per method.
    learning_curve_report : str
        The table as text.
    """
    from hbn_foundation.evaluation.figures.learning import learning_curve_figure
    from hbn_foundation.evaluation.report.experiments import curve_scores, learning_curve_report
    from hbn_foundation.evaluation.report.render import render_text, show

    text = render_text(learning_curve_report(learning_curve))
    show(text)
    return learning_curve_figure(learning_curve, curve_scores(learning_curve)), text
