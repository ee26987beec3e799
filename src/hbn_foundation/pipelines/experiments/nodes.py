"""Nodes of experiments: each hands its work to a few functions of the rooms below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hbn_foundation.evaluation.recipes import ChallengeRecipe, FoundationRecipe, LabelRecipe
from hbn_foundation.experiments.params import (
    ComparisonParams,
    ExperimentParams,
    LabelCurveParams,
    LearningCurveParams,
    SweepRecipe,
)
from hbn_foundation.pipelines import types
from hbn_foundation.recordings.params import CleaningParams


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
    from hbn_foundation.evaluation.folds import comparison_table
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
    text = show(render_text(comparison_report(summary, score, about, finetuning.context.text)))
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
    text = show(render_text(learning_curve_report(summary, about, recipe.context.text)))
    return summary, learning_curve_figure(summary, f"Scores over labelled subjects: {about}"), text


def plan(
    dataset: types.EEGDataset,
    sweep_dataset: types.EEGDataset,
    foundation: FoundationRecipe,
    finetuning: LabelRecipe,
    sweep: SweepRecipe,
    cleaning: CleaningParams,
    device_plan: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, str], str]:
    """Cross folds and grid, check what can be checked, and print what it will take.

    Returns
    -------
    base_jobs, finetune_jobs : list
        Each job once, with its hash.
    data : dict
        Folders of what they are trained on.
    text : str
        Counts, reuse, time, disk.
    """
    from hbn_foundation.evaluation.report.render import show
    from hbn_foundation.experiments import sweep as sweeps
    from hbn_foundation.experiments.planner import Data
    from hbn_foundation.experiments.selection import records

    data = Data(dataset, sweep_dataset)
    planned, text = sweeps.plan_sweep(data, foundation, finetuning, sweep, cleaning, device_plan)
    show(text)
    folders = sweeps.put_data(data, sweep.store)
    return records(planned.bases), records(planned.finetunings), folders, text


def run_jobs(
    base_jobs: list[dict[str, Any]],
    data: dict[str, str],
    device_plan: dict[str, Any],
    foundation: FoundationRecipe,
    sweep: SweepRecipe,
    finetune_jobs: list[dict[str, Any]] | None = None,
    base_report: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Carry out what is missing of the bases, or with their report of the fine-tunings.

    Returns
    -------
    dict
        What became of each job of that kind.
    """
    from hbn_foundation.experiments.selection import plan_of
    from hbn_foundation.experiments.specs import BASE, FINETUNE
    from hbn_foundation.experiments.sweep import run_sweep

    planned = plan_of(base_jobs, finetune_jobs or [])
    kind = BASE if base_report is None else FINETUNE
    report = run_sweep(planned, data, sweep, device_plan, foundation.supervision, base_report)
    return {name: row for name, row in report.items() if name.startswith(kind)}


def collect(
    base_jobs: list[dict[str, Any]],
    finetune_jobs: list[dict[str, Any]],
    base_report: dict[str, Any],
    finetune_report: dict[str, Any],
    sweep: SweepRecipe,
    finetuning: LabelRecipe,
) -> tuple[types.DataFrame, types.DataFrame, types.DataFrame, dict[str, Any], Any, str]:
    """Bring all results together: table, curves, comparison, savings, figure, summary.

    All but the figure also lie in the folder of the prefix, beside links to the results.

    Returns
    -------
    jobs : DataFrame
        One row per job.
    curves, modes : DataFrame
        Learning curves, and modes compared.
    savings : dict
        Time saved by sharing bases.
    curves_figure : Figure
    summary : str
        The page, in Markdown.
    """
    from hbn_foundation.evaluation.evaluate import main_metric
    from hbn_foundation.evaluation.figures.learning import sweep_figure
    from hbn_foundation.evaluation.report.experiments import sweep_report
    from hbn_foundation.evaluation.report.render import render_text, show
    from hbn_foundation.evaluation.scorers import display_metric
    from hbn_foundation.experiments import collecting
    from hbn_foundation.experiments.selection import plan_of
    from hbn_foundation.experiments.specs import FINETUNE
    from hbn_foundation.experiments.sweep import stores_of

    planned, stores = plan_of(base_jobs, finetune_jobs), stores_of(sweep.store)
    jobs = collecting.collect(planned, stores, {**base_report, **finetune_report})
    score = main_metric("nrmse" in jobs)
    options = {"bootstraps": finetuning.evaluation.bootstraps, "seed": finetuning.evaluation.seed}
    curves = collecting.learning_curves(jobs, score, **options)
    modes = collecting.compare_modes(jobs, score, **options)
    savings = collecting.measured_savings(jobs)
    about = f"{finetuning.label.column or finetuning.label.kind} ({sweep.prefix})"
    report = sweep_report(jobs, curves, modes, savings, score, about)
    page = show(render_text(report, markdown=True))
    figure = sweep_figure(curves, modes, display_metric(score))
    modes = modes.astype({"target_data_pct": str})
    tables = {"jobs": jobs, "curves": curves, "modes": modes}
    folder = Path(sweep.store.experiments, sweep.prefix)
    collecting.write_set(folder, planned, stores.store(FINETUNE), tables, page)
    return jobs, curves, modes, savings, figure, page


def check_sweep(base_report: dict[str, Any], finetune_report: dict[str, Any], page: str) -> None:
    """End the run with an error when a job has no result: all that is done is kept by now."""
    from hbn_foundation.experiments.engine import check_reports

    check_reports({**base_report, **finetune_report})
