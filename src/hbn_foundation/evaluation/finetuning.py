"""Score what a fine-tuned model, or a baseline beside it, says of windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation import scores
from hbn_foundation.evaluation.metrics import classification_scores
from hbn_foundation.evaluation.regression_metrics import regression_scores
from hbn_foundation.evaluation.statistics import Part, Score, score_parts
from hbn_foundation.labels.targets import WindowTargets

PREDICTED = "predicted"
OF_CLASSES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "balanced_accuracy": scores.balanced_accuracy,
    "f1": scores.macro_f1,
    "accuracy": scores.accuracy,
}
OF_NUMBERS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "nrmse": scores.nrmse,
    "r": scores.pearson_r,
    "mae": scores.mae,
    "r2": scores.r2,
}
WINDOW_SCORES = {"window_auroc": scores.auroc, **OF_CLASSES, **OF_NUMBERS}


def main_score(is_regression: bool) -> str:
    """Name the score that intervals and comparisons are made of, as in `finetuning_metrics`."""
    return "nrmse" if is_regression else "window_auroc"


def score_windows(values: np.ndarray, predictions: np.ndarray, score: str) -> float:
    """Compute one of `WINDOW_SCORES` of numbers (N,) or log probabilities (N, K)."""
    answers = predictions
    if score in OF_CLASSES:
        answers = predictions.argmax(1)
    return WINDOW_SCORES[score](values, answers)


def main_score_of(
    values: np.ndarray,
    predictions: np.ndarray,
    subjects: np.ndarray,
    is_regression: bool,
    bootstraps: int,
    seed: int = 0,
) -> Score:
    """Compute the main score with its interval over subjects; parameters as `finetuning_metrics`.

    `bootstraps` and `seed` are how many resamples of whole subjects are drawn, and which ones.
    """
    known = known_values(values, is_regression)
    values, predictions = values[known], predictions[known]
    main = main_score(is_regression)

    def score(chosen: np.ndarray) -> dict[str, float]:
        return {main: score_windows(values[chosen], predictions[chosen], main)}

    without = "have one value only" if is_regression else "hold one class only"
    return score_parts([Part(subjects[known], score)], bootstraps, seed, without)[main]


def known_values(values: np.ndarray, is_regression: bool) -> np.ndarray:
    """Tell which windows (N,) have a class or a number."""
    known: np.ndarray = ~np.isnan(values) if is_regression else values >= 0
    return known


def finetuning_metrics(
    values: np.ndarray,
    predictions: np.ndarray,
    recordings: np.ndarray,
    subjects: np.ndarray,
    is_regression: bool,
) -> dict[str, Any]:
    """Score predictions of windows, per window and per recording.

    Parameters
    ----------
    values
        Class or number of each window (N,); windows without one are left out.
    predictions
        Log probabilities (N, K), or numbers (N,) in the unit of the values.
    recordings, subjects
        Of each window (N,).
    is_regression
        Whether the values are numbers.

    Returns
    -------
    dict
        As `classification_scores` or `regression_scores`; `n_windows`, `n_recordings`,
        `n_subjects`.
    """
    known = known_values(values, is_regression)
    values, predictions = values[known], predictions[known]
    recordings, subjects = recordings[known], subjects[known]
    measure = regression_scores if is_regression else classification_scores
    return {
        **measure(values, predictions, recordings),
        "n_windows": len(values),
        "n_recordings": len(np.unique(recordings.astype(str))),
        "n_subjects": len(np.unique(subjects.astype(str))),
    }


def predictions_table(
    windows: pd.DataFrame, targets: WindowTargets, predictions: np.ndarray
) -> pd.DataFrame:
    """Put predictions beside the truth, one row per window whose truth is known.

    Parameters
    ----------
    windows
        `recording`, `subject`, `task`, `start` (N rows), `trial` where they have one.
    targets
        Of the same windows.
    predictions
        Log probabilities (N, K), or numbers (N,).

    Returns
    -------
    pandas.DataFrame
        With `label`, `predicted` and `p(<class>)` of each class as names and shares; or with
        `value` and `predicted` as numbers.
    """
    known = targets.known
    identity = ["recording", "subject", "task", "start", *(["trial"] if "trial" in windows else [])]
    table = windows.loc[known, identity].reset_index(drop=True)
    values, answers = targets.values[known], predictions[known]
    if targets.is_regression:
        return table.assign(value=values, **{PREDICTED: answers})
    names = np.array(targets.names, dtype=object)
    shares = np.exp(answers - answers.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    table = table.assign(label=names[values], **{PREDICTED: names[answers.argmax(1)]})
    return table.assign(**{f"p({name})": shares[:, k] for k, name in enumerate(targets.names)})
