"""The aims set for the challenge's two tasks: met, not met or not applicable, with the value.

They are aims, never conditions: nothing fails because one is missed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.challenge.factors import MEAN
from hbn_foundation.evaluation.criteria import COLUMNS, NOT_APPLICABLE, Row, met_or_not
from hbn_foundation.evaluation.finetuned import FINE_TUNED


def response_time_aims(scores: pd.DataFrame) -> pd.DataFrame:
    """Compare response times and success with the aims set for them.

    Parameters
    ----------
    scores
        Of `evaluate_response_times`.

    Returns
    -------
    pandas.DataFrame
        `criterion`, `aim`, `value` (with its 95 % interval), `verdict`.
    """
    ours = scores[scores["method"] == FINE_TUNED].iloc[0]
    rows = [
        _row("response time, Pearson r over all trials", 0.3, ours, "r"),
        _row("success of a trial, AUROC", 0.7, ours, "auroc"),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def factor_aims(scores: pd.DataFrame) -> pd.DataFrame:
    """Compare the factors with the aims set for them: Pearson r over subjects.

    Parameters
    ----------
    scores
        Of `evaluate_factors`.

    Returns
    -------
    pandas.DataFrame
        `criterion`, `aim`, `value` (with its 95 % interval), `verdict`.
    """
    ours = scores[scores["method"] == FINE_TUNED].set_index("factor")
    factors = [name for name in ours.index if name != MEAN]
    rows = [_row("mean of the factors, Pearson r over subjects", 0.2, ours.loc[MEAN], "subject_r")]
    rows += [
        _row(f"{name.replace('_', ' ')}, Pearson r over subjects", 0.15, ours.loc[name],
             "subject_r")
        for name in factors
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(name: str, least: float, scores: pd.Series, score: str) -> Row:
    value, low, high = (float(scores[f"{score}{end}"]) for end in ("", "_low", "_high"))
    aim = f"> {least:g}"
    if np.isnan(value):
        return name, aim, "no score", NOT_APPLICABLE
    interval = f" ({low:.2f} to {high:.2f})" if np.isfinite([low, high]).all() else ""
    return name, aim, f"{value:.2f}{interval}", met_or_not(value > least)
