"""Compare methods over repeated splits: folds won and a test that allows for shared subjects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIGNIFICANT = 0.05


class Comparison(NamedTuple):
    """One method against another over the same folds.

    Attributes
    ----------
    difference
        Mean of first − second.
    wins, folds
        Folds in which the first is ahead, and folds compared.
    p
        Two-sided p value of the corrected resampled t-test; NaN with fewer than two folds.
    """

    difference: float
    wins: int
    folds: int
    p: float


def compare(first: np.ndarray, second: np.ndarray, test_ratio: float) -> Comparison:
    """Compare paired scores by the corrected resampled t-test of Nadeau and Bengio (2003).

    Training sets of different folds share subjects, so the scores are not independent and the
    ordinary t-test finds differences that are not there. The correction adds the ratio of test to
    training size to 1 / number of folds in the variance of the mean.

    Parameters
    ----------
    first, second
        Score per fold (K,); folds in which either is NaN are left out.
    test_ratio
        Number of test subjects divided by the number of training subjects.

    Returns
    -------
    Comparison
    """
    from scipy.stats import t as student

    differences = np.asarray(first, float) - np.asarray(second, float)
    differences = differences[~np.isnan(differences)]
    k = len(differences)
    if k == 0:
        return Comparison(np.nan, 0, 0, np.nan)
    mean, wins = float(differences.mean()), int((differences > 0).sum())
    if k < 2:
        return Comparison(mean, wins, k, np.nan)
    variance = (1 / k + test_ratio) * differences.var(ddof=1)
    if variance < 1e-24:
        return Comparison(mean, wins, k, 1.0 if abs(mean) < 1e-12 else 0.0)
    p = 2 * float(student.sf(abs(mean) / np.sqrt(variance), k - 1))
    return Comparison(mean, wins, k, p)
