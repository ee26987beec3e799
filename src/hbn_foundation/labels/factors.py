"""What is known about a person beside the EEG: the four psychopathology factors, age and sex."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError

FACTORS = ("p_factor", "attention", "internalizing", "externalizing")
EXCLUDED_SUBJECTS = frozenset(
    {
        "NDARWV769JM7",
        "NDARME789TD2",
        "NDARUA442ZVF",
        "NDARJP304NK1",
        "NDARTY128YLU",
        "NDARDW550GU6",
        "NDARLD243KRE",
        "NDARUJ292JXV",
        "NDARBA381JGH",
    }
)
"""Subjects that the challenge leaves out because of their recordings."""

SEXES = dict.fromkeys(("f", "female", "w", "woman", "girl"), 0.0) | dict.fromkeys(
    ("m", "male", "man", "boy"), 1.0
)


def factor_table(participants: pd.DataFrame) -> pd.DataFrame:
    """Pick factors, age and sex from the participants table.

    Parameters
    ----------
    participants
        Table with the column `subject`; a data set that lacks any of the others has it unknown.

    Returns
    -------
    pandas.DataFrame
        One row per subject: `subject`, the `FACTORS`, `age` (years), `sex` (0 female, 1 male);
        NaN where unknown.

    Raises
    ------
    UserError
        When a factor or an age is not a number.
    """
    subjects = participants["subject"].astype(str).reset_index(drop=True)
    table = pd.DataFrame({"subject": subjects})
    for name in (*FACTORS, "age"):
        table[name] = _numbers(participants, name)
    sexes = participants.get("sex", pd.Series(index=participants.index, dtype=object))
    words = sexes.map(lambda sex: str(sex).strip().lower()).reset_index(drop=True)
    table["sex"] = words.map(SEXES).astype(float)
    return table


def challenge_subjects(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the subjects that the challenge scores: all factors known, and not excluded."""
    known = table[list(FACTORS)].notna().all(axis=1)
    return table[known & ~table["subject"].isin(EXCLUDED_SUBJECTS)].reset_index(drop=True)


def _numbers(participants: pd.DataFrame, name: str) -> pd.Series:
    if name not in participants:
        return pd.Series(np.nan, index=range(len(participants)), dtype=float)
    column = participants[name].reset_index(drop=True)
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = column.notna() & ~np.isfinite(numbers)
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        subject = participants["subject"].iloc[place]
        raise UserError(
            f"participants.tsv: {name} of subject {subject} is {column[place]}, expected a number "
            "or n/a"
        )
    return numbers
