"""Nodes of the comparison: each hands its work to one function of a room below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hbn_foundation.evaluation.params import (
    ComparisonParams,
    EvaluationParams,
    FineTuningEvaluationParams,
)
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.pipelines import types
from hbn_foundation.signals.params import TrialWindowParams, WindowParams
from hbn_foundation.training.finetuning.params import PlanParams, RateParams
from hbn_foundation.training.finetuning.target_params import MoreTargets
from hbn_foundation.training.finetuning.trainer_params import FineTuningParams, RegularisationParams
from hbn_foundation.training.model_params import (
    AddedTokenParams,
    EncoderParams,
    HeadParams,
    InputParams,
)
from hbn_foundation.training.params import ObjectiveParams, TrainerParams
from hbn_foundation.training.supervision.params import SupervisionParams


def choose_windows(
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    trials: types.DataFrame,
    window: WindowParams,
    label: LabelParams,
    trial_windows: TrialWindowParams,
) -> types.DataFrame:
    """Take the windows that the label is learned from: all there are, or those of the trials."""
    from hbn_foundation.signals.trial_windows import windows_of_label

    return windows_of_label(label, windows, signal_store, trials, trial_windows, window.seconds)


def compare_plans(
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    comparison_windows: types.DataFrame,
    participants: types.DataFrame,
    device_plan: dict[str, Any],
    encoder: EncoderParams,
    objective: ObjectiveParams,
    pretraining: TrainerParams,
    window: WindowParams,
    supervision: SupervisionParams,
    label: LabelParams,
    head: HeadParams,
    plan: PlanParams,
    rates: RateParams,
    regularisation: RegularisationParams,
    trainer: FineTuningParams,
    finetuning_supervision: SupervisionParams,
    more_targets: MoreTargets,
    tokens: AddedTokenParams,
    input: InputParams,
    evaluation: FineTuningEvaluationParams,
    runs: ComparisonParams,
) -> tuple[types.DataFrame, types.DataFrame, str]:
    """Fine-tune each plan with each seed in each fold, the baselines beside them.

    Returns
    -------
    folds : DataFrame
        One row per repeat, fold, seed and method.
    predictions : DataFrame
        Of all runs on their test windows.
    incidents : str
        JSON lines, one per incident of any training; empty without any.
    """
    from hbn_foundation.evaluation import finetuning_folds
    from hbn_foundation.evaluation.cross_validation import make_folds
    from hbn_foundation.evaluation.finetuning_runs import Recipe
    from hbn_foundation.training.finetuning.extras import Extras

    folds = make_folds(
        signal_store,
        windows,
        participants,
        encoder,
        objective,
        pretraining,
        EvaluationParams(),
        runs.repeats,
        Path(pretraining.work_dir) / "folds",
        window=window,
        device_plan=device_plan,
        supervision=supervision,
        label=label,
    )
    recipe = Recipe(
        label, head, plan, rates, regularisation, trainer, evaluation,
        Extras(more_targets, tokens, input),
    )  # fmt: skip
    of_trials = comparison_windows if label.kind == "trial" else None
    return finetuning_folds.compare_plans(folds, recipe, runs, of_trials, finetuning_supervision)


def summarise_comparison(
    comparison_folds: types.DataFrame, runs: ComparisonParams
) -> types.DataFrame:
    """Compare the methods: one row each, best first."""
    from hbn_foundation.evaluation.finetuning_comparison import comparison_table

    return comparison_table(comparison_folds, _score(comparison_folds, runs))


def draw_comparison(
    comparison_folds: types.DataFrame, comparison_summary: types.DataFrame, runs: ComparisonParams
) -> Any:
    """Draw every method's folds, and how far the best plan is ahead."""
    from hbn_foundation.evaluation.finetuning_figures import comparison_figure

    return comparison_figure(comparison_folds, comparison_summary, _score(comparison_folds, runs))


def report_comparison(
    comparison_folds: types.DataFrame,
    comparison_summary: types.DataFrame,
    label: LabelParams,
    runs: ComparisonParams,
) -> str:
    """Print the table and who wins."""
    from hbn_foundation.evaluation.finetuning_report import comparison_text
    from hbn_foundation.evaluation.report import show

    about = label.column or label.kind
    if runs.labelled_subjects is not None:
        about += f" with {runs.labelled_subjects} labelled subjects"
    text = comparison_text(comparison_summary, _score(comparison_folds, runs), about)
    show(text)
    return text


def _score(folds: types.DataFrame, runs: ComparisonParams) -> str:
    from hbn_foundation.evaluation.finetuning_folds import compared_score

    return compared_score(runs.score, "nrmse" in folds)
