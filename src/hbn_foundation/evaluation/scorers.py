"""The scores that evaluations report: function, direction, name and digits of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hbn_foundation import scores

AHEAD = "_ahead"
#: What a metric is taken over stands before its scorer's name, as in `recording_auroc`.
ITEMS = {"window": "windows", "recording": "recordings", "subject": "subjects"}


class Scorer(NamedTuple):
    """A score.

    Its function takes true values (N,) and predictions: numbers (N,), or log probabilities (N, K)
    of classes; some take a third array.
    """

    name: str  # in tables
    display_name: str  # for readers
    function: Callable[..., float]
    greater_is_better: bool = True
    digits: int = 3  # after the point


def _of_answers(score: Callable[..., float]) -> Callable[..., float]:
    """Score the likeliest class."""
    return lambda labels, log_probabilities: score(labels, log_probabilities.argmax(1))


def within_r(values: np.ndarray, predicted: np.ndarray, subjects: np.ndarray) -> float:
    """Pearson's correlation inside subjects, averaged by Fisher's z."""
    return scores.mean_r(*scores.group_fisher_z(values, predicted, subjects))


SCORERS = {
    one.name: one
    for one in (
        Scorer("auroc", "AUROC", scores.auroc),
        Scorer(scores.WITHIN, "AUROC within subjects", scores.within_auroc),
        Scorer("balanced_accuracy", "balanced accuracy", _of_answers(scores.balanced_accuracy)),
        Scorer("f1", "F1", _of_answers(scores.macro_f1)),
        Scorer("accuracy", "accuracy", _of_answers(scores.accuracy)),
        Scorer("nrmse", "NRMSE", scores.nrmse, greater_is_better=False),
        Scorer("mae", "MAE", scores.mae, greater_is_better=False),
        Scorer("r", "r", scores.pearson_r, digits=2),
        Scorer("r2", "R²", scores.r2, digits=2),
        Scorer("within_r", "r inside subjects", within_r, digits=2),
        Scorer("partial_r", "r given age, sex", scores.partial_r, digits=2),
        Scorer("calibration_slope", "slope", scores.calibration_slope, digits=2),
    )
}
OF_CLASSES = ("auroc", "balanced_accuracy", "f1", "accuracy")
OF_NUMBERS = ("nrmse", "r", "mae", "r2")


def scorer_of(metric: str) -> Scorer:
    """Look up the scorer of a metric such as `recording_auroc` or `window_nrmse_ahead`."""
    return SCORERS[_split(metric)[1]]


def display_metric(metric: str) -> str:
    """Name a metric for readers: `window_nrmse` is "NRMSE of windows"."""
    items, name = _split(metric)
    return SCORERS[name].display_name + (f" of {ITEMS[items]}" if items else "")


def _split(metric: str) -> tuple[str, str]:
    name = metric.removesuffix(AHEAD)
    items = name.partition("_")[0]
    return (items, name.removeprefix(f"{items}_")) if items in ITEMS else ("", name)
