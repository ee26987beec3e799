"""Nodes of a sweep: each hands its work to a few functions of the rooms below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.evaluation.recipes import FoundationRecipe, LabelRecipe
from hbn_foundation.pipelines import types
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.sweeps.params import SweepRecipe


def plan(
    dataset: types.EEGDataset,
    sweep_dataset: types.EEGDataset,
    foundation: FoundationRecipe,
    finetuning: LabelRecipe,
    sweep: SweepRecipe,
    cleaning: CleaningParams,
    device_plan: dict[str, Any],
    run_settings: dict[str, Any],
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
    from hbn_foundation.sweeps.estimate import estimate, in_words
    from hbn_foundation.sweeps.executors import count_workers, read_cluster
    from hbn_foundation.sweeps.grid import Defaults
    from hbn_foundation.sweeps.jobs import asked, records, select
    from hbn_foundation.sweeps.planner import make_plan
    from hbn_foundation.sweeps.preflight import check_trainings
    from hbn_foundation.sweeps.running import Place
    from hbn_foundation.sweeps.specs import BASE, FINETUNE, Tuning

    tuning = Tuning(**{name: getattr(finetuning, name) for name in Tuning.model_fields})
    data = _data(dataset, sweep_dataset, finetuning)
    stores = Place.of(sweep.store).stores
    defaults = Defaults(
        foundation.encoder,
        foundation.objective,
        foundation.trainer,
        dataset.window,
        cleaning,
        tuning,
    )
    planned = make_plan(data, sweep.study, sweep.grid, defaults)
    with asked(run_settings):
        planned = select(planned, sweep.jobs, stores[BASE])
    check_trainings(planned, data)
    workers = count_workers(read_cluster(sweep.engine), device_plan["chosen"])
    found, _ = estimate(planned, data, stores[BASE], stores[FINETUNE], workers)
    text = "\n".join(in_words(planned, found, stores[BASE], stores[FINETUNE], workers))
    show(text)
    return records(planned.bases), records(planned.finetunings), text


def train_bases(
    base_jobs: list[dict[str, Any]],
    finetune_jobs: list[dict[str, Any]],
    dataset: types.EEGDataset,
    sweep_dataset: types.EEGDataset,
    device_plan: dict[str, Any],
    cleaning: CleaningParams,
    foundation: FoundationRecipe,
    finetuning: LabelRecipe,
    sweep: SweepRecipe,
    run_version: str,
    run_settings: dict[str, Any],
    run_nodes: list[str],
) -> dict[str, Any]:
    """Train the bases that are missing; fine-tunings of finished ones start meanwhile.

    Returns
    -------
    dict
        What became of each base.
    """
    from hbn_foundation.sweeps.engine import open_sweep
    from hbn_foundation.sweeps.jobs import asked
    from hbn_foundation.sweeps.specs import BASE

    data = _data(dataset, sweep_dataset, finetuning)
    opened = open_sweep(
        run_version, base_jobs, finetune_jobs, data, device_plan, dataset.window, cleaning,
        sweep, foundation.supervision,
    )  # fmt: skip
    goes_on = "finetune" in run_nodes
    with asked(run_settings):
        opened.run_bases(then_finetune=goes_on)
        if not goes_on:
            opened.close()
            opened.check()
    return opened.report(BASE)


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
    run_version: str,
    run_settings: dict[str, Any],
) -> dict[str, Any]:
    """Carry out the fine-tunings that are missing, and wait for those that run.

    Returns
    -------
    dict
        What became of each fine-tuning.
    """
    from hbn_foundation.sweeps.engine import open_sweep
    from hbn_foundation.sweeps.jobs import asked
    from hbn_foundation.sweeps.specs import FINETUNE

    data = _data(dataset, sweep_dataset, finetuning)
    opened = open_sweep(
        run_version, base_jobs, finetune_jobs, data, device_plan, dataset.window, cleaning,
        sweep, foundation.supervision,
    )  # fmt: skip
    with asked(run_settings):
        opened.finish()
    opened.close()
    return opened.report(FINETUNE)


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
    from hbn_foundation.evaluation import sweep_scores
    from hbn_foundation.evaluation.figures.learning import sweep_figure
    from hbn_foundation.evaluation.report.experiments import sweep_report
    from hbn_foundation.evaluation.report.render import render_text, show
    from hbn_foundation.evaluation.wording import score_title
    from hbn_foundation.sweeps import collecting
    from hbn_foundation.sweeps.jobs import plan_of

    found = collecting.collect(
        plan_of(base_jobs, finetune_jobs), sweep.store, {**base_report, **finetune_report}
    )
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
        sweep_figure(curves, modes, score_title(score)),
        page,
    )


def check_sweep(
    base_report: dict[str, Any],
    finetune_report: dict[str, Any],
    page: str,
    run_settings: dict[str, Any],
) -> None:
    """End the run with an error when a job has no result: all that is done is kept by now."""
    from hbn_foundation.sweeps.engine import check_reports
    from hbn_foundation.sweeps.jobs import asked

    with asked(run_settings):
        check_reports({**base_report, **finetune_report})


def _data(
    dataset: types.EEGDataset, sweep_dataset: types.EEGDataset, finetuning: LabelRecipe
) -> Any:
    from hbn_foundation.sweeps.planner import Data

    own = sweep_dataset.windows if finetuning.label.kind == "trial" else None
    return Data(dataset.store, dataset.windows, dataset.participants, own)
