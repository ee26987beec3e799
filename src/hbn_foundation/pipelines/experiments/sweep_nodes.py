"""Nodes of a sweep: each hands its work to a few functions of the rooms below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.evaluation.recipes import FoundationRecipe, LabelRecipe
from hbn_foundation.experiments.params import SweepRecipe
from hbn_foundation.pipelines import types
from hbn_foundation.recordings.params import CleaningParams


def plan(
    dataset: types.EEGDataset,
    sweep_dataset: types.EEGDataset,
    foundation: FoundationRecipe,
    finetuning: LabelRecipe,
    sweep: SweepRecipe,
    cleaning: CleaningParams,
    device_plan: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Cross folds and grid, check what can be checked, and print what it will take.

    Returns
    -------
    base_jobs, finetune_jobs : list
        Each job once, with its hash.
    text : str
        Counts, reuse, time, disk.
    """
    from hbn_foundation.evaluation.report.render import show
    from hbn_foundation.experiments import sweep as sweeps
    from hbn_foundation.experiments.selection import records

    data = sweeps.data_of(dataset, sweep_dataset, finetuning.label)
    planned, text = sweeps.plan_sweep(data, foundation, finetuning, sweep, cleaning, device_plan)
    show(text)
    return records(planned.bases), records(planned.finetunings), text


def train_bases(
    base_jobs: list[dict[str, Any]],
    dataset: types.EEGDataset,
    sweep_dataset: types.EEGDataset,
    device_plan: dict[str, Any],
    cleaning: CleaningParams,
    foundation: FoundationRecipe,
    finetuning: LabelRecipe,
    sweep: SweepRecipe,
) -> dict[str, Any]:
    """Train the bases that are missing.

    Returns
    -------
    dict
        What became of each base.
    """
    from hbn_foundation.experiments import sweep as sweeps
    from hbn_foundation.experiments.selection import plan_of

    data = sweeps.data_of(dataset, sweep_dataset, finetuning.label)
    return sweeps.run_sweep(
        plan_of(base_jobs, []), data, sweep, device_plan, cleaning, foundation.supervision
    )


def finetune(
    base_report: dict[str, Any],
    base_jobs: list[dict[str, Any]],
    finetune_jobs: list[dict[str, Any]],
    dataset: types.EEGDataset,
    sweep_dataset: types.EEGDataset,
    device_plan: dict[str, Any],
    cleaning: CleaningParams,
    foundation: FoundationRecipe,
    finetuning: LabelRecipe,
    sweep: SweepRecipe,
) -> dict[str, Any]:
    """Carry out the fine-tunings that are missing.

    Returns
    -------
    dict
        What became of each fine-tuning.
    """
    from hbn_foundation.experiments import sweep as sweeps
    from hbn_foundation.experiments.selection import plan_of
    from hbn_foundation.experiments.specs import FINETUNE

    data = sweeps.data_of(dataset, sweep_dataset, finetuning.label)
    report = sweeps.run_sweep(
        plan_of(base_jobs, finetune_jobs), data, sweep, device_plan, cleaning,
        foundation.supervision, base_report,
    )  # fmt: skip
    return {name: row for name, row in report.items() if name.startswith(FINETUNE)}


def collect(
    base_jobs: list[dict[str, Any]],
    finetune_jobs: list[dict[str, Any]],
    base_report: dict[str, Any],
    finetune_report: dict[str, Any],
    sweep: SweepRecipe,
    finetuning: LabelRecipe,
) -> tuple[types.DataFrame, types.DataFrame, types.DataFrame, dict[str, Any], Any, str]:
    """Bring all results together: table, curves, comparison, savings, figure, summary.

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
    from hbn_foundation.evaluation.figures.learning import sweep_figure
    from hbn_foundation.evaluation.report.experiments import sweep_report
    from hbn_foundation.evaluation.report.render import render_text, show
    from hbn_foundation.evaluation.scorers import display_metric
    from hbn_foundation.experiments import collecting, sweep_scores
    from hbn_foundation.experiments import sweep as sweeps
    from hbn_foundation.experiments.selection import plan_of

    found = collecting.collect(
        plan_of(base_jobs, finetune_jobs), sweeps.stores_of(sweep.store),
        {**base_report, **finetune_report},
    )  # fmt: skip
    score = sweep_scores.compared_score(found.is_regression)
    scored = sweep_scores.score_jobs(found.table, found.predictions, found.is_regression)
    label, evaluation = finetuning.label, finetuning.evaluation
    options = {"bootstraps": evaluation.bootstraps, "seed": evaluation.seed}
    curves = sweep_scores.learning_curves(scored, score, **options)
    modes = sweep_scores.compare_modes(scored, score, **options)
    savings = sweep_scores.measured_savings(scored)._asdict()
    about = label.column or label.kind
    report = sweep_report(scored, curves, modes, savings, score, about)
    page = render_text(report, markdown=True)
    show(page)
    return (
        scored,
        curves,
        modes.astype({"target_data_pct": str}),
        savings,
        sweep_figure(curves, modes, display_metric(score)),
        page,
    )


def check_sweep(base_report: dict[str, Any], finetune_report: dict[str, Any], page: str) -> None:
    """End the run with an error when a job has no result: all that is done is kept by now."""
    from hbn_foundation.experiments.engine import check_reports

    check_reports({**base_report, **finetune_report})
