"""A frozen probe: balanced logistic regression whose strength the validation subjects choose."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hbn_foundation.scores import auroc

Scaling = Literal["global", "feature"]
#: Inverse regularisation strengths to choose from, from strong to weak.
STRENGTHS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
CLEARLY_WORSE = 0.04
NORM = 10.0
LEAST = -1e3  # log probability of what was never seen


@dataclass(frozen=True)
class Standardiser:
    """Centre features and scale them; everything is fitted on training windows.

    Attributes
    ----------
    centre, scale
        Mean and divisor of each feature (D,).
    """

    centre: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, scaling: Scaling) -> Standardiser:
        """Fit on training windows (N, D); NaN marks what could not be measured.

        `global` divides all features by one number, so that their natural variances stay;
        `feature` divides each by its own standard deviation. Either way the mean square norm of
        a window becomes the same for any number of features, so that one grid of strengths
        serves all methods.
        """
        n_features = features.shape[1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a feature that is NaN throughout
            centre = np.nan_to_num(np.nanmean(features, 0, dtype=np.float64))
            variance = np.nan_to_num(np.nanvar(features, 0, dtype=np.float64))
        if scaling == "global":
            variance = np.full(n_features, variance.mean())
        deviation = np.sqrt(np.where(variance > 1e-20, variance, 1.0))
        return cls(centre, deviation * np.sqrt(n_features) / NORM)

    def undo(self, weights: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn a map of standardised features, (K, D) and (K,), into one of the features."""
        scaled = weights / self.scale
        return scaled, offsets - scaled @ self.centre

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Standardise (N, D); NaN becomes the training mean."""
        values = (features - self.centre) / self.scale
        return np.nan_to_num(values, copy=False).astype(np.float32)


@dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes
    ----------
    standardiser
        Centre and scale of the features.
    model
        scikit-learn's logistic regression.
    n_classes
        Classes there are; one that no training window has gets probability zero.
    strength
        The inverse regularisation strength that was chosen.
    validation_auroc
        Window AUROC on the validation subjects at that strength.
    """

    standardiser: Standardiser
    model: Any
    n_classes: int
    strength: float
    validation_auroc: float

    def linear_map(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights (K, D) and offsets (K,) of the logits of features (N, D) without NaN."""
        weights = np.zeros((self.n_classes, len(self.standardiser.centre)))
        offsets = np.full(self.n_classes, LEAST)
        coefficients, intercepts = self.model.coef_, self.model.intercept_
        if len(coefficients) == 1:  # the second class against the first
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        known = self.model.classes_
        weights[known], offsets[known] = self.standardiser.undo(coefficients, intercepts)
        return weights, offsets

    def log_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Log probability of each class (N, K) from features (N, D)."""
        return _log_probabilities(self.model, self.standardiser(features), self.n_classes)


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    splits: np.ndarray,
    n_classes: int,
    strengths: Sequence[float],
    scaling: Scaling = "global",
    tell: Callable[[], Any] = lambda: None,
) -> Probe:
    """Fit a balanced logistic regression on the training windows.

    Strengths are tried from strong to weak regularisation, each starting from the last solution;
    the search ends when the validation AUROC has fallen clearly below its best.

    Parameters
    ----------
    features
        (N, D); NaN is replaced by the training mean.
    labels, splits
        Class and split (`train`, `validation`, other) of each window (N,).
    n_classes
        Classes there are.
    strengths
        Inverse regularisation strengths to choose from.
    scaling
        See `Standardiser.fit`.
    tell
        Called after each strength.

    Returns
    -------
    Probe
        The probe at the strength that the validation windows prefer; the middle strength where
        they hold only one class.
    """
    from sklearn.linear_model import LogisticRegression

    train, held = splits == "train", splits == "validation"
    standardiser = Standardiser.fit(features[train], scaling)
    inputs, held_inputs = standardiser(features[train]), standardiser(features[held])
    grid = sorted(strengths)
    if len(np.unique(labels[held])) < 2:
        grid = [grid[len(grid) // 2]]
    model = LogisticRegression(
        class_weight="balanced", max_iter=300, tol=1e-3, warm_start=True, C=grid[0]
    )
    best: tuple[float, float, Any] | None = None
    for strength in grid:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged at weak regularisation: no harm
            model.fit(inputs, labels[train])
        tell()
        area = auroc(labels[held], _log_probabilities(model, held_inputs, n_classes))
        if best is None or area > best[0] + 1e-4:
            best = (area, strength, _copy(model))
        elif area < best[0] - CLEARLY_WORSE:
            break
    assert best is not None
    return Probe(standardiser, best[2], n_classes, best[1], best[0])


def majority_log_probabilities(labels: np.ndarray, n_classes: int, n_windows: int) -> np.ndarray:
    """Answer every window with the shares of the classes in the training labels."""
    shares = np.bincount(labels, minlength=n_classes) / max(len(labels), 1)
    return np.tile(_log(shares), (n_windows, 1))


def _log_probabilities(model: Any, inputs: np.ndarray, n_classes: int) -> np.ndarray:
    """Take log probabilities from the decision values: probabilities would round to 0 and 1."""
    from scipy.special import log_softmax

    result = np.full((len(inputs), n_classes), LEAST)
    if len(inputs):
        values = np.asarray(model.decision_function(inputs), dtype=np.float64)
        if values.ndim == 1:
            values = np.stack([np.zeros_like(values), values], 1)
        result[:, model.classes_] = np.maximum(log_softmax(values, axis=1), LEAST)
    return result


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.maximum(np.log(np.maximum(probabilities, 1e-300)), LEAST)


def _copy(model: Any) -> Any:
    from copy import deepcopy

    return deepcopy(model)
