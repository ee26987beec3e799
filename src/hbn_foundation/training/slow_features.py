"""Linear slow features: combinations of features that change little within a recording.

States of the brain last longer than a window, noise does not (slow feature analysis, Wiskott and
Sejnowski 2002). No label is used. What is constant within a recording, such as traits of a subject,
is no slow feature: only what varies within a recording counts.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hbn_foundation.errors import UserError

N_COMPONENTS, MAX_LAG, SHRINKAGE, BETWEEN = 5, 10.0, 0.2, 0.015
WHITE = 2.0  # slowness of white noise
TOLERANCE = 1e-6
EPSILON = 1e-6  # s


class LinearSlowFeatures(TransformerMixin, BaseEstimator):
    """The combinations whose differences are smallest, relative to their variance in recordings.

    What tells recordings apart is noise, too, if less of it: a part of the covariance between them
    is added to that of differences. Both covariances, of noise and within recordings, are shrunk
    towards the scaled identity; the components solve their generalised eigenproblem, the one of
    least noise first. Their standard deviations within recordings are as their signal-to-noise
    ratios (of amplitudes), so that a regularised model of few labels expects more of what is slow;
    their mean variance is one.

    Parameters
    ----------
    n_components
        How many.
    max_lag
        Seconds of real time between the starts of two windows that are compared, at most.
    shrinkage
        Share of the scaled identity in both covariances.
    between
        Share of the covariance between recordings, or between groups, that counts as noise.

    Attributes
    ----------
    components_
        (D, n_components).
    mean_
        (D,) of the windows.
    slowness_
        (n_components,) variance of differences relative to that within recordings: 2 for white
        noise, small for what is slow; nearly in order.
    weights_
        (n_components,) what each component, of variance one, is multiplied by.
    """

    def __init__(
        self,
        n_components: int = N_COMPONENTS,
        max_lag: float = MAX_LAG,
        shrinkage: float = SHRINKAGE,
        between: float = BETWEEN,
    ) -> None:
        self.n_components = n_components
        self.max_lag = max_lag
        self.shrinkage = shrinkage
        self.between = between

    def fit(
        self, X: np.ndarray, y: Any = None, *, recordings: Any, onsets: Any, groups: Any = None
    ) -> Self:
        """Fit on windows (N, D), their recordings (N,) and onsets (N,) in s; labels are not used.

        The variance is that within groups (N,) of recordings; by default within each recording.

        Raises
        ------
        UserError
            When no two windows of a recording are near enough to each other, or nothing is slower
            than noise, as where all windows of each recording are near each other.
        """
        from scipy.linalg import eigh
        from scipy.sparse.csgraph import laplacian

        X = np.asarray(X)
        near = near_graph(recordings, onsets, self.max_lag)
        self.mean_ = X.mean(0, dtype=np.float64)
        within, between, changes = np.zeros((3, X.shape[1], X.shape[1]))
        for rows in _rows_of(recordings):
            own = X[rows].astype(np.float64)
            # a graph's Laplacian sums the squared differences along its edges
            changes += own.T @ (laplacian(near[rows][:, rows]) @ own)
        of_groups = _rows_of(recordings if groups is None else groups)
        for rows in of_groups:
            mean = X[rows].mean(0, dtype=np.float64)
            own, apart = X[rows] - mean, mean - self.mean_
            within += own.T @ own
            between += len(rows) * np.outer(apart, apart)
        if not near.nnz:
            raise UserError(
                f"slow features: no two windows of a recording begin within {self.max_lag:g} s"
            )
        within = self._shrunk(within / (len(X) - len(of_groups)))
        changes = self._shrunk(2 * changes / near.nnz)
        # of a difference the variance is twice that of the noise
        noise = changes + 2 * self.between * self._shrunk(between / len(X))
        most = min(self.n_components, X.shape[1])
        noises, self.components_ = eigh(noise, within, subset_by_index=[0, most - 1])
        self.slowness_ = np.einsum("dn,de,en->n", self.components_, changes, self.components_)
        # a slow signal, of slowness 0, and noise: the ratio of their amplitudes
        signal = np.where(self.slowness_ < WHITE - TOLERANCE, WHITE - self.slowness_, 0.0)
        longest = pd.Series(onsets).groupby(np.asarray(recordings)).agg(np.ptp).max()
        # where all windows of a recording are near each other, differences are all its variance
        none_apart = groups is None and longest <= self.max_lag + EPSILON
        if none_apart or not signal.any():
            raise UserError(
                f"slow features: within {self.max_lag:g} s nothing changes less than noise; windows"
                f" of a recording are at most {longest:g} s apart; expected longer recordings or a "
                "smaller lag"
            )
        ratio = np.sqrt(signal / noises)
        self.weights_ = ratio / np.sqrt(np.square(ratio).mean())
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Slow features (N, n_components) of windows (N, D)."""
        check_is_fitted(self)
        return ((X - self.mean_) @ self.components_ * self.weights_).astype(np.float32)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name them: slow0, slow1, …."""
        check_is_fitted(self)
        return np.array([f"slow{n}" for n in range(self.components_.shape[1])], dtype=object)

    def _shrunk(self, matrix: np.ndarray) -> np.ndarray:
        scale = max(float(np.trace(matrix)) / len(matrix), 1e-12)
        return (1 - self.shrinkage) * matrix + self.shrinkage * scale * np.eye(len(matrix))


def _rows_of(groups: Any) -> list[np.ndarray]:
    """Give the places of the windows (N,) of each group."""
    found = pd.Series(range(len(groups))).groupby(np.asarray(groups)).indices
    return [np.asarray(rows) for rows in found.values()]


def near_graph(recordings: Any, onsets: Any, max_lag: float) -> csr_array:
    """Mark (N, N) which windows of a recording begin within a time of each other.

    No window is near itself.
    """
    from sklearn.neighbors import radius_neighbors_graph

    numbers = np.unique(recordings, return_inverse=True)[1]
    times = np.asarray(onsets, dtype=np.float64)
    apart = np.ptp(times) + max_lag + 1.0  # of one recording's last window and the next's first
    return csr_array(radius_neighbors_graph((times + apart * numbers)[:, None], max_lag + EPSILON))
