"""Nodes of the foundation pipeline: each hands its work to one function of a room below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.pipelines import types
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import DeviceParams, ObjectiveParams, TrainerParams
from hbn_foundation.training.supervision.params import SupervisionParams


def check_parameters(
    encoder: EncoderParams,
    objective: ObjectiveParams,
    evaluation: EvaluationParams,
    window: WindowParams,
    cleaning: CleaningParams,
    hardware: DeviceParams,
    fault: str | None,
) -> None:
    """Stop before anything is read when parameters do not fit each other, or a device is absent."""
    from hbn_foundation.evaluation import preflight
    from hbn_foundation.training import device
    from hbn_foundation.training.supervision.faults import Fault

    Fault.parse(fault)
    preflight.check_parameters(
        encoder,
        objective,
        evaluation,
        window=window,
        sfreq=cleaning.sfreq,
        h_freq=cleaning.h_freq,
    )
    if hardware.device in ("cuda", "mps") and not hardware.allow_fallback:
        job = device.ProbeJob(encoder=encoder, objective=objective, sfreq=cleaning.sfreq,
                              n_samples=round(window.seconds * cleaning.sfreq))  # fmt: skip
        device.choose_device(hardware.device, hardware.timeout_seconds, job=job)


def check_data(
    recordings: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    encoder: EncoderParams,
    objective: ObjectiveParams,
    trainer: TrainerParams,
    window: WindowParams,
    evaluation: EvaluationParams,
    cleaning: CleaningParams,
    run_version: str,
) -> dict[str, int]:
    """Stop before any signal is cleaned when the label cannot be made or the disk is too small.

    Returns
    -------
    dict
        How many subjects are labelled, by split.
    """
    from hbn_foundation.evaluation.preflight import check_before_cleaning

    return check_before_cleaning(
        recordings,
        splits,
        participants,
        encoder,
        objective,
        trainer,
        evaluation,
        window=window,
        sfreq=cleaning.sfreq,
        folder=Path(trainer.work_dir) / run_version,
    )


def choose_device(
    hardware: DeviceParams,
    encoder: EncoderParams,
    objective: ObjectiveParams,
    trainer: TrainerParams,
    window: WindowParams,
    fault: str | None,
    signal_store: types.SignalStore,
) -> dict[str, Any]:
    """Try the accelerator in a fresh process; plan for the CPU where it does not answer.

    The signal store gives the shape of a batch; no signal is read.
    """
    from hbn_foundation.training import device

    sfreq = float(signal_store.sfreq)
    job = device.ProbeJob(
        encoder=encoder,
        objective=objective,
        trainer=trainer,
        n_channels=len(signal_store.channel_names),
        sfreq=sfreq,
        n_samples=round(window.seconds * sfreq),
    )
    return device.choose_device(
        hardware.device, hardware.timeout_seconds, hardware.allow_fallback, job=job, fault=fault
    )


def pretrain_encoder(
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    device_plan: dict[str, Any],
    encoder: EncoderParams,
    objective: ObjectiveParams,
    trainer: TrainerParams,
    window: WindowParams,
    evaluation: EvaluationParams,
    supervision: SupervisionParams,
    fault: str | None,
    run_version: str,
) -> tuple[Any, types.DataFrame, str]:
    """Pretrain the encoder on the training subjects, if what follows can be done as asked.

    Returns
    -------
    checkpoint : Checkpoint
        The weights of the best validation epoch with their provenance.
    history : DataFrame
        One row per epoch.
    incidents : str
        JSON lines, one per incident; empty without any.
    """
    from hbn_foundation.evaluation.preflight import check_before_training
    from hbn_foundation.training.supervised import pretrain_supervised

    check_before_training(
        signal_store,
        windows,
        splits,
        participants,
        encoder,
        objective,
        evaluation,
        window=window,
    )
    return pretrain_supervised(
        signal_store,
        windows,
        splits,
        participants,
        encoder,
        objective,
        trainer,
        device_plan,
        Path(trainer.work_dir),
        window=window,
        run_id=run_version,
        supervision=supervision,
        fault=fault,
    )


def evaluate_encoder(
    foundation_checkpoint: Any,
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    evaluation: EvaluationParams,
) -> tuple[dict[str, Any], types.DataFrame, types.DataFrame, types.DataFrame]:
    """Score the pretext and a frozen probe on held-out subjects, baselines beside them.

    Returns
    -------
    metrics : dict
        Everything that is a number.
    scores : DataFrame
        One row per method, baselines included.
    predictions : DataFrame
        The probe's probability for each test window.
    embedding : DataFrame
        Two coordinates per window for the embedding map.
    """
    from hbn_foundation.evaluation.foundation import evaluate_foundation
    from hbn_foundation.evaluation.identity import with_identity

    result = evaluate_foundation(
        foundation_checkpoint, signal_store, windows, splits, participants, evaluation
    )
    metrics = with_identity(result.metrics, foundation_checkpoint)
    return metrics, result.scores, result.predictions, result.embedding


def cross_validate_encoder(
    signal_store: types.SignalStore,
    windows: types.DataFrame,
    participants: types.DataFrame,
    device_plan: dict[str, Any],
    encoder: EncoderParams,
    objective: ObjectiveParams,
    trainer: TrainerParams,
    window: WindowParams,
    evaluation: EvaluationParams,
    supervision: SupervisionParams,
) -> tuple[types.DataFrame, types.DataFrame]:
    """Repeat pretraining and probe over subject splits, where the configuration asks for it.

    Returns
    -------
    folds : DataFrame
        One row per fold and method; empty without repeats.
    summary : DataFrame
        One row per method: mean, standard deviation, folds won, p value.
    """
    from hbn_foundation.evaluation.cross_validation import cross_validate, summarise_folds
    from hbn_foundation.evaluation.preflight import check_before_training

    if evaluation.repeats is not None:
        check_before_training(
            signal_store,
            windows,
            None,
            participants,
            encoder,
            objective,
            evaluation,
            window=window,
        )
    folds = cross_validate(
        signal_store,
        windows,
        participants,
        encoder,
        objective,
        trainer,
        evaluation,
        Path(trainer.work_dir) / "folds",
        window=window,
        device_plan=device_plan,
        supervision=supervision,
    )
    return folds, summarise_folds(folds)


def draw_figures(
    foundation_history: types.DataFrame,
    foundation_scores: types.DataFrame,
    foundation_predictions: types.DataFrame,
    foundation_embedding: types.DataFrame,
    foundation_folds: types.DataFrame,
) -> tuple[Any, Any, Any, Any]:
    """Draw training curves, scores, confusion matrix and embedding map."""
    from hbn_foundation.evaluation.figures import foundation_figures

    figures = foundation_figures(
        foundation_history,
        foundation_scores,
        foundation_predictions,
        foundation_embedding,
        foundation_folds,
    )
    return (
        figures["training_curves"],
        figures["scores"],
        figures["confusion_matrix"],
        figures["embedding"],
    )


def report(
    foundation_checkpoint: Any,
    foundation_history: types.DataFrame,
    foundation_metrics: dict[str, Any],
    foundation_scores: types.DataFrame,
    foundation_fold_summary: types.DataFrame,
) -> tuple[types.DataFrame, str]:
    """Print the scores with their baselines and the criteria, met or not met.

    Returns
    -------
    criteria : DataFrame
        One row per criterion: value, threshold, verdict.
    text : str
        What was printed.
    """
    from hbn_foundation.evaluation.criteria import criteria_table
    from hbn_foundation.evaluation.identity import check_identity
    from hbn_foundation.evaluation.report import report_text, show

    check_identity(foundation_metrics, foundation_checkpoint)
    criteria = criteria_table(foundation_history, foundation_metrics, foundation_checkpoint)
    text = report_text(foundation_metrics, foundation_scores, foundation_fold_summary, criteria)
    show(text)
    return criteria, text
