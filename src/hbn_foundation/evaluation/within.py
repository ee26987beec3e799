"""Scores within subjects, averaged over strata of subjects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.statistics import Part
from hbn_foundation.labels.strata import STRATUM
from hbn_foundation.progress import say
from hbn_foundation.scores import stratified_mean


def within_part(scores: pd.Series, strata: pd.Series, metric: Any, n_windows: int = 0) -> Part:
    """Make a part whose items are subjects: a score is the mean over strata of their means.

    Parameters
    ----------
    scores
        Of each subject, by subject; those that are NaN are left out.
    strata
        Of each subject, by subject.
    metric, n_windows
        Name of the score, and windows that it is made of.
    """
    known = scores.dropna()
    levels, codes = np.unique(strata.loc[known.index].astype(str), return_inverse=True)
    values = known.to_numpy(dtype=np.float64)

    def score(chosen: np.ndarray) -> dict[Any, float]:
        return {metric: stratified_mean(values[chosen], codes[chosen], len(levels))}

    return Part(known.index.to_numpy(), score, n_windows, without="lack one of the strata")


def stratum_of(windows: pd.DataFrame) -> pd.Series:
    """Stratum of each subject of windows, by subject."""
    each = windows.drop_duplicates("subject")
    return pd.Series(each[STRATUM].to_numpy(), index=each["subject"].astype(str).to_numpy())


def about_strata(windows: pd.DataFrame, values: np.ndarray) -> dict[str, Any]:
    """Count the test subjects of each stratum, and those of one class; say both.

    Windows are those of the test subjects, whose classes are `values` (N,). Empty where scores
    are not stratified.
    """
    if STRATUM not in windows:
        return {}
    classes = pd.Series(values).groupby(windows["subject"].astype(str).to_numpy()).nunique()
    strata = stratum_of(windows)
    counts = strata[classes.index[classes > 1]].value_counts().sort_index()
    words = ", ".join(f"{name} {count_of(int(n), 'test subject')}" for name, n in counts.items())
    left_out = int((classes < 2).sum())
    also = f"; {count_of(left_out, 'test subject')} of one class left out" if left_out else ""
    say(f"AUROC within subjects, averaged over strata: {words or 'none'}{also}")
    return {"strata": {str(name): int(n) for name, n in counts.items()}, "one_class": left_out}
