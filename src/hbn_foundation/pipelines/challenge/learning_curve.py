"""Nodes of the learning curves: each hands its work to one function of a room below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.evaluation.challenge.params import (
    FactorEvaluationParams,
    LearningCurveParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.pipelines import types
from hbn_foundation.training.finetuning.params import PlanParams, RateParams
from hbn_foundation.training.finetuning.target_params import MoreTargets
from hbn_foundation.training.finetuning.trainer_params import FineTuningParams, RegularisationParams
from hbn_foundation.training.model_params import AddedTokenParams, HeadParams, InputParams
from hbn_foundation.training.supervision.params import SupervisionParams


def learn_response_times(
    foundation_checkpoint: Any,
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    label: LabelParams,
    head: HeadParams,
    plan: PlanParams,
    rates: RateParams,
    regularisation: RegularisationParams,
    trainer: FineTuningParams,
    more_targets: MoreTargets,
    tokens: AddedTokenParams,
    input: InputParams,
    device_plan: dict[str, Any],
    supervision: SupervisionParams,
    evaluation: ResponseTimeEvaluationParams,
    runs: LearningCurveParams,
) -> types.DataFrame:
    """Learn response times from the labels of more and more subjects, baselines beside the model.

    Returns
    -------
    learning_curve : DataFrame
        One row per subset, seed and method.
    """
    return _curve(
        foundation_checkpoint, signal_store, windows, splits, participants, label, head, plan,
        rates, regularisation, trainer, more_targets, tokens, input, device_plan, supervision,
        evaluation, runs,
    )  # fmt: skip


def learn_factors(
    foundation_checkpoint: Any,
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    label: LabelParams,
    head: HeadParams,
    plan: PlanParams,
    rates: RateParams,
    regularisation: RegularisationParams,
    trainer: FineTuningParams,
    more_targets: MoreTargets,
    tokens: AddedTokenParams,
    input: InputParams,
    device_plan: dict[str, Any],
    supervision: SupervisionParams,
    evaluation: FactorEvaluationParams,
    runs: LearningCurveParams,
) -> types.DataFrame:
    """Learn factors from the labels of more and more subjects; as `learn_response_times`."""
    return _curve(
        foundation_checkpoint, signal_store, windows, splits, participants, label, head, plan,
        rates, regularisation, trainer, more_targets, tokens, input, device_plan, supervision,
        evaluation, runs,
    )  # fmt: skip


def report_learning_curve(learning_curve: types.DataFrame) -> tuple[Any, str]:
    """Draw the scores over the training subjects, and print the table.

    Returns
    -------
    learning_curve_figure : Figure
        A panel per score, a line per method.
    learning_curve_report : str
        The table as text.
    """
    from hbn_foundation.evaluation.challenge.learning_curve import (
        curve_scores,
        learning_curve_figure,
        learning_curve_text,
    )
    from hbn_foundation.evaluation.report import show

    text = learning_curve_text(learning_curve)
    show(text)
    return learning_curve_figure(learning_curve, curve_scores(learning_curve)), text


def _curve(*arguments: Any) -> Any:
    from hbn_foundation.evaluation.challenge.learning_runs import (
        CurveData,
        CurveRecipe,
        learning_curve,
    )
    from hbn_foundation.training.finetuning.extras import Extras

    data, model, extras = arguments[:5], arguments[5:11], arguments[11:14]
    device_plan, supervision, evaluation, runs = arguments[14:]
    recipe = CurveRecipe._make([*model, Extras._make(extras), evaluation])
    return learning_curve(CurveData._make(data), recipe, runs, device_plan, supervision)
