"""Intervals and tests of all tables and figures.

The unit is the subject. One model on one test split has a BCa bootstrap interval over the test
subjects, which holds the trained model fixed. Repeated splits have the corrected resampled t-test
with its interval. Several comparisons are corrected by Holm's method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import count_of

FEWEST_SUBJECTS = 10
"""Test subjects that an interval or a verdict on a criterion needs."""
MOST_WITHOUT_SCORE = 0.1
ALIKE = "all resamples score alike"
SIGNIFICANT = 0.05
FIXED_MODEL = (
    "Intervals: 95 %, BCa bootstrap over test subjects; they hold the trained model fixed."
)
CORRECTED_T = (
    "corrected resampled t over folds (Nadeau and Bengio 2003), p corrected by Holm's method over "
    "the rows; ± is the standard deviation (ddof 1)."
)


class Interval(NamedTuple):
    """Ends of an interval, NaN where there is none, and then why."""

    low: float
    high: float
    missing: str = ""


class Part(NamedTuple):
    """Items of one kind, windows or subjects, and the scores that are made of them."""

    subjects: np.ndarray  # of each item (N,)
    #: Scores by name from the places of items; always the same names, NaN where there is none.
    score: Callable[[np.ndarray], Mapping[Any, float]]
    n_windows: int = 0  # that the items stand for
    resample: bool = True  # whether these scores have intervals
    without: str = "have no score"  # why resamples have none, for the message


class Score(NamedTuple):
    """A score with what resampling the subjects gives."""

    value: float  # of all items
    interval: Interval  # 95 %, or why there is none
    draws: np.ndarray  # of each resample (n,); empty without resampling
    left_out: np.ndarray  # without each subject in turn (S,); empty without resampling


class Comparison(NamedTuple):
    """One method against another over the same folds.

    `p` and the interval are NaN with fewer than two folds, with a fold without a score, or with
    the same difference in each fold; `interval.missing` says which.
    """

    difference: float  # mean of first − second over the folds in which both have a score
    wins: int  # folds in which the first is ahead
    p: float  # two-sided, of the corrected resampled t-test
    interval: Interval  # 95 %, of the difference by the same test


def level(gap: float) -> bool:
    """Tell whether two scores are the same to the three digits that are written."""
    return abs(gap) < 5e-4


def resampled(
    score: Callable[[np.ndarray], Any], subjects: np.ndarray, n_samples: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Score resamples of whole subjects, drawn with replacement, and all without each subject.

    Windows of one person resemble each other, so resampling windows would give intervals that are
    far too narrow (cluster bootstrap, Field and Welsh 2007).

    Parameters
    ----------
    score
        One number, or several (k,), of the items at these places.
    subjects
        Subject of each item (N,). The same subjects in the same order are drawn alike, whatever
        is scored, so that two methods can be compared resample by resample.

    Returns
    -------
    draws, left_out : numpy.ndarray
        (n_samples,) or (n_samples, k) of the resamples; (S,) or (S, k) without each subject.
    """
    codes, names = pd.factorize(subjects)
    order = np.argsort(codes, kind="stable")
    places = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    random = np.random.default_rng(seed)
    draws = []
    for _ in range(n_samples):
        drawn = random.integers(len(names), size=len(names))
        draws.append(score(np.concatenate([places[i] for i in drawn])))
    left_out = [score(np.flatnonzero(codes != code)) for code in range(len(names))]
    return np.array(draws), np.array(left_out)


def bca_interval(
    value: float, draws: np.ndarray, left_out: np.ndarray, without: str = "have no score"
) -> Interval:
    """95 % bias-corrected and accelerated bootstrap interval (Efron 1987).

    `scipy.stats.bootstrap` gives the same, but draws anew for each pair of methods and gives NaN
    where a resample has no score.

    It takes the score, those of resamples (n,), NaN where there is none, and without each subject
    in turn (S,); `without` says why resamples have no score. There are no ends where too many
    resamples have no score, or all have the same one.
    """
    from scipy.stats import norm

    missing = float(np.isnan(draws).mean())
    if missing > MOST_WITHOUT_SCORE:
        return Interval(np.nan, np.nan, f"{missing:.0%} of the resamples {without}")
    if np.isnan(value) or np.isnan(left_out).any():
        return Interval(np.nan, np.nan, "no score without one of the subjects")
    known = draws[~np.isnan(draws)]
    below = ((known < value).mean() + (known <= value).mean()) / 2
    if np.ptp(known) <= 1e-12 * max(1.0, abs(value)):
        return Interval(np.nan, np.nan, ALIKE)
    if not 0 < below < 1:
        return Interval(np.nan, np.nan, "the score lies outside those of its resamples")
    apart = left_out.mean() - left_out
    spread = 6 * (apart**2).sum() ** 1.5
    acceleration = (apart**3).sum() / spread if spread > 0 else 0.0
    shifted = norm.ppf(below) + norm.ppf([0.025, 0.975])
    at = norm.cdf(norm.ppf(below) + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(known, at)
    return Interval(float(low), float(high))


def score_part(part: Part, n_samples: int, seed: int = 0) -> dict[Any, Score]:
    """Score a part on all its items, and on `n_samples` resamples of its own subjects."""
    values = part.score(np.arange(len(part.subjects)))
    n_subjects, missing = len(pd.unique(part.subjects)), ""
    if n_samples < 1 or not part.resample:
        missing = "none asked for"
    elif n_subjects < FEWEST_SUBJECTS:
        missing = f"{count_of(n_subjects, 'test subject')}, an interval needs {FEWEST_SUBJECTS}"
    draws = left_out = np.empty((0, len(values)))
    if not missing:
        draws, left_out = resampled(
            lambda chosen: list(part.score(chosen).values()), part.subjects, n_samples, seed
        )
    found = {}
    for place, (name, value) in enumerate(values.items()):
        of_name = draws[:, place], left_out[:, place]
        ends = Interval(np.nan, np.nan, missing)
        if not missing:
            ends = bca_interval(value, *of_name, without=part.without)
        found[name] = Score(value, ends, *of_name)
    return found


def bootstrap_interval(
    score: Callable[[np.ndarray], float], subjects: np.ndarray, n_samples: int, seed: int = 0
) -> Interval:
    """95 % interval of one score over resampled subjects; parameters as for `resampled`."""
    part = Part(subjects, lambda chosen: {"score": score(chosen)})
    return score_part(part, n_samples, seed)["score"].interval


def ahead(ours: Score, theirs: Score, greater_is_better: bool) -> tuple[float, Interval]:
    """How much better one method is than another, paired over resampled subjects.

    Both scores are of the same items and resamples.
    """
    sign = 1.0 if greater_is_better else -1.0
    gap = sign * (ours.value - theirs.value)
    if not len(ours.draws) or not len(theirs.draws):
        reason = ours.interval.missing or theirs.interval.missing
        return gap, Interval(np.nan, np.nan, reason)
    draws, left_out = ours.draws - theirs.draws, ours.left_out - theirs.left_out
    return gap, bca_interval(gap, sign * draws, sign * left_out)


def mean_interval(values: np.ndarray, n_samples: int, seed: int = 0) -> Interval:
    """95 % interval of the mean of one number per subject (S,), subjects without one left out."""
    known = values[~np.isnan(values)]
    return bootstrap_interval(
        lambda chosen: float(known[chosen].mean()) if len(chosen) else np.nan,
        np.arange(len(known)),
        n_samples,
        seed,
    )


def compare(first: np.ndarray, second: np.ndarray, test_ratio: float) -> Comparison:
    """Compare paired scores by the corrected resampled t-test of Nadeau and Bengio (2003).

    Training sets of different folds share subjects, so the scores are not independent and the
    ordinary t-test finds differences that are not there. The correction adds the ratio of test to
    training size to 1 / number of folds in the variance of the mean.

    Scores are one per fold (K,), NaN where a fold has none; `test_ratio` is the number of test
    subjects divided by that of training subjects.
    """
    from scipy.stats import t as student

    every = np.asarray(first, float) - np.asarray(second, float)
    differences = every[~np.isnan(every)]
    k, n_folds = len(differences), len(every)
    mean = float(differences.mean()) if k else np.nan
    wins = int((differences > 1e-12).sum())
    variance = (1 / k + test_ratio) * differences.var(ddof=1) if k > 1 else np.nan
    missing = ""
    if k < n_folds:
        missing = f"{n_folds - k} of {count_of(n_folds, 'fold')} without a score"
    elif k < 2:
        missing = "one fold only"
    elif variance < 1e-24:
        missing = "the same difference in every fold"
    if missing:
        return Comparison(mean, wins, np.nan, Interval(np.nan, np.nan, missing))
    deviation = float(np.sqrt(variance))
    p = 2 * float(student.sf(abs(mean) / deviation, k - 1))
    reach = float(student.ppf(0.975, k - 1)) * deviation
    return Comparison(mean, wins, p, Interval(mean - reach, mean + reach))


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p values (n,) by Holm's step-down method (1979); NaN stays and does not count."""
    result = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    result[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return result
