"""Sentences of the reports: who is ahead of whom, and how surely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.challenge.scoring import BASELINE, MODEL
from hbn_foundation.evaluation.statistics import FIXED_MODEL, level

INTERVALS = (
    f"{FIXED_MODEL} Trials and windows of one person resemble each other, so resampling those "
    "would give intervals that are far too narrow."
)
_FITTED = "Fitted on training subjects, {}, scored on the model's own test windows."
BASELINES_OF_TIMES = _FITTED.format("their strength or size chosen on validation subjects")
BASELINES_OF_FACTORS = _FITTED.format(
    "the strength of their ridge regressions chosen by folds of these"
)
AHEAD = (
    "How much better the model is than the method, both scored on the same resampled subjects; "
    "below zero the method is better."
)
OF_BOTH = {
    "learning_curve": (
        "How many subjects it takes",
        "Scores on the same test subjects with labels of a part of the training subjects; means "
        "over seeds, bands one standard deviation (ddof 1).",
    ),
    "training": (
        "Course of the training",
        "Scores are of validation subjects, which chose the epoch that is kept. The training loss "
        "is taken with dropout and hidden channels, so it may lie above; dashed: blocks join.",
    ),
}
"""Heading and reading of the figures that both reports have."""


def about_intervals(metrics: Mapping[str, Any]) -> str:
    """Say what the intervals are, or why no score has one."""
    missing = metrics.get("interval_missing")
    return f" No intervals: {missing}." if missing else f" {FIXED_MODEL}"


def number(value: float, digits: int = 3, factor: float = 1.0, signed: bool = False) -> str:
    """Write a number; nothing where there is none."""
    if pd.isna(value):
        return ""
    rounded = round(factor * value, digits) + 0.0  # no minus before zero
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def value_text(row: pd.Series, name: str, digits: int = 3, factor: float = 1.0) -> str:
    """Write a score; a dash where there is none."""
    return number(row[name], digits, factor) or "–"


def interval_text(
    row: pd.Series, name: str, digits: int = 3, factor: float = 1.0, signed: bool = False
) -> str:
    """Write the interval of a score; nothing where there is none."""
    ends = [row.get(f"{name}_{end}", np.nan) for end in ("low", "high")]
    if pd.isna(ends).any():
        return ""
    return " to ".join(number(end, digits, factor, signed) for end in ends)


def long_text(row: pd.Series, name: str) -> str:
    """Write a score and its interval for a sentence: `0.912 (95 % 0.881 to 0.940)`."""
    ends = interval_text(row, name)
    return value_text(row, name) + (f" (95 % {ends})" if ends else "")


def short_text(row: pd.Series, name: str) -> str:
    """Write a score and its interval for a narrow column: `0.912 (0.88–0.94)`."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    ends = "" if pd.isna(low) or pd.isna(high) else f" ({number(low, 2)}–{number(high, 2)})"
    return f"{value_text(row, name)}{ends}"


def rival(scores: pd.DataFrame) -> pd.Series | None:
    """Find the best baseline in a table sorted best first; None without any."""
    baselines = scores[scores["kind"] == BASELINE]
    return None if baselines.empty else baselines.iloc[0]


def own(scores: pd.DataFrame) -> pd.Series:
    """Find the model's row."""
    return scores[scores["kind"] == MODEL].iloc[0]


def verdict_text(scores: pd.DataFrame, name: str) -> str:
    """Say whether the model is ahead of the best baseline, by how much and how surely.

    Parameters
    ----------
    scores
        One row per method, sorted best first by this score.
    name
        Of a score that was compared, see `score_row`.
    """
    best = rival(scores)
    if best is None:
        return "No baseline stands beside it."
    gap = best[f"{name}_ahead"]
    sign = -1 if gap < 0 else 1
    low, high = sorted(sign * best[f"{name}_ahead_{end}"] for end in ("low", "high"))
    against = f"the best baseline, {best['name']} ({value_text(best, name)})"
    if pd.isna(gap):
        return f"It cannot be compared with {against}."
    interval, sure = "", "; how surely is not known"
    if not pd.isna(low):
        interval = f" (95 % {number(low)} to {number(high)})"
        sure = ": not surely, the interval includes zero" if low <= 0 <= high else ""
    if level(gap):
        return f"It is level with {against}."
    if gap > 0:
        return f"It is ahead of {against}, by {number(gap)}{interval}{sure}."
    return f"It is NOT ahead of {against}: behind by {number(-gap)}{interval}{sure}."
