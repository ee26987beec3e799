"""Gradient-boosted trees whose size and number the validation subjects choose."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

FEW = 5000
MOST_TREES = 200
LEAVES = (4, 12)  # of a tree, to choose from
LEARNING_RATE = 0.05
FEWEST_IN_LEAF = 20


class BoostedTrees(NamedTuple):
    """scikit-learn's histogram gradient boosting, of which the first `n_trees` are used.

    `validation_error` is the mean square error, or log loss, of the validation windows with these.
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
    classes: bool = False,
    seed: int = 0,
) -> BoostedTrees:
    """Fit on the training windows; choose size and number of trees on the validation windows.

    NaN among the features (N, D) is a value of its own to trees. Each window has a number, or a
    class 0 or 1 where `classes` says so, and a split (`train`, `validation`, other).
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import log_loss, mean_squared_error
    from threadpoolctl import threadpool_limits

    make = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    loss = log_loss if classes else mean_squared_error
    labels: dict[str, Any] = {"labels": [0, 1]} if classes else {}
    train, held = splits == "train", splits == "validation"
    best = BoostedTrees(None, 0, np.inf)
    # a tree of few windows takes less time than its threads take to meet on a busy machine
    with threadpool_limits(1 if train.sum() < FEW else None):
        for leaves in LEAVES:
            model = make(
                max_iter=MOST_TREES,
                learning_rate=LEARNING_RATE,
                max_leaf_nodes=leaves,
                min_samples_leaf=FEWEST_IN_LEAF,
                early_stopping=False,
                random_state=seed,
            ).fit(features[train], values[train])
            for n_trees, answers in enumerate(_stages(model, features[held]), 1):
                error = float(loss(values[held], answers, **labels))
                if error < best.validation_error:
                    best = BoostedTrees(model, n_trees, error)
    return best


def _stages(model: Any, features: np.ndarray) -> Iterator[np.ndarray]:
    """Predictions with one tree, two trees, and so on."""
    if hasattr(model, "staged_predict_proba"):
        return (answer[:, 1] for answer in model.staged_predict_proba(features))
    return iter(model.staged_predict(features))
