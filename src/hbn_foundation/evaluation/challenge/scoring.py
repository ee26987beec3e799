"""Scores of methods side by side: each with its interval, and how far the model is ahead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.methods import BASELINE, MODEL, REFERENCE
from hbn_foundation.evaluation.statistics import Interval, Score, ahead
from hbn_foundation.scores import lower_is_better

KINDS = (MODEL, BASELINE, REFERENCE)


def score_row(
    scores: Mapping[str, Score], reference: Mapping[str, Score] | None, compared: Iterable[str]
) -> dict[str, Any]:
    """Lay scores side by side: `<name>`, `<name>_low`, `<name>_high`, and who is ahead.

    Parameters
    ----------
    scores
        Of one method.
    reference
        Of the model, for `<name>_ahead` (how far the model is ahead of the method) with `_low`
        and `_high`; None for the model itself.
    compared
        Names of the scores that are compared.
    """
    row: dict[str, Any] = {}
    for name, score in scores.items():
        row |= {name: score.value, f"{name}_low": score.interval.low,
                f"{name}_high": score.interval.high}  # fmt: skip
    for name in compared:
        gap, ends = np.nan, Interval(np.nan, np.nan)
        if reference is not None:
            gap, ends = ahead(reference[name], scores[name], name)
        row |= {f"{name}_ahead": gap, f"{name}_ahead_low": ends.low,
                f"{name}_ahead_high": ends.high}  # fmt: skip
    return row


def best_first(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Sort methods by a score, references that are no fair methods behind all others."""
    order = table.assign(last=table["kind"] == REFERENCE)
    directions = [True, lower_is_better(name)]
    order = order.sort_values(["last", name], ascending=directions, kind="stable")
    return order.drop(columns="last").reset_index(drop=True)
