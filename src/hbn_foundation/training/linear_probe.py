"""Linear models of frozen features: logistic regression of classes, ridge regression of numbers.

The regularisation is chosen on validation windows. For numbers that each subject has one of, such
as a psychopathology factor, a dozen validation subjects are a dozen cases and choose almost at
random: folds of the training subjects may choose instead.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.labels.strata import cell_weights
from hbn_foundation.scores import auroc, nrmse, within_auroc

Scaling = Literal["global", "feature"]
#: Inverse regularisation strengths to choose from, from strong to weak.
STRENGTHS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
CLEARLY_WORSE = 0.04
NORM = 10.0
MIN_LOG_PROBABILITY = -1e3  # of a class without training windows
#: Ridge's penalty at strength 1. A number of the subject is learned from a dozen subjects, whatever
#: the number of windows, and needs stronger penalties than the class of a window.
PENALTY = 100.0
FOLDS = 5


@dataclass(frozen=True)
class Standardiser:
    """Centre features and scale them; everything is fitted on training windows."""

    #: Mean and divisor of each feature (D,).
    centre: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, scaling: Scaling) -> Standardiser:
        """Fit on training windows (N, D); NaN marks what could not be measured.

        `global` divides all features by one number, which keeps their relative variances;
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


class Cases(NamedTuple):
    """What is known of windows (N,).

    With strata, fits weigh the strata of each class alike, and the AUROC within subjects chooses.
    """

    labels: np.ndarray  # classes
    splits: np.ndarray  # train, validation, other
    subjects: np.ndarray | None = None
    strata: np.ndarray | None = None

    def weights(self, chosen: np.ndarray) -> np.ndarray | None:
        """Weights of the chosen windows (N,) in a fit; None: each class counts alike."""
        if self.strata is None:
            return None
        return cell_weights(self.labels[chosen], self.strata[chosen])

    def score(self, chosen: np.ndarray, log_probabilities: np.ndarray) -> float:
        """Score log probabilities (n, K) of the chosen windows (N,)."""
        if self.strata is None or self.subjects is None:
            return auroc(self.labels[chosen], log_probabilities)
        of_chosen = (part[chosen] for part in (self.subjects, self.strata))
        return within_auroc(self.labels[chosen], log_probabilities, *of_chosen)


@dataclass(frozen=True)
class ClassProbe:
    """A fitted logistic regression; a class that no training window has gets probability zero."""

    standardiser: Standardiser
    model: Any
    n_classes: int
    #: The inverse regularisation strength that was chosen.
    strength: float
    #: Of validation windows at that strength; within subjects where there are strata.
    validation_auroc: float

    def linear_map(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights (K, D) and offsets (K,) of the logits of features (N, D) without NaN."""
        weights = np.zeros((self.n_classes, len(self.standardiser.centre)))
        offsets = np.full(self.n_classes, MIN_LOG_PROBABILITY)
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
    cases: Cases,
    n_classes: int,
    strengths: Sequence[float],
    scaling: Scaling = "global",
    callback: Callable[[], Any] = lambda: None,
) -> ClassProbe:
    """Fit a balanced logistic regression on the training windows.

    Strengths are tried from strong to weak regularisation, each starting from the last solution;
    the search ends when the validation AUROC has fallen clearly below its best.

    Parameters
    ----------
    features
        (N, D); NaN is replaced by the training mean.
    cases
        Classes and splits of the windows.
    n_classes
        Classes there are.
    strengths
        Inverse regularisation strengths to choose from.
    scaling
        See `Standardiser.fit`.
    callback
        Called after each strength.

    Returns
    -------
    ClassProbe
        The probe at the strength that the validation windows prefer; the middle strength where
        they have no score, as with one class only.
    """
    from sklearn.linear_model import LogisticRegression

    labels = cases.labels
    train, held = cases.splits == "train", cases.splits == "validation"
    standardiser = Standardiser.fit(features[train], scaling)
    inputs, held_inputs = standardiser(features[train]), standardiser(features[held])
    grid = sorted(strengths)
    if np.isnan(cases.score(held, np.zeros((int(held.sum()), n_classes)))):
        grid = [grid[len(grid) // 2]]
    weights = cases.weights(train)
    balanced = "balanced" if weights is None else None
    model = LogisticRegression(class_weight=balanced, max_iter=300, tol=1e-3, warm_start=True)
    best: tuple[float, float, Any] | None = None
    for strength in grid:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged at weak regularisation: no harm
            model.fit(inputs, labels[train], sample_weight=weights)
        callback()
        area = cases.score(held, _log_probabilities(model, held_inputs, n_classes))
        if best is None or area > best[0] + 1e-4:
            best = (area, strength, copy.deepcopy(model))
        elif area < best[0] - CLEARLY_WORSE:
            break
    assert best is not None
    return ClassProbe(standardiser, best[2], n_classes, best[1], best[0])


def majority_log_probabilities(labels: np.ndarray, n_classes: int, n_windows: int) -> np.ndarray:
    """Predict the class shares of the training labels for every window."""
    shares = np.bincount(labels, minlength=n_classes) / max(len(labels), 1)
    logs = np.log(np.maximum(shares, 1e-300))
    return np.tile(np.maximum(logs, MIN_LOG_PROBABILITY), (n_windows, 1))


def _log_probabilities(model: Any, inputs: np.ndarray, n_classes: int) -> np.ndarray:
    """Take log probabilities from the decision values: probabilities would round to 0 and 1."""
    from scipy.special import log_softmax

    result = np.full((len(inputs), n_classes), MIN_LOG_PROBABILITY)
    if len(inputs):
        values = np.asarray(model.decision_function(inputs), dtype=np.float64)
        if values.ndim == 1:
            values = np.stack([np.zeros_like(values), values], 1)
        result[:, model.classes_] = np.maximum(log_softmax(values, axis=1), MIN_LOG_PROBABILITY)
    return result


@dataclass(frozen=True)
class RidgeFit:
    """A fitted ridge regression."""

    standardiser: Standardiser
    model: Any
    #: Of the training windows' numbers; the model predicts standardised ones.
    mean: float
    sd: float
    #: The inverse regularisation strength that was chosen.
    strength: float
    #: Of the validation windows at that strength; NaN where they hold one number only.
    validation_nrmse: float

    def linear_map(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights (1, D) and offset (1,) of the numbers of features (N, D) without NaN."""
        weights, offset = self.standardiser.undo(
            np.atleast_2d(self.model.coef_), np.atleast_1d(self.model.intercept_)
        )
        return self.sd * weights, self.sd * offset + self.mean

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predict numbers (N,) from features (N, D)."""
        return _predict(self.model, self.standardiser(features), self.mean, self.sd)


def fit_ridge(
    features: np.ndarray,
    values: np.ndarray,
    splits: np.ndarray,
    strengths: Sequence[float],
    scaling: Scaling = "global",
    subjects: np.ndarray | None = None,
    callback: Callable[[], Any] = lambda: None,
) -> RidgeFit:
    """Fit a ridge regression on the training windows.

    Parameters
    ----------
    features
        (N, D); NaN is replaced by the training mean.
    values, splits
        Number and split (`train`, `validation`, other) of each window (N,).
    strengths
        Inverse regularisation strengths to choose from; the penalty is 100 / strength.
    scaling
        See `Standardiser.fit`.
    subjects
        Subject of each window (N,). Where none has two numbers, folds of training subjects choose.
    callback
        Called after each fit.

    Returns
    -------
    RidgeFit
        At the strength with the lowest NRMSE of the windows that choose, the stronger of equals;
        the middle strength where those hold one number only.
    """
    from sklearn.linear_model import Ridge

    train, held = splits == "train", splits == "validation"
    standardiser = Standardiser.fit(features[train], scaling)
    inputs, held_inputs = standardiser(features[train]), standardiser(features[held])
    mean, sd = float(values[train].mean()), float(values[train].std()) or 1.0
    targets = (values[train] - mean) / sd
    grid = sorted(strengths)
    penalties = [PENALTY / strength for strength in grid]
    if subjects is not None and _one_number_each(values[train], subjects[train]):
        errors = list(cross_validated(inputs, targets, subjects[train], penalties, callback))
    elif len(np.unique(values[held])) > 1:
        errors = []
        for penalty in penalties:
            model = Ridge(alpha=penalty).fit(inputs, targets)
            errors.append(nrmse(values[held], _predict(model, held_inputs, mean, sd)))
            callback()
    else:
        grid = [grid[len(grid) // 2]]
        errors = [0.0]
    best = int(np.argmin(np.nan_to_num(errors, nan=np.inf)))
    model = Ridge(alpha=PENALTY / grid[best]).fit(inputs, targets)
    error = nrmse(values[held], _predict(model, held_inputs, mean, sd))
    return RidgeFit(standardiser, model, mean, sd, grid[best], error)


def cross_validated(
    inputs: np.ndarray,
    targets: np.ndarray,
    subjects: np.ndarray,
    penalties: Sequence[float],
    callback: Callable[[], Any] = lambda: None,
) -> np.ndarray:
    """Score ridge regressions on training subjects that they have not seen, in up to five folds.

    One decomposition serves all penalties, where scikit-learn solves each anew when subjects must
    stay together. Returns the NRMSE of all windows at each penalty (P,), of inputs (N, D) and
    targets (N,) of two or more subjects (N,).
    """
    from scipy.linalg import eigh
    from sklearn.model_selection import GroupKFold

    squares = np.zeros(len(penalties))
    folds = GroupKFold(min(FOLDS, len(np.unique(subjects))))
    for fitted, held in folds.split(inputs, targets, subjects):
        centre, middle = inputs[fitted].mean(0), targets[fitted].mean()
        centred = inputs[fitted] - centre
        residuals = (targets[fitted] - middle).astype(inputs.dtype)
        others = inputs[held] - centre
        if centred.shape[1] > len(centred):  # of features or of windows, whichever are fewer
            gram, others = centred @ centred.T, others @ centred.T
        else:
            gram, residuals = centred.T @ centred, centred.T @ residuals
        values, vectors = eigh(gram)
        onto, turned = vectors.T @ residuals, others @ vectors
        for number, penalty in enumerate(penalties):
            predicted = middle + turned @ (onto / (np.maximum(values, 0) + penalty))
            squares[number] += np.square(predicted - targets[held]).sum()
        callback()
    errors = np.sqrt(squares / len(targets)) / max(float(targets.std()), 1e-12)
    return errors.round(6)  # equals, as of constant targets, stay equal


def _one_number_each(values: np.ndarray, subjects: np.ndarray) -> bool:
    """Whether several subjects have one number each, and not all the same."""
    numbers = pd.Series(values).groupby(subjects).nunique()
    return len(numbers) > 1 and numbers.max() == 1 and len(np.unique(values)) > 1


def _predict(model: Any, inputs: np.ndarray, mean: float, sd: float) -> np.ndarray:
    if not len(inputs):
        return np.empty(0)
    return mean + sd * np.asarray(model.predict(inputs), dtype=np.float64)
