"""Few features of many windows, freed of what is noise in their recording; no label is used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.signals.context import EPSILON, Surroundings

if TYPE_CHECKING:
    from hbn_foundation.signals.params import ContextParams

MAD_TO_SD = 1.4826  # of normal values
RIDGE = 1e-3  # of the mean variance, added to each direction
LARGEST_GAP = 10.0  # s between the starts of windows whose difference is noise, or one window


def denoised(features: np.ndarray, around: Surroundings, context: ContextParams) -> np.ndarray:
    """Filter a few features by what is slow in each recording, or in a subject's recordings.

    A multichannel Wiener filter, S C⁻¹, of winsorised features: C is their covariance in the
    recording, and C − S half that of the differences of windows that follow each other, which is
    all of C for noise that is new in each window. No label is used, nor any other recording.

    Parameters
    ----------
    features
        (M, D) of all windows of `around`.
    around
        The windows, and the tiles of their recordings, which the covariances are of.
    context
        Whether recordings or subjects are filtered.

    Returns
    -------
    numpy.ndarray
        (M, D), with the mean of each recording taken away; zeros where no two windows follow each
        other.
    """
    limited, result = winsorised(features, around, context), np.zeros_like(features)
    row, onset = (around.table[name].to_numpy() for name in ("row", "onset"))
    for rows, own in _groups(around, context):
        values = limited[own].astype(np.float64)
        same, apart = np.diff(row[own]) == 0, np.diff(onset[own])
        follow = same & (apart <= max(LARGEST_GAP, apart[same].min(initial=np.inf)) + EPSILON)
        changes = np.diff(values, axis=0)[follow]
        if not len(changes):
            continue
        centred = values - values.mean(0)
        whole = centred.T @ centred / len(centred)
        # directions that no tile has are noise
        ridge = max(RIDGE * np.trace(whole) / len(whole), EPSILON) * np.eye(len(whole))
        whole, noise = whole + ridge, changes.T @ changes / len(changes) / 2 + ridge
        # in coordinates where C is the identity, the shares of S are between 0 and 1
        root = np.linalg.cholesky(whole)
        white = np.linalg.inv(root)
        shares, directions = np.linalg.eigh(np.eye(len(whole)) - white @ noise @ white.T)
        wiener = root @ (directions * shares.clip(0.0, 1.0)) @ directions.T @ white
        result[rows] = (limited[rows] - values.mean(0)) @ wiener.T
    return result


def winsorised(features: np.ndarray, around: Surroundings, context: ContextParams) -> np.ndarray:
    """Limit features (M, D) of all windows of `around`, in each recording or subject.

    To the median of the tiles ± a robust standard deviation, NaN not counted: states of the brain
    move features by as much, artefacts by many times more. A feature that is the same in most
    tiles is not limited.
    """
    result = features.copy()
    for rows, own in _groups(around, context):
        reference = features[own]
        median = np.nanmedian if np.isnan(reference).any() else np.median
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
            centre = median(reference, axis=0)
            spread = MAD_TO_SD * median(np.abs(reference - centre), axis=0)
        spread[spread == 0.0] = np.inf
        result[rows] = np.clip(features[rows], centre - spread, centre + spread)
    return result


def _groups(
    around: Surroundings, context: ContextParams
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give each recording or subject with tiles: its windows (M,), and its tiles (T,) by time."""
    table = around.table
    group = pd.factorize(table["subject" if context.of == "subject" else "row"])[0]
    row, onset = (table[name].to_numpy()[around.tiles] for name in ("row", "onset"))
    tiles = around.tiles[np.lexsort([onset, row, group[around.tiles]])]
    for number in np.unique(group[tiles]):
        yield group == number, tiles[group[tiles] == number]
