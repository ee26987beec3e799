"""Nodes of the challenges beside those of fine-tuning: each hands its work to a room below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.evaluation.params import FromScratchParams
from hbn_foundation.evaluation.recipes import (
    Challenge1Recipe,
    Challenge2Recipe,
    ChallengeRecipe,
    FoundationRecipe,
)
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.pipelines import types
from hbn_foundation.pipelines.finetuning.nodes import preview, window_seconds


def prepare_trials(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    trials: types.DataFrame,
    recipe: Challenge1Recipe,
    foundation: FoundationRecipe,
) -> tuple[types.EEGDataset, Any]:
    """Cut a window per trial, stop when something does not fit, draw the learning rates.

    Returns
    -------
    dataset : EEGDataset
        With one window per trial.
    lr_preview : Figure
        The rates over the run, for the plan's default course.
    """
    from hbn_foundation.signals.label_windows import windows_of_trials

    windows = windows_of_trials(
        recipe.label, dataset.store, trials, recipe.windows, window_seconds(foundation_checkpoint)
    )
    return _checked(foundation_checkpoint, dataset, windows, recipe, foundation)


def prepare_crops(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: Challenge2Recipe,
    foundation: FoundationRecipe,
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
    return _checked(foundation_checkpoint, dataset, windows, recipe, foundation)


def train_from_scratch(
    foundation_checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: ChallengeRecipe,
    device_plan: dict[str, Any],
    from_scratch: FromScratchParams,
    run_version: str,
) -> types.DataFrame:
    """Train the same model from random weights, and predict the test windows.

    Returns
    -------
    scratch_predictions : DataFrame
        As of the fine-tuned model; empty where it is not wanted, or trained in folds.
    """
    from hbn_foundation.evaluation.scratch import scratch_predictions

    wanted = from_scratch.train and recipe.evaluation.repeats is None
    return scratch_predictions(
        foundation_checkpoint, dataset, recipe, device_plan, wanted, run_version
    )


def cross_validate(
    all_windows: types.EEGDataset,
    dataset: types.EEGDataset,
    foundation: FoundationRecipe,
    recipe: ChallengeRecipe,
    device_plan: dict[str, Any],
    from_scratch: FromScratchParams,
    experiments: ExperimentParams,
) -> tuple[types.DataFrame, dict[str, Any]]:
    """Repeat pretraining and fine-tuning over subject splits, where the configuration asks for it.

    Returns
    -------
    fold_answers : DataFrame
        What all methods predict for the test windows of each fold; empty without repeats.
    fold_sample : dict
        How many windows the folds have.
    """
    from hbn_foundation.experiments.learning_curve import cross_validate_challenge

    return cross_validate_challenge(
        all_windows, dataset, foundation, recipe, from_scratch.train, device_plan, experiments
    )


def predict(checkpoint: Any, dataset: types.EEGDataset, recipe: ChallengeRecipe) -> types.DataFrame:
    """Predict the test windows."""
    from hbn_foundation.evaluation.tasks.challenges import challenge_of

    batch_size = recipe.trainer.batch_size
    return challenge_of(recipe.evaluation).predict(checkpoint, dataset, batch_size)


def _checked(
    checkpoint: Any,
    dataset: types.EEGDataset,
    windows: types.DataFrame,
    recipe: ChallengeRecipe,
    foundation: FoundationRecipe,
) -> tuple[types.EEGDataset, Any]:
    """Check that the test subjects can be scored and have chosen nothing; then as fine-tuning."""
    from hbn_foundation.evaluation.preflight import check_challenge
    from hbn_foundation.labels.checks import check_reported
    from hbn_foundation.labels.people import CHOSEN, seen_subjects

    subjects, datasets = dataset.splits["subject"], dataset.store.datasets
    chosen_on = seen_subjects(checkpoint.metadata, CHOSEN, subjects, datasets)
    check_reported(dataset.splits, dataset.participants, chosen_on)
    learned = dataset.replace(windows=windows)
    check_challenge(dataset, learned, recipe, foundation.evaluation.label)
    return learned, preview(checkpoint, learned, recipe)
