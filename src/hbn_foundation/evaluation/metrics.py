"""Scores of predicted classes, per window and per recording, with intervals over subjects."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

FEWEST_SUBJECTS = 5
MOST_OF_ONE_CLASS = 0.1


class Interval(NamedTuple):
    """Ends of an interval, NaN where there is none, and then why."""

    low: float
    high: float
    missing: str = ""


def auroc(labels: np.ndarray, log_probabilities: np.ndarray) -> float:
    """Area under the ROC curve; one class against the rest, averaged, for more than two classes.

    Parameters
    ----------
    labels
        Class of each item (N,), integers.
    log_probabilities
        Logarithm of each class's probability (N, K).

    Returns
    -------
    float
        NaN when there are items of one class only. Classes that do not occur are left out of the
        average.
    """
    log_probabilities = np.round(log_probabilities, 9)  # ties stay ties after pooling
    if log_probabilities.shape[1] == 2:
        return _area(labels == 1, log_probabilities[:, 1] - log_probabilities[:, 0])
    areas = [_area(labels == k, log_probabilities[:, k]) for k in range(log_probabilities.shape[1])]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else np.nan


def _area(positive: np.ndarray, values: np.ndarray) -> float:
    """Area by ranks, ties counted half; scikit-learn's checks would take most of a bootstrap."""
    from scipy.stats import rankdata

    n, n_positive = len(positive), int(positive.sum())
    if n_positive in (0, n):
        return np.nan
    above = rankdata(values)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * (n - n_positive)))


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean share of right answers over the classes that occur; NaN when fewer than two do."""
    shares = [(predicted[labels == k] == k).mean() for k in np.unique(labels)]
    return float(np.mean(shares)) if len(shares) > 1 else np.nan


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Count items (K, K): true class in the rows, predicted class in the columns."""
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def by_recording(
    labels: np.ndarray, log_probabilities: np.ndarray, recordings: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pool windows to recordings: their common label and mean log probability.

    Returns
    -------
    labels : numpy.ndarray
        (R,), in the order of the recordings' names.
    log_probabilities : numpy.ndarray
        (R, K).
    """
    _, first, group = np.unique(recordings.astype(str), return_index=True, return_inverse=True)
    sums = np.zeros((len(first), log_probabilities.shape[1]))
    np.add.at(sums, group, log_probabilities)
    return labels[first], sums / np.bincount(group)[:, None]


def classification_scores(
    labels: np.ndarray, log_probabilities: np.ndarray, recordings: np.ndarray
) -> dict[str, Any]:
    """Score predictions per window and per recording.

    Parameters
    ----------
    labels
        Class of each window (N,).
    log_probabilities
        (N, K).
    recordings
        Recording of each window (N,).

    Returns
    -------
    dict
        `window_auroc`, `recording_auroc`, `balanced_accuracy`, `recording_balanced_accuracy` and
        `confusion_matrix` (lists, of windows).
    """
    predicted = log_probabilities.argmax(1)
    whole_labels, whole = by_recording(labels, log_probabilities, recordings)
    matrix = confusion_matrix(labels, predicted, log_probabilities.shape[1])
    return {
        "window_auroc": auroc(labels, log_probabilities),
        "recording_auroc": auroc(whole_labels, whole),
        "balanced_accuracy": balanced_accuracy(labels, predicted),
        "recording_balanced_accuracy": balanced_accuracy(whole_labels, whole.argmax(1)),
        "confusion_matrix": matrix.tolist(),
    }


def subject_interval(
    labels: np.ndarray,
    log_probabilities: np.ndarray,
    subjects: np.ndarray,
    n_samples: int,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of the window AUROC from resampling whole subjects with replacement.

    Windows of one person resemble each other, so resampling windows would give intervals that are
    far too narrow (percentile cluster bootstrap, Field and Welsh 2007).

    Returns
    -------
    Interval
        Without ends where there are too few subjects for one, or too many resamples hold windows
        of one class only: those that are left would give an interval that is far too narrow.
    """
    places = [np.flatnonzero(subjects == name) for name in pd.unique(subjects)]
    if n_samples < 1:
        return Interval(np.nan, np.nan, "none asked for")
    if len(places) < FEWEST_SUBJECTS:
        return Interval(np.nan, np.nan, f"{len(places)} test subjects are too few to resample")
    random = np.random.default_rng(seed)
    areas = []
    for _ in range(n_samples):
        drawn = random.integers(len(places), size=len(places))
        chosen = np.concatenate([places[i] for i in drawn])
        areas.append(auroc(labels[chosen], log_probabilities[chosen]))
    single = float(np.isnan(areas).mean())
    if single > MOST_OF_ONE_CLASS:
        return Interval(np.nan, np.nan, f"{single:.0%} of the resamples hold one class only")
    low, high = np.nanquantile(areas, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
