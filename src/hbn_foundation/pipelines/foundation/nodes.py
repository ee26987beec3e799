"""Nodes of the foundation pipeline: each hands its work to one function of a room below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hbn_foundation.evaluation.recipes import FoundationRecipe
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.pipelines import types
from hbn_foundation.progress import say
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.params import WindowParams


def check_data(
    recordings: types.DataFrame,
    events: types.DataFrame,
    splits: types.DataFrame,
    participants: types.DataFrame,
    recipe: FoundationRecipe,
    window: WindowParams,
    cleaning: CleaningParams,
) -> dict[str, int]:
    """Stop before any signal is cleaned when label, disk or device do not allow the training.

    Returns
    -------
    dict
        How many subjects are labelled, by split.
    """
    from hbn_foundation.evaluation.preflight import check_before_cleaning
    from hbn_foundation.labels.events import label_events

    label = recipe.evaluation.label
    return check_before_cleaning(
        label_events(events, label) if label.kind == "event" else recordings,
        splits,
        participants,
        recipe,
        window=window,
        sfreq=cleaning.sfreq,
    )


def choose_device(dataset: types.EEGDataset, recipe: FoundationRecipe) -> dict[str, Any]:
    """Try the accelerator in a fresh process; plan for the CPU where it does not answer.

    The dataset gives the shape of a batch; no signal is read.
    """
    from hbn_foundation.training import device
    from hbn_foundation.training.params import UNTRAINED

    job = device.ProbeJob(
        encoder=recipe.encoder,
        objective=recipe.objective,
        trainer=recipe.trainer,
        n_channels=len(dataset.store.channel_names),
        sfreq=dataset.sfreq,
        n_samples=dataset.n_samples,
    )
    hardware = recipe.hardware
    if recipe.objective.name == UNTRAINED:
        hardware = hardware.model_copy(update={"device": "cpu"})
    return device.choose_device(hardware, job, recipe.fault)


def pretrain_encoder(
    dataset: types.EEGDataset,
    recipe: FoundationRecipe,
    device_plan: dict[str, Any],
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
    from hbn_foundation.training.pretrain import PretrainingJob

    check_before_training(dataset, recipe)
    work_dir = Path(recipe.trainer.work_dir)
    job = PretrainingJob(dataset, recipe, device_plan)
    return job.supervise(work_dir, run_id=run_version)


def evaluate_encoder(
    foundation_checkpoint: Any, dataset: types.EEGDataset, recipe: FoundationRecipe
) -> tuple[dict[str, Any], types.DataFrame, types.DataFrame, types.DataFrame]:
    """Score the pretext and a frozen probe on held-out subjects, baselines beside them.

    Returns
    -------
    metrics : dict
        What the scores are of, and how they came about.
    scores : DataFrame
        A row per metric and method, baselines included.
    predictions : DataFrame
        The probe's probability for each test window.
    embedding : DataFrame
        Two coordinates per window for the embedding map.
    """
    from hbn_foundation.evaluation.embedding import embedding_map
    from hbn_foundation.evaluation.tasks.foundation import evaluate_foundation
    from hbn_foundation.training.origin import differences

    for line in differences(foundation_checkpoint, dataset):
        say(f"checkpoint: {line}")
    found = evaluate_foundation(foundation_checkpoint, dataset, recipe.evaluation)
    embedding = embedding_map(foundation_checkpoint, dataset, recipe.evaluation)
    return found.metrics, found.scores, found.predictions, embedding


def cross_validate_encoder(
    dataset: types.EEGDataset,
    recipe: FoundationRecipe,
    device_plan: dict[str, Any],
    experiments: ExperimentParams,
) -> tuple[types.DataFrame, types.DataFrame]:
    """Repeat pretraining and probe over subject splits, where the configuration asks for it.

    Returns
    -------
    folds : DataFrame
        One row per fold and method; empty without repeats.
    summary : DataFrame
        One row per method: mean, standard deviation, folds won, p value.
    """
    from hbn_foundation.evaluation.folds import summarise_folds
    from hbn_foundation.evaluation.preflight import check_before_training
    from hbn_foundation.experiments.folds import cross_validate

    if recipe.evaluation.repeats is not None:
        check_before_training(dataset, recipe, own_splits=False)
    work_dir = Path(recipe.trainer.work_dir) / "folds"
    folds = cross_validate(
        dataset, recipe, recipe.evaluation, work_dir, device_plan=device_plan,
        experiments=experiments,
    )  # fmt: skip
    return folds, summarise_folds(folds)


def draw_figures(
    foundation_history: types.DataFrame,
    foundation_scores: types.DataFrame,
    foundation_predictions: types.DataFrame,
    foundation_embedding: types.DataFrame,
    foundation_folds: types.DataFrame,
) -> tuple[Any, Any, Any, Any]:
    """Draw training curves, scores, confusion matrix and embedding map."""
    from hbn_foundation.evaluation.figures.embedding import embedding_figure
    from hbn_foundation.evaluation.figures.predictions import predictions_figure
    from hbn_foundation.evaluation.figures.training import pretraining_figure
    from hbn_foundation.evaluation.report.foundation import probe_figure

    return (
        pretraining_figure(foundation_history),
        probe_figure(foundation_scores, foundation_folds),
        predictions_figure(foundation_predictions, "Predictions of the frozen probe"),
        embedding_figure(foundation_embedding),
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
    from hbn_foundation.evaluation.report.criteria import foundation_criteria
    from hbn_foundation.evaluation.report.foundation import foundation_report
    from hbn_foundation.evaluation.report.render import render_text, show

    criteria = foundation_criteria(foundation_history, foundation_metrics, foundation_checkpoint)
    declared = foundation_report(
        foundation_metrics, foundation_scores, foundation_fold_summary, criteria
    )
    return criteria, show(render_text(declared))
