"""Nodes of the fine-tuning pipeline: each hands its work to one function of a room below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hbn_foundation.evaluation.params import FineTuningEvaluationParams
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.pipelines import types
from hbn_foundation.signals.params import TrialWindowParams
from hbn_foundation.training.finetuning.params import PlanParams, RateParams
from hbn_foundation.training.finetuning.target_params import MoreTargets
from hbn_foundation.training.finetuning.trainer_params import FineTuningParams, RegularisationParams
from hbn_foundation.training.model_params import (
    AddedTokenParams,
    EncoderParams,
    HeadParams,
    InputParams,
)
from hbn_foundation.training.params import DeviceParams, TrainerParams
from hbn_foundation.training.supervision.params import SupervisionParams


def prepare_finetuning(
    foundation_checkpoint: Any,
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    trials: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    label: LabelParams,
    trial_windows: TrialWindowParams,
    head: HeadParams,
    plan: PlanParams,
    rates: RateParams,
    trainer: FineTuningParams,
    more_targets: MoreTargets,
    tokens: AddedTokenParams,
    input: InputParams,
    fault: str | None,
) -> tuple[types.DataFrame, Any]:
    """Take the windows of the label, stop when something does not fit, draw the learning rates.

    Returns
    -------
    finetuning_windows : DataFrame
        The windows that the label is learned from: all there are, or those of the trials.
    lr_preview : Figure
        The rates over the run, for the plan's default course.
    """
    from hbn_foundation.signals.trial_windows import windows_of_label

    metadata = foundation_checkpoint.metadata
    seconds = metadata["n_samples"] / metadata["sfreq"]
    chosen = windows_of_label(label, windows, signal_store, trials, trial_windows, seconds)
    return chosen, preview(
        foundation_checkpoint, signal_store, chosen, splits, participants, label, head, plan,
        rates, trainer, more_targets, tokens, input, fault,
    )  # fmt: skip


def preview(
    foundation_checkpoint: Any,
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    label: LabelParams,
    head: HeadParams,
    plan: PlanParams,
    rates: RateParams,
    trainer: FineTuningParams,
    more_targets: MoreTargets,
    tokens: AddedTokenParams,
    input: InputParams,
    fault: str | None,
) -> Any:
    """Stop when something does not fit, before any training; draw the learning rates."""
    from hbn_foundation.evaluation.rate_figure import lr_curves
    from hbn_foundation.training.finetuning.extras import Extras
    from hbn_foundation.training.finetuning.preflight import preview_finetuning
    from hbn_foundation.training.supervision.faults import Fault

    Fault.parse(fault)
    return lr_curves(
        preview_finetuning(
            foundation_checkpoint, signal_store, windows, splits, participants, label, head, plan,
            rates, trainer, Extras(more_targets, tokens, input),
        )
    )  # fmt: skip


def choose_device(
    hardware: DeviceParams,
    trainer: FineTuningParams,
    tokens: AddedTokenParams,
    fault: str | None,
    signal_store: types.SignalStore,
    foundation_checkpoint: Any,
) -> dict[str, Any]:
    """Try the accelerator in a fresh process with the checkpoint's encoder; else plan the CPU."""
    from hbn_foundation.training import device

    metadata = foundation_checkpoint.metadata
    job = device.ProbeJob(
        encoder=EncoderParams(**metadata["parameters"]["encoder"]).with_tokens(tokens),
        trainer=TrainerParams(batch_size=trainer.batch_size, precision=trainer.precision),
        n_channels=len(signal_store.channel_names),
        sfreq=metadata["sfreq"],
        n_samples=metadata["n_samples"],
    )
    return device.choose_device(
        hardware.device, hardware.timeout_seconds, hardware.allow_fallback, job=job, fault=fault
    )


def finetune_encoder(
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
    fault: str | None,
    run_version: str,
) -> tuple[Any, types.DataFrame, str]:
    """Fine-tune under supervision.

    Returns
    -------
    checkpoint : Checkpoint
        Encoder and head of the best validation epoch with their provenance.
    history : DataFrame
        One row per epoch.
    incidents : str
        JSON lines, one per incident; empty without any.
    """
    from hbn_foundation.training.finetuning.extras import Extras
    from hbn_foundation.training.finetuning.supervised import finetune_supervised

    return finetune_supervised(
        foundation_checkpoint,
        signal_store,
        windows,
        splits,
        participants,
        label,
        head,
        plan,
        rates,
        regularisation,
        trainer,
        device_plan,
        Path(trainer.work_dir),
        extras=Extras(more_targets, tokens, input),
        run_id=run_version,
        supervision=supervision,
        fault=fault,
    )


def evaluate_finetuned(
    finetuning_checkpoint: Any,
    foundation_checkpoint: Any,
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    label: LabelParams,
    evaluation: FineTuningEvaluationParams,
) -> tuple[dict[str, Any], types.DataFrame, types.DataFrame]:
    """Score test subjects, the classical baselines beside them.

    Returns
    -------
    metrics : dict
        Everything that is a number.
    scores : DataFrame
        One row per method.
    predictions : DataFrame
        The model's answer for each test window.
    """
    from hbn_foundation.evaluation import finetuned

    result = finetuned.evaluate_finetuned(
        finetuning_checkpoint,
        foundation_checkpoint,
        signal_store,
        windows,
        splits,
        participants,
        label,
        evaluation,
    )
    return result.metrics, result.scores, result.predictions


def draw_figures(
    finetuning_history: types.DataFrame, finetuning_predictions: types.DataFrame
) -> tuple[Any, Any]:
    """Draw the training curves with their phases, and what the model answers."""
    from hbn_foundation.evaluation.finetuning_figures import answers_figure, finetuning_figure

    return finetuning_figure(finetuning_history), answers_figure(finetuning_predictions)


def report(finetuning_scores: types.DataFrame, finetuning_metrics: dict[str, Any]) -> str:
    """Print the scores with their baselines."""
    from hbn_foundation.evaluation.finetuned import finetuned_text
    from hbn_foundation.evaluation.report import show

    text = finetuned_text(finetuning_scores, finetuning_metrics)
    show(text)
    return text
