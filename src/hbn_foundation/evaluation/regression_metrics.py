"""Scores of predicted numbers, per window and per recording."""

from __future__ import annotations

import numpy as np

from hbn_foundation import scores


def numbers_by_recording(
    values: np.ndarray, predicted: np.ndarray, recordings: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pool windows to recordings: mean value and mean prediction (R,), by recording's name."""
    _, group = np.unique(recordings.astype(str), return_inverse=True)
    counts = np.bincount(group)
    return np.bincount(group, values) / counts, np.bincount(group, predicted) / counts


def regression_scores(
    values: np.ndarray, predicted: np.ndarray, recordings: np.ndarray
) -> dict[str, float]:
    """Score predictions per window and per recording.

    Parameters
    ----------
    values, predicted
        True and predicted number of each window (N,), in the same unit.
    recordings
        Recording of each window (N,).

    Returns
    -------
    dict
        `nrmse`, `r`, `mae` and `r2` of windows, the same of recordings as `recording_…`. NaN
        where there is none, as for one value only.
    """
    whole = numbers_by_recording(values, predicted, recordings)
    result: dict[str, float] = {}
    for prefix, (true, answer) in {"": (values, predicted), "recording_": whole}.items():
        result |= {
            f"{prefix}nrmse": scores.nrmse(true, answer),
            f"{prefix}r": scores.pearson_r(true, answer),
            f"{prefix}mae": scores.mae(true, answer),
            f"{prefix}r2": scores.r2(true, answer),
        }
    return result
