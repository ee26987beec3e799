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


def _within(score: Callable[..., float]) -> Callable[..., float]:
    """Score the items of each subject, and average over the subjects that have a score."""

    def within(labels: np.ndarray, predictions: np.ndarray, subjects: np.ndarray) -> float:
        each = scores.subject_scores(score, labels, predictions, subjects)[1]
        return float(np.nanmean(each)) if (~np.isnan(each)).any() else np.nan

    return within


SCORERS = {
    one.name: one
    for one in (
        Scorer("auroc", "AUROC", scores.auroc),
        Scorer(scores.WITHIN, "AUROC within subjects", scores.within_auroc),
        Scorer("balanced_accuracy", "balanced accuracy", _of_answers(scores.balanced_accuracy)),
        Scorer("f1", "F1", _of_answers(scores.macro_f1)),
        Scorer("accuracy", "accuracy", _of_answers(scores.accuracy)),
        Scorer("kappa", "Cohen's kappa", _of_answers(scores.kappa)),
        Scorer("within_f1", "F1 within subjects", _within(_of_answers(scores.macro_f1))),
        Scorer(
            "within_accuracy", "accuracy within subjects", _within(_of_answers(scores.accuracy))
        ),
        Scorer("within_kappa", "kappa within subjects", _within(_of_answers(scores.kappa))),
        Scorer("nrmse", "NRMSE", scores.nrmse, greater_is_better=False),
        Scorer("mae", "MAE", scores.mae, greater_is_better=False),
        Scorer("r", "r", scores.pearson_r, digits=2),
        Scorer("r2", "R²", scores.r2, digits=2),
        Scorer("within_r", "r inside subjects", within_r, digits=2),
        Scorer("partial_r", "r given age, sex", scores.partial_r, digits=2),
        Scorer("calibration_slope", "slope", scores.calibration_slope, digits=2),
    )
}
OF_CLASSES = ("auroc", "balanced_accuracy", "f1", "accuracy", "kappa")
#: Of classes that change within subjects: the score of each subject, averaged over subjects.
WITHIN_SUBJECTS = {f"within_{name}": SCORERS[name].function for name in ("accuracy", "kappa", "f1")}
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
