"""What fine-tuned models predict for the test windows of both challenges, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.features import FrozenEncoders
from hbn_foundation.evaluation.methods import RANDOM
from hbn_foundation.labels.checks import check_disjoint, check_never_seen
from hbn_foundation.models.config import MAIN

if TYPE_CHECKING:
    from hbn_foundation.evaluation.params import (
        FactorEvaluationParams,
        ResponseTimeEvaluationParams,
    )
    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.finetuned import Predictions

IDENTITY = ("recording", "subject", "task", "run", "start")
SUCCESS = "correct"
RIGHT = "1"


def test_windows(checkpoint: Checkpoint, dataset: EEGDataset) -> pd.DataFrame:
    """Return the windows of the test subjects, whom the model has never seen.

    Raises
    ------
    UserError
        When a subject is in two splits, the model was trained or its epoch chosen on a test
        subject, or no test subject has a window.
    """
    windows, splits = dataset.windows, dataset.splits
    check_disjoint(splits)
    tested = splits.loc[splits["split"] == "test", "subject"].astype(str)
    check_never_seen(checkpoint.metadata, tested, datasets=dataset.store.datasets)
    chosen = windows[windows["subject"].astype(str).isin(tested)].reset_index(drop=True)
    if chosen.empty:
        raise UserError(f"splits: none of the {len(tested)} test subjects has a window")
    return chosen


def encoders_beside(
    checkpoint: Checkpoint, params: ResponseTimeEvaluationParams | FactorEvaluationParams
) -> FrozenEncoders | None:
    """Make an encoder like the checkpoint's with random weights, its input and scales kept.

    None where the baselines need none.
    """
    from hbn_foundation.training.checkpoint import random_encoder
    from hbn_foundation.training.finetuned import load_finetuned

    if RANDOM not in params.baselines:
        return None
    encoders: dict[str, Encoder] = {RANDOM: random_encoder(checkpoint, params.seed)}
    return FrozenEncoders(encoders, load_finetuned(checkpoint).input)


def predict_response_times(
    checkpoint: Checkpoint, dataset: EEGDataset, batch_size: int = 256
) -> pd.DataFrame:
    """Predict response time and success of the test trials.

    Parameters
    ----------
    checkpoint
        Fine-tuned for `rt`.
    dataset
        With windows as `cut_trial_windows` gives them.
    batch_size
        Windows at once.

    Returns
    -------
    pandas.DataFrame
        One row per test window: `recording`, `subject`, `task`, `run`, `start`, `trial`, `rt`,
        `predicted_rt` (s, within the window for a distribution), `correct`, `p_correct` (NaN
        where success is not among the targets), `density_00`, `density_01` … the shares of the
        bins of time, for a distribution.
    """
    test, predicted = _predict(checkpoint, dataset, batch_size)
    table = test[[*IDENTITY, "trial", "rt"]].assign(
        predicted_rt=predicted.answers[MAIN],
        correct=test["correct"],
        p_correct=_p_correct(checkpoint.metadata, predicted, dataset.windows),
    )
    shares = predicted.shares.get(MAIN)
    if shares is None:
        return table
    names = [f"density_{number:02d}" for number in range(shares.shape[1])]
    return pd.concat([table, pd.DataFrame(shares, columns=names)], axis=1)


def predict_numbers(
    checkpoint: Checkpoint, dataset: EEGDataset, batch_size: int = 256
) -> pd.DataFrame:
    """Predict all numbers that a model has learned, as the factors, of the test windows.

    Arguments are as for `predict_response_times`; the windows have a column for each number. One
    row per test window: `recording`, `subject`, `task`, `run`, `start`, then each number and
    `predicted_<number>`.
    """
    test, predicted = _predict(checkpoint, dataset, batch_size)
    labels = learned_columns(checkpoint.metadata)
    numbers = {name: column for name, column in labels.items() if predicted.answers[name].ndim == 1}
    known = test.reindex(columns=[*IDENTITY, *numbers.values()])
    said = {f"predicted_{column}": predicted.answers[name] for name, column in numbers.items()}
    return known.assign(**said)


def _predict(
    checkpoint: Checkpoint, dataset: EEGDataset, batch_size: int
) -> tuple[pd.DataFrame, Predictions]:
    from hbn_foundation.training.finetuned import predict_targets

    test = test_windows(checkpoint, dataset)
    return test, predict_targets(checkpoint, dataset.store, test, batch_size)


def learned_columns(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Name the column of each target of a checkpoint."""
    parameters = metadata["parameters"]
    labels = {MAIN: parameters["label"]} | {
        name: parameters["more_targets"][name]["label"] for name in metadata["more_targets"]
    }
    return {name: label["column"] or label["kind"] for name, label in labels.items()}


def _p_correct(
    metadata: Mapping[str, Any], predicted: Predictions, windows: pd.DataFrame
) -> np.ndarray | float:
    """Probability (N,) of a correct answer; NaN where success is not among the targets.

    A model that was trained with weights of classes takes all classes for equally frequent; its
    prediction is taken back to how frequent they are among the windows of its training subjects.
    """
    for name, column in learned_columns(metadata).items():
        names = (metadata["targets"] if name == MAIN else metadata["more_targets"][name])["names"]
        if column == SUCCESS and RIGHT in names:
            shares = np.exp(predicted.answers[name])
            if metadata["parameters"]["regularisation"]["class_weights"]:
                trained = set(map(str, metadata["training_subjects"]))
                training = windows[windows["subject"].astype(str).isin(trained)]
                shares = shares * _frequencies(training[SUCCESS], names)
            return shares[:, names.index(RIGHT)] / shares.sum(1)
    return np.nan


def _frequencies(values: pd.Series, names: Sequence[str]) -> np.ndarray:
    """Count each value (K,), numbers as they are written without a fraction; at least one."""
    written = values.dropna().map(
        lambda value: f"{value:g}" if isinstance(value, int | float) else str(value)
    )
    return np.array([max(int((written == name).sum()), 1) for name in names], dtype=float)
