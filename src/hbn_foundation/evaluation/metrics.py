"""Scores of predicted classes, per window and per recording."""

from __future__ import annotations

from typing import Any

import numpy as np

from hbn_foundation.scores import accuracy, auroc, balanced_accuracy, macro_f1


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
