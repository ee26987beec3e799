"""Which windows are scored, and that every method is scored on the same ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.finetuning_baselines import chosen_windows
from hbn_foundation.labels.params import SPLITS
from hbn_foundation.labels.targets import WindowTargets

PLACE = ["recording", "start"]


def baseline_windows(
    windows: pd.DataFrame, splits: pd.DataFrame, value: str, max_windows: int, seed: int
) -> pd.DataFrame:
    """Windows that baselines use, with their `split`: all of the test, others thinned evenly.

    Parameters
    ----------
    windows
        Windows table.
    splits
        `subject` and `split`.
    value
        Column that must be known.
    max_windows, seed
        Most training and most validation windows, and which ones.

    Raises
    ------
    UserError
        When a split has no window whose value is known.
    """
    values = windows[value].to_numpy(dtype=np.float64)
    targets = WindowTargets(values, (value,), is_regression=True)
    chosen = chosen_windows(windows, splits, targets, max_windows, seed)
    table = windows.iloc[chosen].reset_index(drop=True)
    table["split"] = table["subject"].map(splits.set_index("subject")["split"])
    for name in SPLITS:
        if not (table["split"] == name).any():
            raise UserError(f"evaluation: no window of the {name} subjects has a known {value}")
    return table


def with_columns(windows: pd.DataFrame, people: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Put what is known of a window's subject beside it, NaN where nothing is known."""
    known = people.assign(subject=people["subject"].astype(str)).set_index("subject")[columns]
    of_windows = known.reindex(windows["subject"].astype(str)).reset_index(drop=True)
    bare = windows.drop(columns=columns, errors="ignore").reset_index(drop=True)
    return pd.concat([bare, of_windows], axis=1)


def matched(
    predictions: pd.DataFrame, test: pd.DataFrame, columns: list[str], name: str
) -> pd.DataFrame:
    """Bring predictions into the order of the test windows, each of which must have one.

    Parameters
    ----------
    predictions
        `recording`, `start` and `columns`, one row per window.
    test
        `recording` and `start` of the windows that are scored (N rows).
    columns
        Columns wanted.
    name
        What the predictions are called in the message.

    Returns
    -------
    pandas.DataFrame
        The columns, N rows.

    Raises
    ------
    UserError
        When a column is missing, a window has no prediction, two, or one that is not finite, or a
        prediction is of no test window.
    """
    missing = [column for column in [*PLACE, *columns] if column not in predictions]
    if missing:
        raise UserError(f"{name}: no column {missing[0]}; expected {', '.join(columns)}")
    twice = predictions.duplicated(PLACE)
    if twice.any():
        raise UserError(f"{name}: {_window(predictions[twice])} is predicted twice")
    wanted = pd.MultiIndex.from_frame(test[PLACE])
    found = predictions.set_index(PLACE)[columns]
    places = pd.MultiIndex.from_frame(predictions[PLACE])
    for what, others in (
        ("has no prediction", wanted.difference(places)),
        ("is predicted, but is no test window", places.difference(wanted)),
    ):
        if len(others):
            raise UserError(
                f"{name}: {_window(others.to_frame())} {what} ({len(others)} such windows)"
            )
    result = found.loc[wanted].reset_index(drop=True).astype(float)
    wrong = ~np.isfinite(result.to_numpy()).all(1)
    if wrong.any():
        raise UserError(f"{name}: the prediction of {_window(test[wrong])} is not finite")
    return result


def _window(windows: pd.DataFrame) -> str:
    return f"the window of {windows['recording'].iloc[0]} from sample {windows['start'].iloc[0]} on"
