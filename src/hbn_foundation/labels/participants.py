"""Read what is known about the subjects of a BIDS data set.

participants.tsv is often written by hand or in spreadsheets. Interpretations that are not certain
are logged, and values that cannot be read are unknown and logged with their column and count.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hbn_foundation.bids import SEPARATOR, in_dataset
from hbn_foundation.errors import UserError, as_text, count_of, first_few
from hbn_foundation.labels.targets import MAX_CATEGORIES
from hbn_foundation.progress import say, say_once
from hbn_foundation.sidecars import UnreadableSidecar, read_json, read_table

FACTORS = ("p_factor", "attention", "internalizing", "externalizing")
EXCLUDED_SUBJECTS = frozenset([
    "NDARWV769JM7", "NDARME789TD2", "NDARUA442ZVF", "NDARJP304NK1", "NDARTY128YLU",
    "NDARDW550GU6", "NDARLD243KRE", "NDARUJ292JXV", "NDARBA381JGH",
])  # fmt: skip
"""Subjects that the challenge leaves out because of their recordings."""

LETTERS = {
    **dict.fromkeys(("f", "female", "w", "woman", "girl"), "F"),
    **dict.fromkeys(("m", "male", "man", "boy"), "M"),
    **dict.fromkeys(("o", "other"), "O"),
}
MISSING = ("", "n/a", "N/A", "nan", "NaN")
OTHER_NAMES = {"age": "age", "sex": "sex", "gender": "sex"}
NUMBER = re.compile(r"[>≥]?=? *([-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:e[-+]?\d+)?)\+?", re.IGNORECASE)
UNKNOWN = ("na", "null", "none", "#n/a", ".", "-", "?")
"""Texts besides `n/a` that mean unknown among numbers and sexes; elsewhere they may be values."""


def read_participants(bids_root: str | Path, subjects: Sequence[str] | None = None) -> pd.DataFrame:
    """Read participants.tsv of a BIDS data set.

    Rows are matched to `subjects` (without `sub-`), by default those that have a `sub-` folder: `1`
    matches `001`, and `S1` matches `s01`, if the match is unique. That no column names the subjects
    is a UserError.

    Returns
    -------
    pandas.DataFrame
        One row per subject: `subject` (without `sub-`) first, then the columns of the file, as
        numbers where possible (also with decimal commas, and 89 for `89+`); `n/a` is missing. If
        rows of one subject differ, the values in which they differ are missing. Without a
        readable participants.tsv there is only the column `subject`.
    """
    root = Path(bids_root)
    if subjects is None:
        subjects = [folder.name[4:] for folder in root.glob("sub-*") if folder.is_dir()]
    known = sorted(subjects)
    nothing = pd.DataFrame({"subject": known}, dtype=str)
    path = root / "participants.tsv"
    if not os.path.lexists(path):
        say_once(f"{path} is missing: age, sex and other columns are unknown")
        return nothing
    try:
        columns, rows, notes = read_table(path)
    except UnreadableSidecar as error:
        say_once(f"{root}: {error}; age, sex and other columns are unknown")
        return nothing
    for note in notes:
        say_once(f"{root}: {note}")
    if not columns:
        return nothing
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    table = _one_row_each(_named(table.where(~table.isin(MISSING), None), known, path), path)
    for column in table.columns:
        name = OTHER_NAMES.get(str(column).lower(), column)
        if name not in table:
            say_once(f"{path}: column {column} is read as {name}")
            table[name] = table[column]
    if "sex" in table:
        table["sex"] = _sexes(table["sex"], path)
    for name in table.columns[1:]:
        table[name] = _as_numbers(table[name], str(name), path)
    return table


def participants_of(recordings: pd.DataFrame) -> pd.DataFrame:
    """Read what is known about the subjects of recordings, of one data set or of several.

    Parameters
    ----------
    recordings
        From `find_recordings` or `find_in_roots`.

    Returns
    -------
    pandas.DataFrame
        As of `read_participants`. Of several data sets: a row for each subject, the column
        `dataset`, and all columns of the tables, missing where a data set has none. A column that
        only some of them have, or that is a number in one and a text in another, which makes it
        text, is logged.
    """
    if "dataset" not in recordings:
        table = read_participants(recordings["bids_root"].iloc[0])
        return table[table["subject"].isin(recordings["subject"])]
    parts = {}
    for name, own in recordings.groupby("dataset", sort=False):
        table = read_participants(own["bids_root"].iloc[0]).set_index("subject")
        table.index = pd.Index([in_dataset(str(name), subject) for subject in table.index])
        table = table.reindex(sorted(own["subject"].unique()))
        parts[str(name)] = table.assign(dataset=str(name)).dropna(axis=1, how="all")
    columns = list(dict.fromkeys(name for part in parts.values() for name in part))
    partly: dict[str, list[str]] = {}
    for column in columns:
        having = [name for name, part in parts.items() if column in part]
        if len(having) < len(parts):
            partly.setdefault(", ".join(having), []).append(str(column))
        if len({pd.api.types.is_numeric_dtype(parts[name][column]) for name in having}) > 1:
            say(f"participants: {column} is a number in some data sets and a text in others; read "
                "as text in all")  # fmt: skip
            for name in having:
                texts = parts[name][column].map(as_text, na_action="ignore")
                parts[name][column] = texts.astype(object)
    for names, lacking in partly.items():
        say(f"participants: {first_few(lacking, 20)} only in {names}; unknown of all others")
    joined = pd.concat(parts.values()).rename_axis("subject").reset_index()
    return joined[["subject", "dataset", *(one for one in columns if one != "dataset")]]


def factor_table(participants: pd.DataFrame) -> pd.DataFrame:
    """Pick factors, age and sex from the participants table.

    Returns
    -------
    pandas.DataFrame
        One row per subject: `subject`, the `FACTORS`, `age` (years), `sex` (0 female, 1 male);
        NaN where unknown, as where the column is missing. A factor or an age that is not a number
        is a UserError.
    """
    there = participants.reset_index(drop=True).reindex(columns=["subject", *FACTORS, "age", "sex"])
    table = pd.DataFrame({"subject": there["subject"].astype(str)})
    for name in (*FACTORS, "age"):
        table[name] = pd.to_numeric(there[name], errors="coerce").astype(float)
        wrong = there[there[name].notna() & ~np.isfinite(table[name])]
        if len(wrong):
            raise UserError(
                f"participants.tsv: {name} of subject {wrong['subject'].iloc[0]} is "
                f"{wrong[name].iloc[0]}, expected a number or n/a"
            )
    letters = there["sex"].map(lambda sex: LETTERS.get(str(sex).strip().lower()))
    return table.assign(sex=letters.map({"F": 0.0, "M": 1.0}).astype(float))


def is_excluded(subjects: pd.Series) -> pd.Series:
    """Tell which subjects are `EXCLUDED_SUBJECTS`, whatever data set they are in."""
    return subjects.astype(str).str.split(SEPARATOR).str[-1].isin(EXCLUDED_SUBJECTS)


def challenge_subjects(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the subjects that the challenge scores: all factors known, and not excluded."""
    known = table[list(FACTORS)].notna().all(axis=1)
    return table[known & ~is_excluded(table["subject"])].reset_index(drop=True)


def _named(table: pd.DataFrame, known: Sequence[str], path: Path) -> pd.DataFrame:
    """Put the column `subject` first, with the labels of the `sub-` folders."""
    column = _naming_column(table, known, path)
    table = table[table[column].notna()].reset_index(drop=True)
    texts = [str(text).removeprefix("sub-") for text in table[column]]
    meant = _meant(texts, known)
    if meant:
        first = min(meant)
        say_once(
            f"{path}: {len(meant)} of {len(set(texts))} subjects are written otherwise than their "
            f"folders: {first} is read as sub-{meant[first]}"
        )
    names = [meant.get(text, text) for text in texts]
    lacking = sorted(set(known) - set(names))
    if lacking:
        none = texts and len(lacking) == len(known)
        there = f"; its rows are of {first_few(texts, 3)}" if none else ""
        say_once(
            f"{path}: no row of {len(lacking)} of {len(known)} subjects ({first_few(lacking)}): "
            f"nothing is known of them{there}"
        )
    rest = table.drop(columns=[column, "subject"], errors="ignore")
    rest.insert(0, "subject", names)
    return rest


def _naming_column(table: pd.DataFrame, known: Sequence[str], path: Path) -> str:
    if "participant_id" in table:
        return "participant_id"
    keys = set(map(_key, known))
    met = {name: sum(_key(text) in keys for text in table[name].dropna()) for name in table}
    column = max(met, key=lambda name: met[name])
    if not met[column]:
        found = ", ".join(map(str, met))
        raise UserError(f"{path}: expected a column participant_id, found {found}")
    say_once(f"{path}: no column participant_id; {column} names the subjects")
    return str(column)


def _meant(texts: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Match differently written subjects to known ones, where the match is unique."""
    strange, waiting = set(texts) - set(known), set(known) - set(texts)
    n_strange, n_known = Counter(map(_key, strange)), Counter(map(_key, known))
    of_key = {_key(name): name for name in waiting}
    return {
        text: of_key[_key(text)]
        for text in strange
        if _key(text) in of_key and n_strange[_key(text)] == n_known[_key(text)] == 1
    }


def _key(text: object) -> str:
    """Normalise a subject: no prefix, lower case, no leading zeros, no `.0` after numbers."""
    plain = re.sub(r"^sub(?:[-_ ]+|(?=\d))", "", str(text).strip().lower())
    plain = re.sub(r"^(\d+)[.,]0+$", r"\1", plain)
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), plain)


def _one_row_each(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Keep one row per subject, with the values on which its rows agree."""
    n_rows = len(table)
    table = table.drop_duplicates(ignore_index=True)
    if len(table) < n_rows:
        say_once(f"{path}: {n_rows - len(table)} rows are there twice, the same each time")
    twice = table["subject"].duplicated(keep=False)
    if not twice.any():
        return table
    groups = table[twice].groupby("subject")
    differ = groups.nunique() > 1
    one = groups.first().mask(differ)
    what = "they agree"
    if differ.any(axis=None):
        columns = first_few(differ.columns[differ.any()])
        what = f"they differ in {columns}, which is unknown of them"
    say_once(
        f"{path}: several rows of {count_of(len(one), 'subject')} ({first_few(one.index)}); {what}"
    )
    return pd.concat([table[~twice], one.reset_index()], ignore_index=True)


def _as_numbers(texts: pd.Series, name: str, path: Path) -> pd.Series:
    """Convert a column to numbers if it is one of numbers; return any other unchanged.

    It is one of numbers if all known values are numbers, if most are and there are too many
    different ones for classes, or if its name is that of a number, such as age.
    """
    known = texts.dropna().astype(str)
    numbers = known.map(_as_number).astype(float)
    bad = known[numbers.isna()]
    many = len(bad) < len(known) / 2 and numbers.nunique() > MAX_CATEGORIES
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
    _say_unknown(dict.fromkeys(bad), len(known) - len(bad), f"{path}: {name}", known, "a number")
    whole = len(numbers) == len(texts) and not len(bad) and bool((numbers % 1 == 0).all())
    # without gaps whole numbers stay whole, so that a class is 1 and not 1.0
    return (numbers.astype("int64") if whole else numbers).reindex(texts.index)


def _as_number(text: str) -> float | None:
    match = NUMBER.fullmatch(text.strip())
    return float(match[1].replace(",", ".")) if match else None


def _sexes(texts: pd.Series, path: Path) -> pd.Series:
    """Write F, M and O if there are several spellings, or codes that a sidecar explains."""
    texts = texts.mask(texts.astype(str).str.lower().isin(UNKNOWN), None)
    known = texts.dropna().astype(str)
    levels = _levels(path.with_suffix(".json"))
    meant = [_letter(levels.get(text, text)) for text in known]
    letters = pd.Series(meant, index=known.index, dtype=object)
    strange = known[letters.isna()]
    _say_unknown(sorted(set(strange)), len(letters.dropna()), f"{path}: sex", known, "F or M")
    spellings = known.groupby(letters).nunique()
    explained = any(_letter(text) is None for text in known[letters.notna()])
    if not (spellings > 1).any() and not explained:
        return texts
    say_once(
        f"{path}: sex is written {first_few(sorted(set(known) - set(strange)), 9)}; read as "
        f"{', '.join(sorted(set(letters.dropna())))}"
    )
    return letters.fillna(known).reindex(texts.index)


def _say_unknown(
    texts: Collection[str], n_read: int, where: str, known: pd.Series, what: str
) -> None:
    """Log which texts are read as unknown, if there are any."""
    if texts:
        say_once(f"{where}: {n_read or 'none'} of {len(known)} values recognised as {what}; "
                 f"unknown are {first_few(texts, 3)}")  # fmt: skip


def _letter(word: str) -> str | None:
    return LETTERS.get(re.split(r"\W", word.strip().lower(), maxsplit=1)[0])


def _levels(path: Path) -> dict[str, str]:
    """Read what the codes of sex mean from the sidecar; empty without one."""
    if not path.is_file():
        return {}
    try:
        levels = read_json(path)["sex"]["Levels"]
        return {str(key): str(value) for key, value in levels.items()}
    except UnreadableSidecar as error:
        say_once(f"{path.parent}: {error}")
    except (KeyError, TypeError, AttributeError):  # a sidecar of another form tells nothing
        pass
    return {}
