"""Ridge regression of a number; its penalty is chosen by validation windows or by folds.

What each subject has one number of, such as a psychopathology factor, is known of as many cases as
there are subjects, and a dozen validation subjects choose almost at random. There, folds of the
training subjects choose. Where numbers differ within subjects the validation windows do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.scores import nrmse
from hbn_foundation.training.probe import Scaling, Standardiser

#: A number of the subject is learned from a dozen subjects, whatever the number of windows, and
#: needs stronger penalties than the class of a window.
PENALTY = 100.0
FOLDS = 5


@dataclass(frozen=True)
class RidgeFit:
    """A fitted ridge regression.

    Attributes
    ----------
    standardiser
        Centre and scale of the features.
    model
        scikit-learn's ridge regression.
    mean, sd
        Of the training windows' numbers; the model predicts standardised ones.
    strength
        The inverse regularisation strength that was chosen.
    validation_nrmse
        Of the validation windows at that strength; NaN where they hold one number only.
    """

    standardiser: Standardiser
    model: Any
    mean: float
    sd: float
    strength: float
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
    tell: Callable[[], Any] = lambda: None,
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
    tell
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
        errors = list(cross_validated(inputs, targets, subjects[train], penalties, tell))
    elif len(np.unique(values[held])) > 1:
        errors = []
        for penalty in penalties:
            model = Ridge(alpha=penalty).fit(inputs, targets)
            errors.append(nrmse(values[held], _predict(model, held_inputs, mean, sd)))
            tell()
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
    tell: Callable[[], Any] = lambda: None,
) -> np.ndarray:
    """Score ridge regressions on training subjects that they have not seen, in up to five folds.

    One decomposition serves all penalties, where scikit-learn solves each anew when subjects must
    stay together.

    Parameters
    ----------
    inputs, targets
        (N, D) and (N,) of the training windows.
    subjects
        Of each window (N,); two or more.
    penalties
        To be scored.
    tell
        Called after each fold.

    Returns
    -------
    numpy.ndarray
        NRMSE of all windows at each penalty (P,).
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
        tell()
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
