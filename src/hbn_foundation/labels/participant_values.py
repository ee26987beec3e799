"""Make numbers, and one spelling of sex, of what participants.tsv has as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.labels.factors import FACTORS, SEXES
from hbn_foundation.labels.targets import MOST_CATEGORIES
from hbn_foundation.labels.wording import some
from hbn_foundation.progress import say_once
from hbn_foundation.sidecars import UnreadableSidecar, read_json

OTHER_NAMES = {"age": ("age",), "sex": ("sex", "gender")}
NUMBER = re.compile(r"[>≥]?=? *([-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:e[-+]?\d+)?)\+?", re.IGNORECASE)
UNKNOWN = ("na", "null", "none", "#n/a", ".", "-", "?")
"""What besides `n/a` means unknown among numbers and sexes; elsewhere it may be a value."""


def read_values(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Read the columns of a participants table, and tell what was guessed and what is unknown.

    Parameters
    ----------
    table
        Texts, None where missing; the first column, `subject`, stays as it is.
    path
        The participants.tsv, for messages; participants.json beside it explains codes of sex.

    Returns
    -------
    pandas.DataFrame
        The same rows: columns of numbers as numbers, NaN where a value is none; `age` and `sex`
        under these names; `sex` in one spelling.
    """
    table = table.copy()
    for name, others in OTHER_NAMES.items():
        found = [column for column in table.columns if str(column).lower() in others]
        if found and name not in table:
            say_once(f"{path}: column {found[0]} is read as {name}")
            table[name] = table[found[0]]
    if "sex" in table:
        table["sex"] = _sexes(table["sex"], path)
    for name in table.columns[1:]:
        table[name] = _numbers(table[name], str(name), path)
    return table


def _numbers(texts: pd.Series, name: str, path: Path) -> pd.Series:
    """Read a column of numbers as such; any other one is returned as it is.

    It is of numbers where all known values are, or most of them and so many different ones that
    they are no classes, or where it can be of nothing else.
    """
    known = texts.dropna().astype(str)
    numbers = known.map(_number).astype(float)
    bad = known[numbers.isna()]
    many = len(bad) < len(known) / 2 and numbers.nunique() > MOST_CATEGORIES
    only_numbers = bool(numbers.notna().any()) and bad.str.lower().isin(UNKNOWN).all()
    if known.empty or not (only_numbers or many or name in ("age", *FACTORS)):
        return texts
    read = known[numbers.notna()]
    powers = read.str.contains("e", case=False)
    if numbers[read.index[powers]].isin(numbers[read.index[~powers]]).any():
        return texts  # 1e3 beside 1000 is a name
    odd = read[read.str.contains(r",|\+$|^[>≥]", regex=True)]
    if len(odd):
        say_once(
            f"{path}: {name}: {len(odd)} of {len(known)} values are written as {odd.iloc[0]} is, "
            f"which is read as {numbers[odd.index[0]]:g}"
        )
    if len(bad):
        share = "none" if len(bad) == len(known) else f"{len(known) - len(bad)}"
        say_once(
            f"{path}: {name}: {share} of {len(known)} values recognised as a number; unknown are "
            f"{some(dict.fromkeys(bad), 3)}"
        )
    whole = len(numbers) == len(texts) and not len(bad) and bool((numbers % 1 == 0).all())
    # without gaps whole numbers stay whole, so that a class is 1 and not 1.0
    return (numbers.astype("int64") if whole else numbers).reindex(texts.index)


def _number(text: str) -> float | None:
    match = NUMBER.fullmatch(text.strip())
    return float(match[1].replace(",", ".")) if match else None


def _sexes(texts: pd.Series, path: Path) -> pd.Series:
    """Write F, M and O where there are several spellings, or codes that a sidecar explains."""
    texts = texts.mask(texts.astype(str).str.lower().isin(UNKNOWN), None)
    known = texts.dropna().astype(str)
    levels = _levels(path.with_suffix(".json"))
    meant = [_letter(levels.get(text, text)) for text in known]
    letters = pd.Series(meant, index=known.index, dtype=object)
    strange = known[letters.isna()]
    if len(strange):
        share = "none" if len(strange) == len(known) else f"{len(known) - len(strange)}"
        say_once(
            f"{path}: sex: {share} of {len(known)} values recognised as F or M; unknown are "
            f"{some(sorted(set(strange)), 3)}"
        )
    spellings = known.groupby(letters).nunique()
    explained = any(_letter(text) is None for text in known[letters.notna()])
    if not (spellings > 1).any() and not explained:
        return texts
    say_once(
        f"{path}: sex is written {some(sorted(set(known) - set(strange)), 9)}; read as "
        f"{', '.join(sorted(set(letters.dropna())))}"
    )
    return letters.fillna(known).reindex(texts.index)


def _letter(word: str) -> str | None:
    first = re.split(r"\W", word.strip().lower(), maxsplit=1)[0]
    if first in ("o", "other"):
        return "O"
    return {0.0: "F", 1.0: "M"}.get(SEXES.get(first, -1.0))


def _levels(path: Path) -> dict[str, str]:
    """Read what the codes of sex mean; nothing where no sidecar says so."""
    if not path.is_file():
        return {}
    try:
        sidecar: Any = read_json(path).get("sex", {})
    except UnreadableSidecar as error:
        say_once(f"{path.parent}: {error}")
        return {}
    levels = sidecar.get("Levels") if isinstance(sidecar, dict) else None
    if not isinstance(levels, dict):
        return {}
    return {str(key): str(value) for key, value in levels.items()}
