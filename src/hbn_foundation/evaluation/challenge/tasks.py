"""Evaluate and report a checkpoint of either task: from data and checkpoint to scores and page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.challenge.checkpoints import checkpoint_maps, unlearned
from hbn_foundation.evaluation.challenge.factor_report import (
    factor_figures,
    factor_page,
    factor_text,
)
from hbn_foundation.evaluation.challenge.factors import FactorScores, evaluate_factors
from hbn_foundation.evaluation.challenge.features import RANDOM, Unlearned
from hbn_foundation.evaluation.challenge.params import (
    ChallengeEvaluationParams,
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.challenge.response_time import (
    REFERENCES,
    ResponseTimeScores,
    evaluate_response_times,
)
from hbn_foundation.evaluation.challenge.response_time_report import (
    response_time_figures,
    response_time_page,
    response_time_text,
)
from hbn_foundation.evaluation.challenge.subjects import people_of, predicted_factors
from hbn_foundation.evaluation.challenge_predictions import learned_columns, test_windows
from hbn_foundation.evaluation.finetuned import FINE_TUNED
from hbn_foundation.evaluation.finetuning_comparison import SCRATCH
from hbn_foundation.labels.participants import factor_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint


class Report(NamedTuple):
    """What a reader is given.

    Attributes
    ----------
    page
        HTML with all figures inside it.
    text
        The scores and aims in plain text.
    figures
        By name.
    """

    page: str
    text: str
    figures: dict[str, Figure]


def evaluate_response_time_model(
    checkpoint: Checkpoint,
    predictions: pd.DataFrame,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    params: ResponseTimeEvaluationParams,
    scratch: pd.DataFrame | None = None,
) -> ResponseTimeScores:
    """Score the predictions of a model of response times beside baselines on the same windows.

    Parameters
    ----------
    checkpoint
        The model.
    predictions
        What it says of the test windows, see `predict_response_times`.
    store, windows, splits, participants
        The data; windows as `cut_trial_windows` gives them.
    params
        Which baselines.
    scratch
        Predictions of the same model trained from random weights; empty or None without one.

    Returns
    -------
    ResponseTimeScores

    Raises
    ------
    UserError
        When the model has seen a test subject, or see `evaluate_response_times`.
    """
    test_windows(checkpoint, windows, splits)
    return evaluate_response_times(
        predictions, store, windows, splits, factor_table(participants), params,
        checkpoint.metadata["n_samples"], _unlearned(checkpoint, params), _others(params, scratch),
    )  # fmt: skip


def evaluate_factor_model(
    checkpoint: Checkpoint,
    predictions: pd.DataFrame,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    params: FactorEvaluationParams,
    scratch: pd.DataFrame | None = None,
) -> FactorScores:
    """Score the predictions of a model of factors beside baselines on the same windows.

    Parameters
    ----------
    checkpoint
        The model.
    predictions
        What it says of the test windows, see `predict_numbers`.
    store, windows, splits, participants
        The data.
    params
        Which baselines, and how windows become one prediction per subject.
    scratch
        Predictions of the same model trained from random weights; empty or None without one.

    Returns
    -------
    FactorScores

    Raises
    ------
    UserError
        When the model has seen a test subject, or see `evaluate_factors`.
    """
    test_windows(checkpoint, windows, splits)
    factors = predicted_factors(predictions)
    return evaluate_factors(
        predictions, store, windows, splits, people_of(participants, factors), factors, params,
        checkpoint.metadata["n_samples"], _unlearned(checkpoint, params), _others(params, scratch),
    )  # fmt: skip


def report_response_times(
    checkpoint: Checkpoint,
    predictions: pd.DataFrame,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    scores: pd.DataFrame,
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    params: ResponseTimeEvaluationParams,
) -> Report:
    """Draw and write the report on a model of response times.

    Parameters
    ----------
    checkpoint, predictions, store, windows, splits, params
        As for `evaluate_response_time_model`.
    scores, metrics
        What that returned.
    history
        One row per epoch of the training.
    """
    test = test_windows(checkpoint, windows, splits)
    maps = checkpoint_maps(checkpoint, store, test, factor=1000.0, seed=params.seed)
    curve = _learning_curve(params)
    figures = response_time_figures(predictions, store, history, maps, curve)
    page = response_time_page(scores, metrics, figures, about(checkpoint))
    return Report(page, response_time_text(scores, metrics), figures)


def report_factors(
    checkpoint: Checkpoint,
    predictions: pd.DataFrame,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    scores: pd.DataFrame,
    metrics: Mapping[str, Any],
    subjects: pd.DataFrame,
    history: pd.DataFrame,
    params: FactorEvaluationParams,
) -> Report:
    """Draw and write the report on a model of factors.

    Parameters
    ----------
    checkpoint, predictions, store, windows, splits, params
        As for `evaluate_factor_model`.
    scores, metrics, subjects
        What that returned.
    history
        One row per epoch of the training.
    """
    test = test_windows(checkpoint, windows, splits)
    factors = predicted_factors(predictions)
    target_of = {column: name for name, column in learned_columns(checkpoint.metadata).items()}
    targets = tuple(target_of[factor] for factor in factors)
    maps = checkpoint_maps(checkpoint, store, test, targets, seed=params.seed)
    figures = factor_figures(subjects, factors, store, history, maps, _learning_curve(params))
    page = factor_page(scores, metrics, figures, about(checkpoint))
    return Report(page, factor_text(scores, metrics), figures)


def about(checkpoint: Checkpoint) -> str:
    """Say in a sentence which model it is."""
    metadata = checkpoint.metadata
    n_subjects = len(metadata.get("training_subjects") or ())
    epoch = metadata.get("best_epoch")
    parts = [f"Model of run {metadata.get('run_id', 'unknown')}, fine-tuned on {n_subjects} "
             "subjects"]  # fmt: skip
    if epoch is not None:
        parts.append(f"best epoch {int(epoch)}")
    return ", ".join(parts) + "."


def _unlearned(
    checkpoint: Checkpoint, params: ResponseTimeEvaluationParams | FactorEvaluationParams
) -> Unlearned | None:
    return unlearned(checkpoint, params.seed) if RANDOM in params.baselines else None


def _others(
    params: ResponseTimeEvaluationParams | FactorEvaluationParams, scratch: pd.DataFrame | None
) -> dict[str, pd.DataFrame]:
    found = {} if scratch is None or scratch.empty else {SCRATCH: scratch}
    for name, path in params.others.items():
        if name in {FINE_TUNED, *found, *REFERENCES, *params.baselines}:
            raise UserError(
                f"evaluation.others.{name}: the table has a method of that name; expected another"
            )
        if not Path(path).is_file():
            raise UserError(f"evaluation.others.{name}={path}: no such file")
        found[name] = pd.read_parquet(path)
    return found


def _learning_curve(params: ChallengeEvaluationParams) -> pd.DataFrame | None:
    if params.learning_curve is None:
        return None
    if not Path(params.learning_curve).is_file():
        raise UserError(f"evaluation.learning_curve={params.learning_curve}: no such file")
    table = pd.read_csv(params.learning_curve)
    missing = [name for name in ("method", "share", "n_subjects", "seed") if name not in table]
    if missing:
        raise UserError(
            f"{params.learning_curve}: no column {missing[0]}; expected method, share, "
            "n_subjects, seed and scores"
        )
    return table
