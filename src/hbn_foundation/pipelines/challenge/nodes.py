"""Nodes of the challenges beside those of fine-tuning: each hands its work to a room below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.evaluation.challenge.params import FromScratchParams
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.pipelines import types
from hbn_foundation.pipelines.finetuning import nodes as finetuning
from hbn_foundation.signals.params import CropWindowParams, TrialWindowParams
from hbn_foundation.training.finetuning.params import PlanParams, RateParams
from hbn_foundation.training.finetuning.target_params import MoreTargets
from hbn_foundation.training.finetuning.trainer_params import FineTuningParams, RegularisationParams
from hbn_foundation.training.model_params import AddedTokenParams, HeadParams, InputParams
from hbn_foundation.training.supervision.params import SupervisionParams


def prepare_trials(
    foundation_checkpoint: Any,
    signal_store: types.SignalStore,
    trials: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    windows: TrialWindowParams,
    label: LabelParams,
    head: HeadParams,
    plan: PlanParams,
    rates: RateParams,
    trainer: FineTuningParams,
    more_targets: MoreTargets,
    tokens: AddedTokenParams,
    input: InputParams,
    fault: str | None,
) -> tuple[types.DataFrame, Any]:
    """Cut a window per trial, stop when something does not fit, draw the learning rates.

    Returns
    -------
    windows : DataFrame
        One row per trial.
    lr_preview : Figure
        The rates over the run, for the plan's default course.
    """
    from hbn_foundation.signals.trial_windows import windows_of_trials

    seconds = _window_seconds(foundation_checkpoint)
    chosen = windows_of_trials(label, signal_store, trials, windows, seconds)
    return chosen, _checked(
        foundation_checkpoint, signal_store, chosen, splits, participants, label, head, plan,
        rates, trainer, more_targets, tokens, input, fault,
    )  # fmt: skip


def prepare_crops(
    foundation_checkpoint: Any,
    signal_store: types.SignalStore,
    splits: types.DataFrame,
    participants: types.DataFrame,
    windows: CropWindowParams,
    label: LabelParams,
    head: HeadParams,
    plan: PlanParams,
    rates: RateParams,
    regularisation: RegularisationParams,
    trainer: FineTuningParams,
    more_targets: MoreTargets,
    tokens: AddedTokenParams,
    input: InputParams,
    fault: str | None,
) -> tuple[types.DataFrame, Any]:
    """Cut windows to take crops of, stop when something does not fit, draw the learning rates.

    Returns
    -------
    windows : DataFrame
        One row per window, with what is learned about its subject.
    lr_preview : Figure
        The rates over the run, for the plan's default course.
    """
    from hbn_foundation.signals.crop_windows import cut_crop_windows

    labels = [label, *(one.label for one in more_targets.chosen.values())]
    chosen = cut_crop_windows(
        signal_store,
        participants,
        [str(one.column) for one in labels if one.kind == "participant"],
        windows,
        seconds=_window_seconds(foundation_checkpoint),
        jitter=regularisation.jitter_seconds,
    )
    return chosen, _checked(
        foundation_checkpoint, signal_store, chosen, splits, participants, label, head, plan,
        rates, trainer, more_targets, tokens, input, fault,
    )  # fmt: skip


def train_from_scratch(
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
    run_version: str,
    from_scratch: FromScratchParams,
) -> types.DataFrame:
    """Train the same model from random weights, and predict the test windows.

    Returns
    -------
    scratch_predictions : DataFrame
        As of the fine-tuned model; empty where it is not wanted.
    """
    from hbn_foundation.evaluation.challenge.scratch import scratch_predictions
    from hbn_foundation.training.finetuning.extras import Extras

    return scratch_predictions(
        foundation_checkpoint, signal_store, windows, splits, participants, label,
        (head, plan, rates, regularisation), trainer, Extras(more_targets, tokens, input),
        device_plan, supervision, run_version, from_scratch,
    )  # fmt: skip


def predict_response_times(
    checkpoint: Any,
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    splits: types.DataFrame,
    trainer: FineTuningParams,
) -> types.DataFrame:
    """Predict response time and success of the test trials."""
    from hbn_foundation.evaluation import challenge_predictions

    return challenge_predictions.predict_response_times(
        checkpoint, signal_store, windows, splits, trainer.batch_size
    )


def predict_factors(
    checkpoint: Any,
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    splits: types.DataFrame,
    trainer: FineTuningParams,
) -> types.DataFrame:
    """Predict the factors of the test windows."""
    from hbn_foundation.evaluation import challenge_predictions

    return challenge_predictions.predict_numbers(
        checkpoint, signal_store, windows, splits, trainer.batch_size
    )


def _window_seconds(checkpoint: Any) -> float:
    return float(checkpoint.metadata["n_samples"] / checkpoint.metadata["sfreq"])


def _checked(
    checkpoint: Any,
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    *rest: Any,
) -> Any:
    """Check that whoever is reported has chosen nothing, then as any fine-tuning."""
    from hbn_foundation.labels.splits import check_reported

    check_reported(splits, participants, checkpoint.metadata["validation_subjects"])
    return finetuning.preview(checkpoint, signal_store, windows, splits, participants, *rest)
