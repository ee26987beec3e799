"""Nodes of comparison and learning curves: each hands its work to one function of a room below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.evaluation.recipes import ChallengeRecipe, FoundationRecipe, LabelRecipe
from hbn_foundation.experiments.params import (
    ComparisonParams,
    ExperimentParams,
    LabelCurveParams,
    LearningCurveParams,
)
from hbn_foundation.pipelines import types


def choose_windows(
    dataset: types.EEGDataset, trials: types.DataFrame, finetuning: LabelRecipe
) -> types.EEGDataset:
    """Take the windows that the label is learned from: all, or those of trials or events."""
    from hbn_foundation.signals.label_windows import windows_of_label

    windows = windows_of_label(
        finetuning.label, dataset, trials, finetuning.trial_windows, dataset.window.seconds
    )
    return dataset.replace(windows=windows)


def compare_plans(
    dataset: types.EEGDataset,
    comparison_dataset: types.EEGDataset,
    device_plan: dict[str, Any],
    foundation: FoundationRecipe,
    finetuning: LabelRecipe,
    runs: ComparisonParams,
    experiments: ExperimentParams,
) -> tuple[types.DataFrame, types.DataFrame, str]:
    """Give the folds, predictions and incidents of `experiments.comparison.compare_plans`."""
    from hbn_foundation.experiments import comparison

    return comparison.compare_plans(
        dataset, comparison_dataset, foundation, finetuning, runs, device_plan, experiments
    )


def report_comparison(
    comparison_folds: types.DataFrame, finetuning: LabelRecipe, runs: ComparisonParams
) -> tuple[types.DataFrame, Any, str]:
    """Compare the methods, draw every method's folds, and print the table and the best method.

    Returns
    -------
    comparison_summary : DataFrame
        One row per method, best first.
    comparison_figure : Figure
        The folds, and how far the best plan is ahead.
    comparison_report : str
        The table as text.
    """
    from hbn_foundation.evaluation.figures.scores import folds_figure
    from hbn_foundation.evaluation.finetuning_comparison import comparison_table
    from hbn_foundation.evaluation.report.finetuning import comparison_report
    from hbn_foundation.evaluation.report.render import render_text, show
    from hbn_foundation.evaluation.scorers import display_metric
    from hbn_foundation.experiments.comparison import compared_score
    from hbn_foundation.scores import WITHIN

    folds = comparison_folds
    score = compared_score(runs.score, "nrmse" in folds, WITHIN in folds)
    summary = comparison_table(folds, score)
    about = finetuning.label.column or finetuning.label.kind
    if runs.labelled_subjects is not None:
        about += f" with {runs.labelled_subjects} labelled subjects"
    text = render_text(comparison_report(summary, score, about, finetuning.context.text))
    show(text)
    titles = {score: display_metric(score)}
    return summary, folds_figure(folds, summary, titles, "Ways of fine-tuning"), text


def learn_from_subjects(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: LabelRecipe | ChallengeRecipe,
    foundation: FoundationRecipe,
    device_plan: dict[str, Any],
    runs: LabelCurveParams | LearningCurveParams,
    experiments: ExperimentParams,
) -> tuple[types.DataFrame, types.DataFrame]:
    """Give the scores and predictions of `experiments.learning_curve.learning_curve`."""
    from hbn_foundation.experiments.learning_curve import learning_curve

    return learning_curve(
        foundation_checkpoint, dataset, recipe, foundation, runs, device_plan, experiments
    )


def report_learning_curve(
    learning_curve_predictions: types.DataFrame, recipe: LabelRecipe | ChallengeRecipe
) -> tuple[types.DataFrame, Any, str]:
    """Summarise the curve with paired intervals over subjects, draw it, and print the tables.

    Returns
    -------
    learning_curve_summary : DataFrame
        One row per method and number of labelled subjects.
    learning_curve_figure : Figure
        A line per method.
    learning_curve_report : str
        The tables as text.
    """
    from hbn_foundation.evaluation.curve_summary import curve_summary
    from hbn_foundation.evaluation.figures.learning import learning_curve_figure
    from hbn_foundation.evaluation.report.experiments import learning_curve_report
    from hbn_foundation.evaluation.report.render import render_text, show

    summary = curve_summary(learning_curve_predictions, recipe.evaluation)
    about = recipe.label.column or recipe.label.kind
    text = render_text(learning_curve_report(summary, about, recipe.context.text))
    show(text)
    return summary, learning_curve_figure(summary, f"Scores over labelled subjects: {about}"), text
