"""Linear slow features: combinations of features that change little within a recording.

States of the brain last longer than a window, noise does not (slow feature analysis, Wiskott and
Sejnowski 2002). No label is used. What is constant within a recording, such as traits of a subject,
is no slow feature: only what varies within a recording counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hbn_foundation.errors import UserError

N_COMPONENTS, MAX_LAG, SHRINKAGE = 5, 10.0, 0.1
MOST_PAIRS = 4096  # differences in memory at once


class LinearSlowFeatures(TransformerMixin, BaseEstimator):
    """The combinations whose differences are smallest, relative to their variance in recordings.

    Both covariances, of differences and within recordings, are shrunk towards the scaled identity;
    the components solve their generalised eigenproblem, the slowest first, and have variance one
    within recordings.

    Parameters
    ----------
    n_components
        How many.
    max_lag
        Seconds of real time between the starts of two windows that are compared, at most.
    shrinkage
        Share of the scaled identity in both covariances.

    Attributes
    ----------
    components_
        (D, n_components).
    mean_
        (D,) of the windows.
    slowness_
        (n_components,) variance of differences relative to that within recordings: 2 for white
        noise, small for what is slow.
    """

    def __init__(
        self,
        n_components: int = N_COMPONENTS,
        max_lag: float = MAX_LAG,
        shrinkage: float = SHRINKAGE,
    ) -> None:
        self.n_components = n_components
        self.max_lag = max_lag
        self.shrinkage = shrinkage

    def fit(self, X: np.ndarray, y: Any = None, *, recordings: Any, onsets: Any) -> Self:
        """Fit on windows (N, D), their recordings (N,) and onsets (N,) in s; labels are not used.

        Raises
        ------
        UserError
            When no two windows of a recording are near enough to each other.
        """
        from scipy.linalg import eigh

        X, recordings, onsets = map(np.asarray, (X, recordings, onsets))
        changes, n_changes = np.zeros((X.shape[1], X.shape[1])), 0
        for first, second in near_pairs(recordings, onsets, self.max_lag):
            for start in range(0, len(first), MOST_PAIRS):
                part = slice(start, start + MOST_PAIRS)
                apart = (X[first[part]] - X[second[part]]).astype(np.float64)
                changes += apart.T @ apart
                n_changes += len(apart)
        if not n_changes:
            raise UserError(
                f"slow features: no two windows of a recording begin within {self.max_lag:g} s"
            )
        within = np.zeros_like(changes)
        for recording in np.unique(recordings):
            own = X[recordings == recording].astype(np.float64)
            own -= own.mean(0)
            within += own.T @ own
        within, changes = self._shrunk(within / len(X)), self._shrunk(changes / n_changes)
        most = min(self.n_components, X.shape[1])
        self.slowness_, self.components_ = eigh(changes, within, subset_by_index=[0, most - 1])
        self.mean_ = X.mean(0, dtype=np.float64)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Slow features (N, n_components) of windows (N, D)."""
        check_is_fitted(self)
        return ((X - self.mean_) @ self.components_).astype(np.float32)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name them: slow0, slow1, …."""
        check_is_fitted(self)
        return np.array([f"slow{n}" for n in range(self.components_.shape[1])], dtype=object)

    def _shrunk(self, matrix: np.ndarray) -> np.ndarray:
        scale = max(float(np.trace(matrix)) / len(matrix), 1e-12)
        return (1 - self.shrinkage) * matrix + self.shrinkage * scale * np.eye(len(matrix))


def near_pairs(
    recordings: np.ndarray, onsets: np.ndarray, max_lag: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the places (P,) and (P,) of windows of a recording that begin within a time, by lag."""
    order = np.lexsort([onsets, recordings])
    for lag in range(1, len(order)):
        first, second = order[:-lag], order[lag:]
        near = recordings[first] == recordings[second]
        near &= onsets[second] - onsets[first] <= max_lag + 1e-6
        if not near.any():
            return
        yield first[near], second[near]
