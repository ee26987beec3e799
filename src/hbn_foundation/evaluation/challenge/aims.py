"""The aims set for the challenge's two tasks: met, not met, undecided or not applicable.

They are aims, never conditions: nothing fails because one is missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.challenge.factors import MEAN
from hbn_foundation.evaluation.challenge.wording import interval_text, number
from hbn_foundation.evaluation.criteria import (
    COLUMNS,
    NOT_APPLICABLE,
    Row,
    met_or_not,
    verdict_of,
)
from hbn_foundation.evaluation.finetuned import FINE_TUNED

TABLE_PROBLEM = "table_problem"


def response_time_aims(scores: pd.DataFrame, metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Compare response times and success with the aims set for them.

    Parameters
    ----------
    scores
        Of `evaluate_response_times`.
    metrics
        With `n_subjects`; `table_problem` is what is wrong with the CSV of predictions, None for
        nothing; where it was not looked at, its row is left out.

    Returns
    -------
    pandas.DataFrame
        `criterion`, `aim`, `value` (with its 95 % interval), `verdict`.
    """
    ours = scores[scores["method"] == FINE_TUNED].iloc[0]
    rows = [
        _row("response time, Pearson r over all trials", 0.3, ours, "r", metrics),
        _row("success of a trial, AUROC", 0.7, ours, "auroc", metrics),
        *_table_row(metrics),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def factor_aims(scores: pd.DataFrame, metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Compare the factors with the aims set for them: Pearson r over subjects.

    Parameters
    ----------
    scores
        Of `evaluate_factors`.
    metrics
        As for `response_time_aims`.

    Returns
    -------
    pandas.DataFrame
        `criterion`, `aim`, `value` (with its 95 % interval), `verdict`.
    """
    ours = scores[scores["method"] == FINE_TUNED]
    ours = ours.sort_values("factor", key=lambda names: names != MEAN, kind="stable")
    rows: list[Row] = []
    for _, row in ours.iterrows():
        of_mean = row["factor"] == MEAN
        name = "mean of the factors" if of_mean else str(row["factor"]).replace("_", " ")
        least = 0.2 if of_mean else 0.15
        rows.append(_row(f"{name}, Pearson r over subjects", least, row, "subject_r", metrics))
    rows += _table_row(metrics)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _table_row(metrics: Mapping[str, Any]) -> list[Row]:
    if TABLE_PROBLEM not in metrics:
        return []
    problem = metrics[TABLE_PROBLEM]
    return [("CSV of the predictions", "valid", problem or "valid", met_or_not(not problem))]


def _row(name: str, least: float, scores: pd.Series, score: str, metrics: Mapping[str, Any]) -> Row:
    value = float(scores[score])
    aim = f"> {least:g}"
    if np.isnan(value):
        return name, aim, "no score", NOT_APPLICABLE
    ends = interval_text(scores, score, 2)
    text = f"{number(value, 2)} ({ends or 'no interval'})"
    return name, aim, text, verdict_of(value > least, metrics["n_subjects"])
