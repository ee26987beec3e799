"""Scores of predicted classes, per window and per recording, with intervals over subjects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.labels.scores import accuracy, auroc, balanced_accuracy, macro_f1

FEWEST_SUBJECTS = 5
MOST_WITHOUT_SCORE = 0.1


class Interval(NamedTuple):
    """Ends of an interval, NaN where there is none, and then why."""

    low: float
    high: float
    missing: str = ""


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Count items (K, K): true class in the rows, predicted class in the columns."""
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def by_recording(
    labels: np.ndarray, log_probabilities: np.ndarray, recordings: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pool windows to recordings: their common label and mean log probability.

    Labels that change within a recording, as those of trials do, are no label of recordings; then
    there are none.

    Returns
    -------
    labels : numpy.ndarray
        (R,), in the order of the recordings' names.
    log_probabilities : numpy.ndarray
        (R, K).
    """
    _, first, group = np.unique(recordings.astype(str), return_index=True, return_inverse=True)
    if not np.array_equal(labels[first][group], labels):
        return labels[:0], np.zeros((0, log_probabilities.shape[1]))
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
        `window_auroc`, `balanced_accuracy`, `f1` (macro) and `accuracy` of windows, the same of
        recordings as `recording_…` (NaN where windows of one recording differ), and
        `confusion_matrix` (lists, of windows).
    """
    predicted = log_probabilities.argmax(1)
    whole_labels, whole = by_recording(labels, log_probabilities, recordings)
    answers = whole.argmax(1)
    matrix = confusion_matrix(labels, predicted, log_probabilities.shape[1])
    return {
        "window_auroc": auroc(labels, log_probabilities),
        "recording_auroc": auroc(whole_labels, whole),
        "balanced_accuracy": balanced_accuracy(labels, predicted),
        "recording_balanced_accuracy": balanced_accuracy(whole_labels, answers),
        "f1": macro_f1(labels, predicted),
        "recording_f1": macro_f1(whole_labels, answers),
        "accuracy": accuracy(labels, predicted),
        "recording_accuracy": accuracy(whole_labels, answers),
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
    """Interval of the window AUROC from resampling whole subjects, see `bootstrap_interval`."""

    def score(chosen: np.ndarray) -> float:
        return auroc(labels[chosen], log_probabilities[chosen])

    return bootstrap_interval(
        score, subjects, n_samples, seed, level, without="hold one class only"
    )


def bootstrap_interval(
    score: Callable[[np.ndarray], float],
    subjects: np.ndarray,
    n_samples: int,
    seed: int = 0,
    level: float = 0.95,
    without: str = "have no score",
) -> Interval:
    """Interval of a score from resampling whole subjects with replacement.

    Windows of one person resemble each other, so resampling windows would give intervals that are
    far too narrow (percentile cluster bootstrap, Field and Welsh 2007).

    Parameters
    ----------
    score
        Score of the windows at these places; NaN where there is none.
    subjects
        Subject of each window (N,).
    n_samples, seed, level
        How many resamples, which ones, and what share of them the interval holds.
    without
        What is the matter with resamples that have no score.

    Returns
    -------
    Interval
        Without ends where there are too few subjects for one, or too many resamples without a
        score: those that are left would give an interval that is far too narrow.
    """
    reason = no_interval(subjects, n_samples)
    if reason:
        return Interval(np.nan, np.nan, reason)
    return interval_of(resampled(score, subjects, n_samples, seed), level, without)


def no_interval(subjects: np.ndarray, n_samples: int) -> str:
    """Say why subjects cannot be resampled; nothing where they can."""
    n_subjects = len(pd.unique(subjects))
    if n_samples < 1:
        return "none asked for"
    if n_subjects < FEWEST_SUBJECTS:
        return f"{n_subjects} test subjects are too few to resample"
    return ""


def resampled(
    score: Callable[[np.ndarray], Any], subjects: np.ndarray, n_samples: int, seed: int = 0
) -> np.ndarray:
    """Score resamples of whole subjects, drawn with replacement.

    Parameters
    ----------
    score
        One number, or several (k,), of the items at these places.
    subjects
        Subject of each item (N,). The same subjects in the same order are drawn alike, whatever
        is scored, so that two methods can be compared resample by resample.
    n_samples, seed
        How many resamples, and which ones.

    Returns
    -------
    numpy.ndarray
        (n_samples,) or (n_samples, k).
    """
    codes, names = pd.factorize(subjects)
    order = np.argsort(codes, kind="stable")
    places = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    random = np.random.default_rng(seed)
    values = []
    for _ in range(n_samples):
        drawn = random.integers(len(names), size=len(names))
        values.append(score(np.concatenate([places[i] for i in drawn])))
    return np.array(values)


def interval_of(
    values: np.ndarray, level: float = 0.95, without: str = "have no score"
) -> Interval:
    """Interval of resampled values (n,), NaN where a resample has none."""
    missing = float(np.isnan(values).mean())
    if missing > MOST_WITHOUT_SCORE:
        return Interval(np.nan, np.nan, f"{missing:.0%} of the resamples {without}")
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
