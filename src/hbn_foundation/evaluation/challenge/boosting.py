"""Gradient-boosted trees whose size and number the validation subjects choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from hbn_foundation.evaluation.challenge.params import BoostingParams

FEW = 5000


@dataclass(frozen=True)
class BoostedTrees:
    """Fitted trees.

    Attributes
    ----------
    model
        scikit-learn's histogram gradient boosting.
    n_trees
        How many trees are used; those after them are not.
    validation_error
        Of the validation windows with so many: mean square error, or log loss.
    """

    model: Any
    n_trees: int
    validation_error: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predict numbers (N,), or probabilities of the second class, from features (N, D)."""
        if not len(features):
            return np.empty(0)
        return next(islice(_stages(self.model, features), self.n_trees - 1, None))


def fit_boosted_trees(
    features: np.ndarray,
    values: np.ndarray,
    splits: np.ndarray,
    params: BoostingParams,
    classes: bool = False,
    seed: int = 0,
) -> BoostedTrees:
    """Fit on the training windows.

    Parameters
    ----------
    features
        (N, D); NaN is a value of its own to trees.
    values, splits
        Number, or class 0 or 1, and split (`train`, `validation`, other) of each window (N,).
    params
        Sizes to choose from, rate.
    classes
        The values are classes.
    seed
        Of scikit-learn's draws.

    Returns
    -------
    BoostedTrees
        The size and number of trees with the smallest validation error, mean square error of
        numbers and log loss of classes.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    make = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    train, held = splits == "train", splits == "validation"
    best: BoostedTrees | None = None
    # a tree of few windows takes less time than its threads take to meet on a busy machine
    with threadpool_limits(1 if train.sum() < FEW else None):
        for leaves in params.leaves:
            model = make(
                max_iter=params.max_trees,
                learning_rate=params.learning_rate,
                max_leaf_nodes=leaves,
                min_samples_leaf=params.min_samples_leaf,
                early_stopping=False,
                random_state=seed,
            ).fit(features[train], values[train])
            stages = _stages(model, features[held])
            errors = [_error(values[held], answer, classes) for answer in stages]
            fewest = int(np.argmin(errors))
            if best is None or errors[fewest] < best.validation_error:
                best = BoostedTrees(model, fewest + 1, errors[fewest])
    assert best is not None
    return best


def _stages(model: Any, features: np.ndarray) -> Iterator[np.ndarray]:
    """Predictions with one tree, two trees, and so on."""
    if hasattr(model, "staged_predict_proba"):
        return (answer[:, 1] for answer in model.staged_predict_proba(features))
    return iter(model.staged_predict(features))


def _error(values: np.ndarray, answers: np.ndarray, classes: bool) -> float:
    if not classes:
        return float(np.mean((values - answers) ** 2))
    likely = np.clip(np.where(values == 1, answers, 1 - answers), 1e-12, 1)
    return float(-np.log(likely).mean())
