"""Resample subjects to see how surely one way of fine-tuning is ahead of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.finetuning import WINDOW_SCORES, score_windows
from hbn_foundation.evaluation.metrics import FEWEST_SUBJECTS, Interval, interval_of
from hbn_foundation.progress import track

PLACE = ["repeat", "fold", "seed", "method"]
NUMBER = "predicted"
CLASS = "log_p_"


def long_predictions(
    place: dict[str, object], subjects: np.ndarray, values: np.ndarray, predictions: np.ndarray
) -> pd.DataFrame:
    """Predictions of one run on its test windows, to be stacked with those of others.

    Parameters
    ----------
    place
        `repeat`, `fold`, `seed` and `method` of the run.
    subjects, values
        Subject and class or number of each window (N,).
    predictions
        Log probabilities (N, K), or numbers (N,).

    Returns
    -------
    pandas.DataFrame
        N rows: the place, `subject`, `value`, and `predicted` or `log_p_0`, `log_p_1`, …
    """
    columns = [predictions] if predictions.ndim == 1 else list(predictions.T)
    names = [NUMBER] if predictions.ndim == 1 else [f"{CLASS}{k}" for k in range(len(columns))]
    table = {
        **place,
        "subject": subjects,
        "value": values,
        **dict(zip(names, columns, strict=True)),
    }
    return pd.DataFrame(table)


def resampled_scores(
    predictions: pd.DataFrame, score: str, n_samples: int, seed: int = 0
) -> pd.DataFrame:
    """Score every method and fold on the same resamples of all subjects.

    A resample draws as many subjects of the data set as there are, with replacement; a subject
    drawn twice counts twice wherever it is tested. So what repeats share, their subjects, is
    resampled once (cluster bootstrap, Field and Welsh 2007).

    Parameters
    ----------
    predictions
        Stacked `long_predictions`.
    score
        One of windows; without a known one the result is empty.
    n_samples, seed
        How many resamples, and which ones.

    Returns
    -------
    pandas.DataFrame
        Index `method`, `repeat`, `fold`; one column per resample: the score, averaged over
        seeds. NaN where a fold has none. Empty with fewer than 5 subjects.
    """
    names, codes = np.unique(predictions["subject"].astype(str), return_inverse=True)
    if n_samples < 1 or len(names) < FEWEST_SUBJECTS or score not in WINDOW_SCORES:
        return pd.DataFrame()
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_samples)
    outputs = [name for name in predictions if str(name).startswith(CLASS)]
    values = predictions["value"].to_numpy()
    answers = predictions[outputs or NUMBER].to_numpy(dtype=np.float64)
    if outputs:
        values = values.astype(np.int64)
    rows = []
    groups = predictions.reset_index(drop=True).groupby(PLACE, dropna=False).indices
    for place, inside in track(groups.items(), "resampling subjects", total=len(groups)):
        row: dict[Any, Any] = dict(zip(PLACE, tuple(place), strict=True))  # type: ignore[arg-type]
        drawn = [np.repeat(inside, count[codes[inside]]) for count in counts]
        row |= {
            number: score_windows(values[chosen], answers[chosen], score) if len(chosen) else np.nan
            for number, chosen in enumerate(drawn)
        }
        rows.append(row)
    table = pd.DataFrame(rows).drop(columns="seed")
    return table.groupby(["method", "repeat", "fold"]).mean()


def difference_interval(resampled: pd.DataFrame, first: str, second: str, sign: float) -> Interval:
    """95 % interval of sign · (first − second), paired by fold, over resampled subjects.

    Parameters
    ----------
    resampled
        Of `resampled_scores`.
    first, second
        Methods.
    sign
        −1 for scores of which the smaller is better.
    """
    methods = set() if resampled.empty else set(resampled.index.get_level_values("method"))
    if not {first, second} <= methods:
        return Interval(np.nan, np.nan, "too few subjects, or no predictions")
    ours, theirs = resampled.xs(first, level="method"), resampled.xs(second, level="method")
    return interval_of(np.asarray((sign * (ours - theirs)).mean(axis=0)))
