"""Evaluate a checkpoint of either of the challenge's tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.challenge.checkpoints import unlearned
from hbn_foundation.evaluation.challenge.factors import FactorScores, evaluate_factors
from hbn_foundation.evaluation.challenge.features import RANDOM, Unlearned
from hbn_foundation.evaluation.challenge.params import (
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.challenge.response_time import (
    REFERENCES,
    ResponseTimeScores,
    evaluate_response_times,
)
from hbn_foundation.evaluation.challenge.subjects import people_of, predicted_factors
from hbn_foundation.evaluation.challenge_predictions import test_windows
from hbn_foundation.evaluation.finetuning_comparison import SCRATCH
from hbn_foundation.evaluation.methods import FINE_TUNED
from hbn_foundation.labels.participants import factor_table

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint


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
