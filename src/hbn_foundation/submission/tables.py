"""The predictions as CSV files: one row per trial, one row per subject."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.participants import FACTORS

ANY = (-np.inf, np.inf)
#: By challenge: columns that together name a row, and those of predictions with their ranges.
IDS = {1: ["recording", "trial"], 2: ["subject"]}
RANGES = {
    1: {"predicted_rt": (0.5, 2.5), "p_correct": (0.0, 1.0)},
    2: {f"predicted_{name}": ANY for name in FACTORS},
}


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
        When it does not hold what it should (`check_table`).
    """
    return _table(predictions, 1)


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
        When it does not hold what it should (`check_table`).
    """
    return _table(predictions, 2)


def _table(predictions: pd.DataFrame, challenge: int) -> pd.DataFrame:
    columns = [*IDS[challenge], *RANGES[challenge]]
    missing = [name for name in columns if name not in predictions]
    if missing:
        found = ", ".join(map(str, predictions.columns)) or "none"
        raise UserError(f"challenge{challenge}.csv: no column {missing[0]}; found {found}")
    table = predictions[columns]
    if challenge == 2:
        table = table.groupby("subject", as_index=False).mean()
    table = table.sort_values(IDS[challenge], ignore_index=True)
    check_table(table, challenge)
    return table


def check_table(table: pd.DataFrame, challenge: int) -> None:
    """Check a table of predictions of a challenge, as made here or read from a file.

    Raises
    ------
    UserError
        One line with the file, the row by its ids, the column, the value and what is expected:
        for other columns, no rows, a row twice, a value missing, not finite or out of its range.
    """
    problem = _problem(table, IDS[challenge], RANGES[challenge])
    if problem is not None:
        raise UserError(f"challenge{challenge}.csv: {problem}")


def _problem(
    table: pd.DataFrame, ids: list[str], ranges: dict[str, tuple[float, float]]
) -> str | None:
    def row(wrong: pd.Series) -> str:
        return ", ".join(f"{name} {table.loc[wrong, name].iloc[0]}" for name in ids)

    if list(table.columns) != [*ids, *ranges]:
        found = ", ".join(map(str, table.columns))
        return f"columns {found}; expected {', '.join([*ids, *ranges])} in this order"
    if table.empty:
        return f"no rows; expected one for each {' and '.join(ids)}"
    for column in ids:
        unknown = np.flatnonzero(table[column].isna())
        if len(unknown):
            return f"row {unknown[0] + 1} has no {column}"
    twice = table.duplicated(ids)
    if twice.any():
        return f"{row(twice)} is there more than once"
    for column, (low, high) in ranges.items():
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = ~(numbers.between(low, high) & np.isfinite(numbers))
        if wrong.any():
            expected = "a number" if (low, high) == ANY else f"a number from {low:g} to {high:g}"
            value = table.loc[wrong, column].iloc[0]
            return f"{column} of {row(wrong)} is {value}; expected {expected}"
    return None
