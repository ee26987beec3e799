"""What age and sex alone say of a number or of a yes and no: the baseline without any EEG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError

DEMOGRAPHICS = ("age", "sex")


@dataclass(frozen=True)
class DemographicFit:
    """A regression on age and sex.

    Attributes
    ----------
    means
        Mean age and sex (2,) of those it was fitted on, for those whose age or sex is not known.
    model
        scikit-learn's linear or logistic regression.
    """

    means: np.ndarray
    model: Any

    def predict(self, people: pd.DataFrame) -> np.ndarray:
        """Predict numbers (N,), or probabilities of yes, from `age` and `sex` (N rows)."""
        inputs = _inputs(people, self.means)
        if hasattr(self.model, "predict_proba"):
            return np.asarray(self.model.predict_proba(inputs)[:, 1], dtype=np.float64)
        return np.asarray(self.model.predict(inputs), dtype=np.float64)


def fit_demographics(
    people: pd.DataFrame, values: np.ndarray, classes: bool = False
) -> DemographicFit:
    """Fit a regression on age and sex, by ordinary least squares.

    Parameters
    ----------
    people
        `age` in years and `sex` (0 female, 1 male), NaN where unknown, of training subjects
        (N rows): a row per subject, or a row per window.
    values
        What is predicted (N,); rows without a value are left out.
    classes
        The values are 0 and 1, both of them: logistic regression, all but without a penalty.

    Returns
    -------
    DemographicFit

    Raises
    ------
    UserError
        When a column is missing, or neither age nor sex of anyone with a value is known.
    """
    from sklearn.linear_model import LinearRegression, LogisticRegression

    missing = [name for name in DEMOGRAPHICS if name not in people]
    if missing:
        raise UserError(f"participants: no column {missing[0]}, which the baseline age_sex needs")
    known = ~np.isnan(np.asarray(values, dtype=float))
    ages_sexes = people.loc[known, list(DEMOGRAPHICS)].to_numpy(dtype=float)
    if not known.any() or np.isnan(ages_sexes).all():
        raise UserError(
            "participants: age and sex of no training subject are known; take age_sex out of the "
            "baselines"
        )
    means = np.array([_mean(column) for column in ages_sexes.T])
    model = LogisticRegression(C=1e6, max_iter=1000) if classes else LinearRegression()
    inputs = _inputs(people[known], means)
    return DemographicFit(means, model.fit(inputs, np.asarray(values)[known]))


def _mean(column: np.ndarray) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if len(known) else 0.0


def _inputs(people: pd.DataFrame, means: np.ndarray) -> np.ndarray:
    numbers = people[list(DEMOGRAPHICS)].to_numpy(dtype=float)
    return np.where(np.isnan(numbers), means, numbers)
