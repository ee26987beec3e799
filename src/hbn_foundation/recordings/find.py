"""Find the recordings of a BIDS root, by the names of its folders and files alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.bids import FORMATS
from hbn_foundation.errors import UserError, first_few
from hbn_foundation.progress import say
from hbn_foundation.recordings.mirror import mirror
from hbn_foundation.recordings.params import SelectionParams, SourceParams
from hbn_foundation.recordings.select import check_root, select

COLUMNS = ["recording", "subject", "session", "task", "run", "path", "bids_root", "format"]


def prepare(source: SourceParams) -> dict[str, Any]:
    """Name the BIDS root; simulate the mini release first where no root is given.

    Returns
    -------
    dict
        `root` (str) and `simulated` (bool); `cache` and `storage_options` for a URL.

    Raises
    ------
    UserError
        The folder is not the root of a BIDS data set, or the release cannot be written. A URL is
        checked when its files are listed.
    """
    root = source.root
    if root is None:
        from hbn_foundation.recordings.simulation.release import simulate_release

        root = str(simulate_release(Path(source.simulated_root), source.simulation))
    elif "://" not in root:
        try:
            check_root(root, _listed(Path(root), ""))
        except UserError as error:
            how = f"; {source.how_to_get}" if source.how_to_get else ""
            raise UserError(f"{error}{how}") from None
    remote = {"cache": source.cache, "storage_options": source.storage_options}
    return {"root": root, "simulated": source.root is None, **remote}


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
    cache, storage_options
        Folder of the fetched files, and options of the file system, where `root` is a URL.

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
    listed = partial(_listed, Path(root))
    rows = select(str(root), listed, selection, Path(root, "participants.tsv"))
    table = _in_one_format(pd.DataFrame(rows).assign(bids_root=str(root)))
    return table[COLUMNS].astype(object).where(table[COLUMNS].notna(), None)


def _in_one_format(table: pd.DataFrame) -> pd.DataFrame:
    """Keep one format of each recording, the first in the order of `FORMATS`."""
    rank = [[*FORMATS].index(Path(path).suffix.lower()) for path in table["path"]]
    table = table.assign(rank=rank).sort_values(["subject", "recording", "rank"])
    again = table["recording"].duplicated()
    if again.any():
        say(
            f"{table['bids_root'].iat[0]}: {again.sum()} recordings are there in another format, "
            f"too: not read are {first_few(table['path'][again], 3)}"
        )
    return table[~again].reset_index(drop=True)


def _listed(root: Path, folder: str) -> dict[str, int | None]:
    """Names in the root, None for folders, or those in the eeg folders of one of its subjects."""
    if not root.exists():
        raise UserError(f"{root}: no such folder, expected the root of a BIDS data set")
    if not root.is_dir():
        raise UserError(f"{root}: a file, expected the folder of a BIDS data set")
    if not folder:
        return {path.name: None if path.is_dir() else 0 for path in root.iterdir()}
    sessions = [f"{folder}/{name}" for name in _names(root / folder) if name.startswith("ses-")]
    places = [f"{place}/eeg" for place in (folder, *sessions)]
    return {f"{place}/{name}": 0 for place in places for name in _names(root / place)}


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
