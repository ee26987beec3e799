"""Score methods with intervals over subjects, and how far one is ahead of another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.metrics import Interval, interval_of, no_interval, resampled
from hbn_foundation.labels.metric_names import LOWER_IS_BETTER

MODEL = "model"
BASELINE = "baseline"
REFERENCE = "reference"
KINDS = (MODEL, BASELINE, REFERENCE)


class Part(NamedTuple):
    """Items of one kind, windows or subjects, and the scores that are made of them.

    Attributes
    ----------
    subjects
        Subject of each item (N,).
    score
        Scores by name from the places of items; always the same names, NaN where there is none.
    """

    subjects: np.ndarray
    score: Callable[[np.ndarray], dict[str, float]]


class Score(NamedTuple):
    """A score with what resampling the subjects gives.

    Attributes
    ----------
    value
        Of all items.
    interval
        95 %, or why there is none.
    draws
        Of each resample (n,); empty without resampling.
    """

    value: float
    interval: Interval
    draws: np.ndarray


def score_parts(parts: Iterable[Part], n_samples: int, seed: int = 0) -> dict[str, Score]:
    """Score all parts, each on resamples of its own subjects."""
    scores: dict[str, Score] = {}
    for part in parts:
        values = part.score(np.arange(len(part.subjects)))
        reason = no_interval(part.subjects, n_samples)
        draws = np.empty((0, len(values)))
        if not reason:
            draws = resampled(lambda chosen, of=part: list(of.score(chosen).values()),  # type: ignore[misc]
                              part.subjects, n_samples, seed)  # fmt: skip
        for (name, value), column in zip(values.items(), draws.T, strict=True):
            ends = Interval(np.nan, np.nan, reason) if reason else interval_of(column)
            scores[name] = Score(value, ends, column)
    return scores


def ahead(ours: Score, theirs: Score, name: str) -> tuple[float, Interval]:
    """How much better one method is than another, paired over resampled subjects.

    Parameters
    ----------
    ours, theirs
        Of the same items and resamples.
    name
        Of the score; for errors the smaller is the better.
    """
    sign = -1.0 if lower_is_better(name) else 1.0
    reason = ours.interval.missing or theirs.interval.missing
    if reason:
        return sign * (ours.value - theirs.value), Interval(np.nan, np.nan, reason)
    return sign * (ours.value - theirs.value), interval_of(sign * (ours.draws - theirs.draws))


def lower_is_better(name: str) -> bool:
    """Tell whether a score is an error; `window_nrmse` is one as `nrmse` is."""
    return name.rsplit("_", 1)[-1] in LOWER_IS_BETTER


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
