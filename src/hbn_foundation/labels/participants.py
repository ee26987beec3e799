"""Read what is known about the subjects of a BIDS data set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.wording import some
from hbn_foundation.progress import say

MISSING = ["", "n/a", "N/A", "nan", "NaN"]


def read_participants(bids_root: str | Path) -> pd.DataFrame:
    """Read participants.tsv.

    Parameters
    ----------
    bids_root
        Folder of the BIDS data set.

    Returns
    -------
    pandas.DataFrame
        One row per subject: `subject` (without `sub-`) first, then the columns of the file;
        `n/a` is missing. Without a participants.tsv the subjects are those that have a `sub-`
        folder, and nothing more is known about them.

    Raises
    ------
    UserError
        When the file cannot be read as a table, has no `participant_id`, or names a subject twice.
    """
    path = Path(bids_root) / "participants.tsv"
    if not path.is_file():
        return _from_folders(Path(bids_root))
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            dtype={"participant_id": str},
            keep_default_na=False,
            na_values=MISSING,
            encoding="utf-8-sig",
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a tab-separated table: {reason}") from error
    if "participant_id" not in table:
        found = ", ".join(map(str, table.columns))
        raise UserError(f"{path}: expected a column participant_id, found {found}")
    table = table[table["participant_id"].notna()].reset_index(drop=True)
    subjects = table["participant_id"].str.strip().str.removeprefix("sub-")
    twice = sorted(set(subjects[subjects.duplicated()]))
    if twice:
        raise UserError(f"{path}: expected one row per subject, found several of {some(twice)}")
    rest = table.drop(columns=["participant_id", "subject"], errors="ignore")
    rest.insert(0, "subject", subjects)
    return rest


def _from_folders(root: Path) -> pd.DataFrame:
    folders = sorted(path.name for path in root.glob("sub-*") if path.is_dir())
    say(f"{root / 'participants.tsv'} is missing: age, sex and other columns are unknown")
    return pd.DataFrame({"subject": [name.removeprefix("sub-") for name in folders]}, dtype=str)
