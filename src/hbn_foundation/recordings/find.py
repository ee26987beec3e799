"""Find the recordings of a BIDS root, by the names of its folders and files alone."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.bids import FORMATS, in_dataset, of_dataset
from hbn_foundation.errors import UserError, first_few
from hbn_foundation.labels.people import check_people
from hbn_foundation.progress import say
from hbn_foundation.recordings.mirror import mirror
from hbn_foundation.recordings.params import Label, SelectionParams, SourceParams
from hbn_foundation.recordings.select import check_root, select
from hbn_foundation.sidecars import UnreadableSidecar, read_json

COLUMNS = ["recording", "subject", "session", "task", "run", "path", "bids_root", "format"]


def prepare(source: SourceParams) -> dict[str, Any]:
    """Name the BIDS root; simulate the mini release first where no root is given.

    Returns
    -------
    dict
        `root` (str), or `roots` by name; `simulated` (bool); `cache` and `storage_options` for a
        URL.

    Raises
    ------
    UserError
        The folder is not the root of a BIDS data set, or the release cannot be written. A URL is
        checked when its files are listed.
    """
    remote = {"cache": source.cache, "storage_options": source.storage_options}
    if source.roots is not None:
        check_roots(source.roots, source.how_to_get)
        return {"roots": source.roots, "simulated": False, **remote}
    root = source.root
    if root is None:
        from hbn_foundation.recordings.simulation.release import simulate_release

        wanted = source.sleep or source.simulation
        root = str(simulate_release(Path(source.simulated_root), wanted))
    else:
        _check_folder(root, source.how_to_get)
    return {"root": root, "simulated": source.root is None, **remote}


def _check_folder(root: str, how_to_get: str | None) -> None:
    if "://" in root:
        return
    try:
        check_root(root, _listed(Path(root), ""))
    except UserError as error:
        how = f"; {how_to_get}" if how_to_get else ""
        raise UserError(f"{error}{how}") from None


def check_roots(roots: Mapping[str, str], how_to_get: str | None = None) -> None:
    """Check that each of several roots is one of a BIDS data set, and none another's."""
    places: dict[str, str] = {}
    for name, root in roots.items():
        try:
            _check_folder(root, how_to_get)
        except UserError as error:
            raise UserError(f"ingestion.source.roots.{name}: {error}") from None
        place = root.rstrip("/") if "://" in root else os.path.realpath(root)
        if place in places:
            raise UserError(
                f"ingestion.source.roots.{name}: {root} is that of {places[place]}, too; expected "
                "another data set, since its subjects would count twice"
            )
        places[place] = name


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


def find_in_roots(
    roots: Mapping[str, str],
    selection: SelectionParams | None = None,
    cache: str | Path = "data/01_raw/mirror",
    storage_options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """List the selected recordings of several BIDS roots, each as `find_recordings` does.

    Parameters
    ----------
    roots
        By the names of the data sets.
    selection
        Applied to each root. A subject with the name of a data set before it is looked for in that
        data set only.
    cache, storage_options
        As of `find_recordings`.

    Returns
    -------
    DataFrame
        As of `find_recordings`, with the column `dataset`, and with the name of the data set before
        those of recordings (``eyes-sub-01_task-rest``) and subjects (``eyes-01``).

    Raises
    ------
    UserError
        As `find_recordings`; nothing is selected, or somebody is in two of the data sets.
    """
    selection = selection or SelectionParams()
    tables = []
    for name, root in roots.items():
        own = _selection_in(name, roots, selection)
        if own.subjects == []:
            say(f"{name}: selection.subjects names none of this data set; it is left out")
            continue
        table = find_recordings(root, own, cache, storage_options).assign(dataset=name)
        for column in ("recording", "subject"):
            table[column] = [in_dataset(name, text) for text in table[column]]
        tables.append(table)
    if not tables:
        raise UserError(f"selection.subjects names none; the data sets are {', '.join(roots)}")
    joined = pd.concat(tables, ignore_index=True)
    check_people(joined["subject"], dataset_names(joined))
    return joined


def _selection_in(
    dataset: str, datasets: Collection[str], selection: SelectionParams
) -> SelectionParams:
    """Return the selection of one data set, its name taken from before those of subjects."""

    def own(labels: Iterable[Label]) -> list[Label]:
        split = [of_dataset(str(label), datasets) for label in labels]
        return [name for place, name in split if place in ("", dataset)]

    changes = {"exclude_subjects": own(selection.exclude_subjects)}
    if selection.subjects is not None:
        changes["subjects"] = own(selection.subjects)
    return selection.model_copy(update=changes)


def dataset_names(recordings: pd.DataFrame) -> dict[str, str | None]:
    """Return what data sets call themselves, by which people are known to be others.

    Parameters
    ----------
    recordings
        From `find_recordings` or `find_in_roots`.

    Returns
    -------
    dict
        `Name` of dataset_description.json, None where there is none, by the name of the data set;
        that of a single root is "".
    """
    listed = recordings.reindex(columns=["dataset", "bids_root"]).drop_duplicates()
    names: dict[str, str | None] = {}
    for dataset, root in listed.itertuples(index=False):
        try:
            name = read_json(Path(str(root), "dataset_description.json")).get("Name")
        except (OSError, UnreadableSidecar):
            name = None
        names["" if pd.isna(dataset) else str(dataset)] = str(name or "").strip() or None
    return names


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
