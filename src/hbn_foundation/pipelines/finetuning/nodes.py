"""Nodes of the fine-tuning pipeline: each hands its work to one function of a room below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hbn_foundation.evaluation.recipes import FoundationRecipe, LabelRecipe
from hbn_foundation.pipelines import types
from hbn_foundation.progress import say
from hbn_foundation.training.recipes import FineTuningRecipe


def prepare_finetuning(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    trials: types.DataFrame,
    recipe: LabelRecipe,
) -> tuple[types.EEGDataset, Any]:
    """Take the windows of the label, stop when something does not fit, draw the learning rates.

    Returns
    -------
    finetuning_dataset : EEGDataset
        With the windows that the label is learned from: all there are, or those of the trials.
    lr_preview : Figure
        The rates over the run, for the plan's default course.
    """
    from hbn_foundation.signals.label_windows import windows_of_label
    from hbn_foundation.training.origin import check_label_windows

    check_label_windows(foundation_checkpoint, dataset, recipe.label)
    windows = windows_of_label(
        recipe.label, dataset, trials, recipe.trial_windows, window_seconds(foundation_checkpoint)
    )
    chosen = dataset.replace(windows=windows)
    return chosen, preview(foundation_checkpoint, chosen, recipe)


def window_seconds(checkpoint: Any) -> float:
    """Length of the windows that a checkpoint takes."""
    return float(checkpoint.metadata["n_samples"] / checkpoint.metadata["sfreq"])


def preview(checkpoint: Any, dataset: types.EEGDataset, recipe: FineTuningRecipe) -> Any:
    """Stop when something does not fit, before any training; draw the learning rates."""
    from hbn_foundation.evaluation.figures.training import learning_rate_figure
    from hbn_foundation.training.finetune import preview_finetuning
    from hbn_foundation.training.origin import differences

    for line in differences(checkpoint, dataset):
        say(f"checkpoint: {line}")
    return learning_rate_figure(preview_finetuning(checkpoint, dataset, recipe))


def choose_device(
    dataset: types.EEGDataset,
    foundation_checkpoint: Any,
    recipe: FineTuningRecipe,
    foundation: FoundationRecipe,
) -> dict[str, Any]:
    """Try the accelerator in a fresh process with the checkpoint's encoder; else plan the CPU."""
    from hbn_foundation.training import device
    from hbn_foundation.training.model_params import EncoderParams
    from hbn_foundation.training.params import TrainerParams

    metadata = foundation_checkpoint.metadata
    trainer, encoder = recipe.trainer, EncoderParams(**metadata["parameters"]["encoder"])
    of_labels = {"objective": {"name": "task_classification"}}  # what any encoder can be tried by
    job = device.ProbeJob(
        encoder=encoder if encoder.is_external else encoder.with_tokens(recipe.tokens),
        **(of_labels if encoder.is_external else {}),
        trainer=TrainerParams(batch_size=trainer.batch_size, precision=trainer.precision),
        n_channels=len(dataset.store.channel_names),
        sfreq=metadata["sfreq"],
        n_samples=metadata["n_samples"],
    )
    return device.choose_device(foundation.hardware, job, recipe.fault)


def finetune_encoder(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: FineTuningRecipe,
    device_plan: dict[str, Any],
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
    from hbn_foundation.training.finetune import FineTuningJob

    job = FineTuningJob(dataset, recipe, device_plan, foundation_checkpoint)
    return job.supervise(Path(recipe.trainer.work_dir), run_id=run_version)


def evaluate_finetuned(
    checkpoint: Any,
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: LabelRecipe,
) -> tuple[dict[str, Any], types.DataFrame, types.DataFrame]:
    """Score test subjects, the classical baselines beside them.

    Returns
    -------
    metrics : dict
        What the scores are of, and how they came about.
    scores : DataFrame
        A row per metric and method.
    predictions : DataFrame
        The model's answer for each test window.
    """
    from hbn_foundation.evaluation.tasks import labels

    return labels.evaluate_finetuned(checkpoint, foundation_checkpoint, dataset, recipe)


def draw_figures(
    history: types.DataFrame, predictions: types.DataFrame, recipe: LabelRecipe
) -> tuple[Any, Any, Any]:
    """Draw the training curves with their phases, what the model answers, and that over time."""
    from hbn_foundation.evaluation.figures.predictions import predictions_figure
    from hbn_foundation.evaluation.figures.timeline import timeline_figure
    from hbn_foundation.evaluation.figures.training import finetuning_figure

    timeline = timeline_figure(predictions, recipe.label.names)
    return finetuning_figure(history), predictions_figure(predictions), timeline


def report(
    scores: types.DataFrame, metrics: dict[str, Any], history: types.DataFrame, recipe: LabelRecipe
) -> str:
    """Print the phases of the training, and the scores with their baselines."""
    from hbn_foundation.evaluation.report.finetuning import finetuning_report
    from hbn_foundation.evaluation.report.render import render_text, show

    return show(render_text(finetuning_report(scores, metrics, history, recipe)))
