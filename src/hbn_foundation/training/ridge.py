"""Ridge regression of a number, whose penalty the validation subjects choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hbn_foundation.labels.scores import nrmse
from hbn_foundation.training.probe import Scaling, Standardiser

#: A number of the subject is learned from a dozen subjects, whatever the number of windows, and
#: needs stronger penalties than the class of a window.
PENALTY = 100.0


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
        Of the validation windows at that strength.
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

    Returns
    -------
    RidgeFit
        At the strength with the lowest NRMSE of the validation windows, the stronger of equals;
        the middle strength where they hold one number only.
    """
    from sklearn.linear_model import Ridge

    train, held = splits == "train", splits == "validation"
    standardiser = Standardiser.fit(features[train], scaling)
    inputs, held_inputs = standardiser(features[train]), standardiser(features[held])
    mean, sd = float(values[train].mean()), float(values[train].std()) or 1.0
    grid = sorted(strengths)
    if len(np.unique(values[held])) < 2:
        grid = [grid[len(grid) // 2]]
    fits = []
    for strength in grid:
        model = Ridge(alpha=PENALTY / strength).fit(inputs, (values[train] - mean) / sd)
        error = nrmse(values[held], _predict(model, held_inputs, mean, sd))
        fits.append((np.inf if np.isnan(error) else error, strength, model, error))
    _, strength, model, error = min(fits, key=lambda found: found[:2])
    return RidgeFit(standardiser, model, mean, sd, strength, error)


def _predict(model: Any, inputs: np.ndarray, mean: float, sd: float) -> np.ndarray:
    if not len(inputs):
        return np.empty(0)
    return mean + sd * np.asarray(model.predict(inputs), dtype=np.float64)
