"""The predictions as CSV files: one row per trial, one row per subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.participants import FACTORS


@dataclass(frozen=True)
class Schema:
    """What a table of predictions holds.

    Attributes
    ----------
    name
        Of the file, for messages.
    ids
        Columns that together name a row.
    values
        Columns of predictions, each with its lowest and highest value.
    """

    name: str
    ids: tuple[str, ...]
    values: dict[str, tuple[float, float]]

    @property
    def columns(self) -> list[str]:
        """All columns, in order."""
        return [*self.ids, *self.values]


ANY = (-np.inf, np.inf)
CHALLENGE1 = Schema(
    "challenge1.csv",
    ("recording", "trial"),
    {"predicted_rt": (0.5, 2.5), "p_correct": (0.0, 1.0)},
)
CHALLENGE2 = Schema("challenge2.csv", ("subject",), {f"predicted_{name}": ANY for name in FACTORS})


def challenge1_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Make the table of challenge 1: response time and chance of success of each trial.

    Parameters
    ----------
    predictions
        One row per trial window, with the columns of `CHALLENGE1` among others.

    Returns
    -------
    pandas.DataFrame
        `recording`, `trial`, `predicted_rt` (s), `p_correct`.

    Raises
    ------
    UserError
        When it does not hold what it should.
    """
    return _table(predictions, CHALLENGE1)


def challenge2_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Make the table of challenge 2: the four factors of each subject.

    Parameters
    ----------
    predictions
        With the columns of `CHALLENGE2` among others; one row per subject, or one per window, of
        which a subject's mean is taken.

    Returns
    -------
    pandas.DataFrame
        `subject`, `predicted_p_factor`, … `predicted_externalizing`.

    Raises
    ------
    UserError
        When it does not hold what it should.
    """
    _check_columns(predictions, CHALLENGE2)
    windows = predictions[CHALLENGE2.columns]
    return _table(windows.groupby("subject", as_index=False).mean(), CHALLENGE2)


def _check_columns(predictions: pd.DataFrame, schema: Schema) -> None:
    missing = [name for name in schema.columns if name not in predictions]
    if missing:
        found = ", ".join(map(str, predictions.columns)) or "none"
        raise UserError(f"{schema.name}: no column {missing[0]}; found {found}")


def _table(predictions: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    _check_columns(predictions, schema)
    table = predictions[schema.columns].sort_values(list(schema.ids), ignore_index=True)
    check_table(table, schema)
    return table


def check_table(table: pd.DataFrame, schema: Schema) -> None:
    """Check a table of predictions, as made here or read from a file.

    Raises
    ------
    UserError
        One line with the file, the row by its ids, the column, the value and what is expected:
        for other columns, no rows, a row twice, a value missing, not finite or out of its range.
    """
    if list(table.columns) != schema.columns:
        found = ", ".join(map(str, table.columns))
        raise UserError(
            f"{schema.name}: columns {found}; expected {', '.join(schema.columns)} in this order"
        )
    if table.empty:
        raise UserError(f"{schema.name}: no rows; expected one for each {' and '.join(schema.ids)}")
    ids = table[list(schema.ids)]
    for column in schema.ids:
        if ids[column].isna().any():
            place = int(np.flatnonzero(ids[column].isna())[0]) + 1
            raise UserError(f"{schema.name}: row {place} has no {column}")
    if ids.duplicated().any():
        row = _named(table, schema, int(np.flatnonzero(ids.duplicated())[0]))
        raise UserError(f"{schema.name}: {row} is there more than once")
    for column, (low, high) in schema.values.items():
        _check_values(table, schema, column, low, high)


def _check_values(
    table: pd.DataFrame, schema: Schema, column: str, low: float, high: float
) -> None:
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    wrong = ~(np.isfinite(numbers) & (numbers >= low) & (numbers <= high))
    if not wrong.any():
        return
    row = int(np.flatnonzero(wrong)[0])
    expected = "a number" if (low, high) == ANY else f"a number from {low:g} to {high:g}"
    raise UserError(
        f"{schema.name}: {column} of {_named(table, schema, row)} is {table[column].iloc[row]}; "
        f"expected {expected}"
    )


def _named(table: pd.DataFrame, schema: Schema, row: int) -> str:
    return ", ".join(f"{name} {table[name].iloc[row]}" for name in schema.ids)
