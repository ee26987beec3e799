"""The predictions as CSV files: one row per trial, one row per subject."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.participants import FACTORS

ANY = (-np.inf, np.inf)
TRIAL = ["recording", "trial"]
OF_TRIAL = {"predicted_rt": (0.5, 2.5), "p_correct": (0.0, 1.0)}
OF_SUBJECT = {f"predicted_{name}": ANY for name in FACTORS}


def challenge1_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Make the table of challenge 1: response time and chance of success of each trial.

    Parameters
    ----------
    predictions
        One row per trial window, with the columns of the table among others.

    Returns
    -------
    pandas.DataFrame
        `recording`, `trial`, `predicted_rt` (s), `p_correct`.

    Raises
    ------
    UserError
        When a column or all rows are missing, a trial is there twice, or a value is missing, not
        finite or out of its range; the line names file, row, column and value.
    """
    return _checked(predictions, "challenge1.csv", TRIAL, OF_TRIAL)


def challenge2_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Make the table of challenge 2: the four factors of each subject.

    Parameters
    ----------
    predictions
        With the columns of the table among others; one row per subject, or one per window, of
        which a subject's mean is taken.

    Returns
    -------
    pandas.DataFrame
        `subject`, `predicted_p_factor`, … `predicted_externalizing`.

    Raises
    ------
    UserError
        As `challenge1_table`.
    """
    table = _checked(predictions, "challenge2.csv", ["subject"], OF_SUBJECT, several_rows=True)
    return table.groupby("subject", as_index=False).mean()


def _checked(
    predictions: pd.DataFrame,
    file: str,
    ids: list[str],
    ranges: dict[str, tuple[float, float]],
    several_rows: bool = False,
) -> pd.DataFrame:
    """Take the columns of a table, in order; a row is named by `ids`."""
    missing = [name for name in [*ids, *ranges] if name not in predictions]
    if missing:
        found = ", ".join(map(str, predictions.columns)) or "none"
        raise UserError(f"{file}: no column {missing[0]}; found {found}")
    table = predictions[[*ids, *ranges]].sort_values(ids, ignore_index=True)
    if table.empty:
        raise UserError(f"{file}: no rows; expected one for each {' and '.join(ids)}")
    wrong = {f"there is no {name}": table[name].isna() for name in ids}
    if not several_rows:
        wrong["it is there more than once"] = table.duplicated(ids)
    for column, (low, high) in ranges.items():
        numbers = pd.to_numeric(table[column], errors="coerce")
        expected = "a number" if (low, high) == ANY else f"a number from {low:g} to {high:g}"
        named = f"{column} is {{{column}}}; expected {expected}"
        wrong[named] = ~(numbers.between(low, high) & np.isfinite(numbers))
    for problem, rows in wrong.items():
        if rows.any():
            first = table[rows].iloc[0]
            row = ", ".join(f"{name} {first[name]}" for name in ids)
            raise UserError(f"{file}: {row}: {problem.format(**first)}")
    return table
