"""Nodes of the challenges beside those of fine-tuning: each hands its work to a room below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.evaluation.params import FromScratchParams
from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe
from hbn_foundation.pipelines import types
from hbn_foundation.pipelines.finetuning.nodes import preview, window_seconds
from hbn_foundation.training.recipes import FineTuningRecipe


def prepare_trials(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    trials: types.DataFrame,
    recipe: Challenge1Recipe,
) -> tuple[types.EEGDataset, Any]:
    """Cut a window per trial, stop when something does not fit, draw the learning rates.

    Returns
    -------
    dataset : EEGDataset
        With one window per trial.
    lr_preview : Figure
        The rates over the run, for the plan's default course.
    """
    from hbn_foundation.signals.windows import windows_of_trials

    windows = windows_of_trials(
        recipe.label, dataset.store, trials, recipe.windows, window_seconds(foundation_checkpoint)
    )
    return _checked(foundation_checkpoint, dataset.replace(windows=windows), recipe)


def prepare_crops(
    foundation_checkpoint: Any, dataset: types.EEGDataset, recipe: Challenge2Recipe
) -> tuple[types.EEGDataset, Any]:
    """Cut windows to take crops of, stop when something does not fit, draw the learning rates.

    Returns
    -------
    dataset : EEGDataset
        One row per window, with what is learned about its subject.
    lr_preview : Figure
        The rates over the run, for the plan's default course.
    """
    from hbn_foundation.signals.windows import cut_crop_windows

    labels = [recipe.label, *(one.label for one in recipe.more_targets.chosen.values())]
    windows = cut_crop_windows(
        dataset.store,
        dataset.participants,
        [str(one.column) for one in labels if one.kind == "participant"],
        recipe.windows,
        seconds=window_seconds(foundation_checkpoint),
        jitter=recipe.regularisation.in_use.jitter_seconds,
    )
    return _checked(foundation_checkpoint, dataset.replace(windows=windows), recipe)


def train_from_scratch(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: FineTuningRecipe,
    device_plan: dict[str, Any],
    from_scratch: FromScratchParams,
    run_version: str,
) -> types.DataFrame:
    """Train the same model from random weights, and predict the test windows.

    Returns
    -------
    scratch_predictions : DataFrame
        As of the fine-tuned model; empty where it is not wanted.
    """
    from hbn_foundation.evaluation.scratch import scratch_predictions

    return scratch_predictions(
        foundation_checkpoint, dataset, recipe, device_plan, from_scratch, run_version
    )


def predict_response_times(
    checkpoint: Any, dataset: types.EEGDataset, recipe: Challenge1Recipe
) -> types.DataFrame:
    """Predict response time and success of the test trials."""
    from hbn_foundation.evaluation import predictions

    return predictions.predict_response_times(checkpoint, dataset, recipe.trainer.batch_size)


def predict_factors(
    checkpoint: Any, dataset: types.EEGDataset, recipe: Challenge2Recipe
) -> types.DataFrame:
    """Predict the factors of the test windows."""
    from hbn_foundation.evaluation import predictions

    return predictions.predict_numbers(checkpoint, dataset, recipe.trainer.batch_size)


def _checked(
    checkpoint: Any, dataset: types.EEGDataset, recipe: FineTuningRecipe
) -> tuple[types.EEGDataset, Any]:
    """Check that no reported subject has chosen anything, then as any fine-tuning."""
    from hbn_foundation.labels.checks import check_reported

    seen = checkpoint.metadata["validation_subjects"]
    check_reported(dataset.splits, dataset.participants, seen)
    return dataset, preview(checkpoint, dataset, recipe)
