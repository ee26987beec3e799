"""Read what is known about the subjects of a BIDS data set.

People write participants.tsv by hand and in spreadsheets. What can be read is read, what was
guessed is told, and what cannot be read is unknown and named with its column and count.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.participant_values import read_values
from hbn_foundation.labels.wording import some
from hbn_foundation.progress import say_once
from hbn_foundation.sidecars import UnreadableSidecar, read_table

MISSING = ("", "n/a", "N/A", "nan", "NaN")


def read_participants(bids_root: str | Path, subjects: Sequence[str] | None = None) -> pd.DataFrame:
    """Read participants.tsv.

    Parameters
    ----------
    bids_root
        Folder of the BIDS data set.
    subjects
        Whom the rows are to meet, without `sub-`; by default those that have a `sub-` folder.
        `1` meets `001`, and `S1` meets `s01`, where one row and one subject alone can be meant.

    Returns
    -------
    pandas.DataFrame
        One row per subject: `subject` (without `sub-`) first, then the columns of the file, as
        numbers where they are (with decimal commas, and 89 for `89+`); `n/a` is missing. Of rows
        of one subject that differ, what differs is missing. Without a participants.tsv that can
        be read, nothing is known but who there is.

    Raises
    ------
    UserError
        When no column names the subjects.
    """
    root = Path(bids_root)
    known = _folders(root) if subjects is None else sorted(subjects)
    path = root / "participants.tsv"
    if not os.path.lexists(path):
        say_once(f"{path} is missing: age, sex and other columns are unknown")
        return pd.DataFrame({"subject": known}, dtype=str)
    try:
        columns, rows, notes = read_table(path)
    except UnreadableSidecar as error:
        say_once(f"{root}: {error}; age, sex and other columns are unknown")
        return pd.DataFrame({"subject": known}, dtype=str)
    for note in notes:
        say_once(f"{root}: {note}")
    if not columns:
        return pd.DataFrame({"subject": known}, dtype=str)
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    table = table.where(~table.isin(MISSING), None)
    return read_values(_one_row_each(_named(table, known, path), path), path)


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(
            entry.name[4:] for entry in entries if entry.name.startswith("sub-") and entry.is_dir()
        )


def _named(table: pd.DataFrame, known: Sequence[str], path: Path) -> pd.DataFrame:
    """Put the column `subject` first: the label of the subject that each row is about."""
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
        there = f"; its rows are of {some(texts, 3)}" if none else ""
        say_once(
            f"{path}: no row of {len(lacking)} of {len(known)} subjects ({some(lacking)}): nothing "
            f"is known of them{there}"
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
    """Find the subjects that are written otherwise, where one alone can be meant."""
    strange, waiting = set(texts) - set(known), set(known) - set(texts)
    n_strange, n_known = Counter(map(_key, strange)), Counter(map(_key, known))
    of_key = {_key(name): name for name in waiting}
    return {
        text: of_key[_key(text)]
        for text in strange
        if _key(text) in of_key and n_strange[_key(text)] == n_known[_key(text)] == 1
    }


def _key(text: object) -> str:
    """Write a subject without prefix, case, zeros before and spreadsheet's `.0` behind numbers."""
    plain = re.sub(r"^sub(?:[-_ ]+|(?=\d))", "", str(text).strip().lower())
    plain = re.sub(r"^(\d+)[.,]0+$", r"\1", plain)
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), plain)


def _one_row_each(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Keep a row per subject: of identical rows one, of others what they agree on."""
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
    columns = [str(name) for name in differ.columns[differ.any()]]
    what = f"they differ in {some(columns)}, which is unknown of them" if columns else "they agree"
    say_once(f"{path}: {len(one)} subjects have several rows ({some(one.index)}); {what}")
    return pd.concat([table[~twice], one.reset_index()], ignore_index=True)
