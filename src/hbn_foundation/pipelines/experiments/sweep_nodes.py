"""Nodes of a sweep: each hands its work to a few functions of the rooms below."""

from __future__ import annotations

from pathlib import Path
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
    from hbn_foundation.experiments import collecting, sweep_scores
    from hbn_foundation.experiments.selection import plan_of
    from hbn_foundation.experiments.specs import FINETUNE
    from hbn_foundation.experiments.sweep import stores_of

    planned, stores = plan_of(base_jobs, finetune_jobs), stores_of(sweep.store)
    jobs = collecting.collect(planned, stores, {**base_report, **finetune_report})
    score = main_metric("nrmse" in jobs)
    options = {"bootstraps": finetuning.evaluation.bootstraps, "seed": finetuning.evaluation.seed}
    curves = sweep_scores.learning_curves(jobs, score, **options)
    modes = sweep_scores.compare_modes(jobs, score, **options)
    savings = sweep_scores.measured_savings(jobs)
    about = f"{finetuning.label.column or finetuning.label.kind} ({sweep.prefix})"
    page = render_text(sweep_report(jobs, curves, modes, savings, score, about), markdown=True)
    show(page)
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
