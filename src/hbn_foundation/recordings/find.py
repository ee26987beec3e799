"""Find the recordings of a BIDS root, by the names of its folders and files alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.bids import FORMATS, recordings_in
from hbn_foundation.errors import UserError, first_few
from hbn_foundation.progress import say
from hbn_foundation.recordings.mirror import mirror
from hbn_foundation.recordings.params import SelectionParams
from hbn_foundation.recordings.select import check_root, select_recordings, select_subjects

COLUMNS = ("recording", "subject", "session", "task", "run", "path", "bids_root", "format")


def find_recordings(
    root: str | Path,
    selection: SelectionParams | None = None,
    cache: str | Path = "data/01_raw/mirror",
    storage_options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """List the selected recordings of a BIDS root.

    Parameters
    ----------
    root
        A folder, or an fsspec URL such as ``s3://bucket/folder``: then the selected files are
        fetched into `cache` first.
    selection
        Which recordings; None is all of them.
    cache
        Folder of the fetched files; only used when `root` is a URL.
    storage_options
        Options of the fsspec file system; only used when `root` is a URL.

    Returns
    -------
    DataFrame
        One row per recording, sorted: ``recording`` (file name up to ``_eeg``), ``subject``
        (without ``sub-``), ``session``, ``task``, ``run`` (None where the name has none),
        ``path`` (relative to the root), ``bids_root``, ``format``.

    Raises
    ------
    UserError
        `root` is missing, empty or not BIDS, or no recording is left after the selection.
    """
    selection = selection or SelectionParams()
    if "://" in str(root):
        root = mirror(str(root), selection, cache, storage_options)
    folder = Path(root)
    subjects = list_subjects(folder)
    kept = select_subjects(str(root), subjects, selection, folder / "participants.tsv")
    listed = ((subject, _recordings_of(folder, subject)) for subject in kept)
    rows = select_recordings(str(root), listed, selection)
    table = pd.DataFrame(rows).assign(bids_root=str(root))
    table = _in_one_format(table, str(root)).reset_index(drop=True)
    return table[list(COLUMNS)].astype(object).where(table[list(COLUMNS)].notna(), None)


def _in_one_format(table: pd.DataFrame, root: str) -> pd.DataFrame:
    """Keep the first of `FORMATS` of a recording that is there in several."""
    order = [*FORMATS]
    rank = [order.index(os.path.splitext(path)[1].lower()) for path in table["path"]]
    table = table.assign(rank=rank).sort_values(["subject", "recording", "rank"])
    again = table["recording"].duplicated()
    if again.any():
        spare = table["path"][again]
        say(f"{root}: {len(spare)} recordings are there in another format, too: not read are "
            f"{first_few(spare, 3)}")  # fmt: skip
    return table[~again]


def list_subjects(root: Path) -> list[str]:
    """Subjects with a ``sub-*`` folder; UserError when `root` is not a BIDS root."""
    if not root.exists():
        raise UserError(f"{root}: no such folder, expected the root of a BIDS data set")
    if not root.is_dir():
        raise UserError(f"{root}: a file, expected the folder of a BIDS data set")
    with os.scandir(root) as entries:
        names = {entry.name: entry.is_dir() for entry in entries}
    return check_root(str(root), names)


def _recordings_of(root: Path, subject: str) -> list[dict[str, str | None]]:
    top = f"sub-{subject}"
    places = [top, *(f"{top}/{n}" for n in _names(root / top) if n.startswith("ses-"))]
    return recordings_in([f"{p}/eeg/{name}" for p in places for name in _names(root / p / "eeg")])


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
