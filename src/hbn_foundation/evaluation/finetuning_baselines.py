"""What a fine-tuned model must beat, fitted and chosen on the same subjects and windows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.baselines import SCALED_PER_FEATURE, classical_features
from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.evaluation.params import FineTuningEvaluationParams
from hbn_foundation.labels.params import SPLITS
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.progress import track
from hbn_foundation.signals.windows import subsample
from hbn_foundation.training.linear_probe import (
    Scaling,
    fit_probe,
    fit_ridge,
    majority_log_probabilities,
)

if TYPE_CHECKING:
    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.store import SignalStore

OF_ENCODER = ("frozen_probe", "encoder_input")


class BaselineAnswer(NamedTuple):
    """What a baseline says of the test windows.

    Attributes
    ----------
    predictions
        Log probabilities (N, K), or numbers (N,), of the test windows in the order asked for.
    n_features
        Numbers that the method is fitted on; 0 for the majority or mean.
    seconds
        For the fit; measuring the windows, which methods share, not counted.
    validation
        Score of the validation windows at the strength they chose: AUROC or NRMSE.
    """

    predictions: np.ndarray
    n_features: int
    seconds: float
    validation: float


def chosen_windows(
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    targets: WindowTargets,
    max_windows: int,
    seed: int = 0,
) -> np.ndarray:
    """Places (n,) of the windows that baselines use: known, in a split, thinned but for test.

    Test windows are kept whole, so that every method is scored on the same ones.
    """
    split = windows["subject"].map(splits.set_index("subject")["split"]).to_numpy(dtype=object)
    parts = []
    for number, name in enumerate(SPLITS):
        places = np.flatnonzero((split == name) & targets.known)
        if name != "test":
            places = places[subsample(len(places), max_windows, seed + number)]
        parts.append(places)
    return np.concatenate(parts)


def baseline_answers(
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    targets: WindowTargets,
    params: FineTuningEvaluationParams,
    n_samples: int,
    encoder: Encoder | None = None,
) -> tuple[np.ndarray, dict[str, BaselineAnswer]]:
    """Fit all baselines on the training windows, choose strengths, answer the test windows.

    Parameters
    ----------
    store, windows
        The signals, and where the windows are.
    splits
        `subject` and `split`.
    targets
        Of the windows.
    params
        Which baselines, and how.
    n_samples
        Length of a window.
    encoder
        The pretrained encoder; without one its frozen probe and its input are left out.

    Returns
    -------
    test : numpy.ndarray
        Places (n,) of the answered windows in `windows`.
    answers : dict
        By method.

    Raises
    ------
    UserError
        When a split has no window with a known label.
    """
    chosen = chosen_windows(windows, splits, targets, params.max_windows, params.seed)
    table = windows.iloc[chosen].reset_index(drop=True)
    parts = table["subject"].map(splits.set_index("subject")["split"]).to_numpy(dtype=str)
    for name in SPLITS:
        if name not in parts:
            raise UserError(f"labels: no window of the {name} subjects has a known label")
    features = _features(store, table, parts == "train", params, n_samples, encoder)
    methods = [m for m in params.baselines if m == "majority" or m in features]
    values = targets.values[chosen]
    answers: dict[str, BaselineAnswer] = {}
    for method in track(methods, "baselines"):
        answers[method] = _answer(
            method, features.get(method), values, parts, targets, params.strengths,
            table["subject"].to_numpy(dtype=str),
        )  # fmt: skip
    return chosen[parts == "test"], answers


def _features(
    store: SignalStore,
    table: pd.DataFrame,
    train: np.ndarray,
    params: FineTuningEvaluationParams,
    n_samples: int,
    encoder: Encoder | None,
) -> dict[str, np.ndarray]:
    features = classical_features(params.baselines, store, table, train, n_samples, params)
    if encoder is not None and set(OF_ENCODER) & set(params.baselines):
        of_encoder = encoder_features(
            {"frozen_probe": encoder}, store, table, params.batch_size, input_of="frozen_probe"
        )
        features |= {name: of_encoder[name] for name in OF_ENCODER if name in params.baselines}
    return features


def _answer(
    method: str,
    features: np.ndarray | None,
    values: np.ndarray,
    parts: np.ndarray,
    targets: WindowTargets,
    strengths: tuple[float, ...],
    subjects: np.ndarray,
) -> BaselineAnswer:
    """Fit one method and answer the test windows."""
    start = time.perf_counter()
    train, test = parts == "train", parts == "test"
    scaling: Scaling = "feature" if method in SCALED_PER_FEATURE else "global"
    validation = np.nan
    if features is None:
        if targets.is_regression:
            predictions = np.full(int(test.sum()), targets.mean)
        else:
            predictions = majority_log_probabilities(
                values[train], targets.n_outputs, int(test.sum())
            )
    elif targets.is_regression:
        ridge = fit_ridge(features, values, parts, strengths, scaling, subjects)
        predictions, validation = ridge.predict(features[test]), ridge.validation_nrmse
    else:
        probe = fit_probe(features, values, parts, targets.n_outputs, strengths, scaling)
        predictions, validation = probe.log_probabilities(features[test]), probe.validation_auroc
    n_features = 0 if features is None else features.shape[1]
    return BaselineAnswer(predictions, n_features, time.perf_counter() - start, validation)
