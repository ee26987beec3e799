"""Fetch the selected recordings of a remote BIDS root, with their sidecars, by fsspec.

The mirror is a BIDS root itself. A file that is there with the remote size is not fetched
again; each is written to a temporary name first, so an interrupted transfer leaves no half file.
The names and sizes at the URL are kept beside it (``<folder>.listing.json``): without the network,
they show whether all that is selected was fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hbn_foundation.bids import recordings_in
from hbn_foundation.errors import UserError, one_line
from hbn_foundation.files import is_full_disk, path_inside, renamed_when_done
from hbn_foundation.progress import say, track
from hbn_foundation.recordings.params import SelectionParams
from hbn_foundation.recordings.select import Row, check_root, select_recordings, select_subjects

COMMON_SIDECARS = ("electrodes.tsv", "coordsystem.json", "scans.tsv")
"""Sidecars that belong to all recordings of a subject or session."""

Listing = dict[str, dict[str, int | None]]
"""Sizes of files by folder ("" or ``sub-<label>``) and name below the root; None for folders."""


def mirror(
    url: str,
    selection: SelectionParams,
    cache: str | Path,
    storage_options: Mapping[str, Any] | None = None,
) -> Path:
    """Copy what is selected from `url` into a folder of `cache`; return that folder.

    Where the URL cannot be read now, a mirror that is complete for the selection is used as it is.

    Parameters
    ----------
    url
        Any URL that fsspec knows: ``s3://``, ``https://``, ``file://``, ``memory://`` …
    selection
        Which recordings. Only folders of subjects that may be selected are listed.
    cache
        Folder of all mirrors.
    storage_options
        Options of the file system. None is anonymous access on S3.

    Raises
    ------
    UserError
        The URL cannot be read and its mirror is not complete for the selection, it is not a BIDS
        root, nothing is selected, or names at the URL lead out of the mirror.
    """
    protocol, _, rest = url.partition("://")
    if storage_options is None:
        storage_options = {"anon": True} if protocol in ("s3", "s3a") else {}
    local = Path(cache) / protocol / "/".join(p for p in rest.split("/") if p not in ("", ".."))
    noted = local.with_name(f"{local.name}.listing.json")
    try:
        known: Listing = {folder: dict(n) for folder, n in json.loads(noted.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        known = {}
    try:
        import fsspec

        files, top = fsspec.core.url_to_fs(url, **storage_options)
        remote = _Remote(files, top, local)
        wanted = _wanted_files(remote.listed, url, selection, local, remote.fetch)
        for name, size in track(wanted.items(), f"fetching {url}", total=len(wanted)):
            remote.fetch(name, size)
    except UserError:
        raise
    except Exception as error:  # each store's client raises exceptions of its own
        if isinstance(error, OSError) and is_full_disk(error):
            raise UserError(f"{local}: disk full while fetching {url}") from error
        reason = f"{url}: cannot be read ({one_line(error)})"
        if isinstance(error, FileNotFoundError):
            reason = f"{url}: no such folder, expected the root of a BIDS data set"
        missing = _missing(known, url, selection, local)
        if missing is not None:
            raise UserError(f"{reason}{missing}") from error
        say(f"{reason}; its mirror {local}, which holds all that is selected, is used instead")
        return local
    with renamed_when_done(noted) as temporary:
        temporary.write_text(json.dumps(known | remote.listing))
    return local


class _Remote:
    """A folder of an fsspec file system; `listing` keeps what was listed of it."""

    def __init__(self, files: Any, top: str, local: Path) -> None:
        self.files, self.top, self.local = files, str(top).rstrip("/"), local
        self.listing: Listing = {}

    def listed(self, folder: str) -> dict[str, int | None]:
        """List the top folder, or all files below one of its folders."""
        if folder:
            found = self.files.find(f"{self.top}/{folder}", detail=True)
            top = self.top.lstrip("/") + "/"
            # any other name is refused by `path_inside`
            names = {name.lstrip("/").removeprefix(top): entry for name, entry in found.items()}
        else:
            entries = self.files.ls(self.top, detail=True)
            names = {PurePosixPath(entry["name"]).name: entry for entry in entries}
            names.pop("", None)
        sizes = {name: self._size(entry) for name, entry in names.items()}
        return self.listing.setdefault(folder, sizes)

    def _size(self, entry: Mapping[str, Any]) -> int | None:
        if entry["type"] == "directory":
            return None
        return int(entry.get("size") or self.files.size(entry["name"]) or 0)

    def fetch(self, name: str, size: int) -> None:
        """Copy one file unless it is there already with that size."""
        target = self.local / name
        if _size_of(target) != size:
            with renamed_when_done(target) as temporary:
                self.files.get_file(f"{self.top}/{name}", str(temporary))


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _wanted_files(
    listed: Callable[[str], Mapping[str, int | None]],
    url: str,
    selection: SelectionParams,
    local: Path,
    fetch: Callable[[str, int], None],
) -> dict[str, int]:
    """Names and sizes of the files that a selection needs, checked to lie inside the mirror."""
    top = listed("")
    subjects = check_root(url, {name: size is None for name, size in top.items()})
    sizes = {n: s for n, s in top.items() if s is not None and n.endswith((".json", ".tsv"))}
    tables = [*sizes]
    for name in (*tables, *(f"sub-{subject}" for subject in subjects)):
        path_inside(local, name)
    participants = "participants.tsv"
    if selection.participants and participants in sizes:
        fetch(participants, sizes[participants])
    kept = select_subjects(url, subjects, selection, local / participants)

    def recordings_of(subject: str) -> list[Row]:
        found = {name: size or 0 for name, size in listed(f"sub-{subject}").items()}
        for name in found:
            path_inside(local, name)
        sizes.update(found)
        return recordings_in(sorted({_recording_file(name) for name in found}))

    pairs = ((subject, recordings_of(subject)) for subject in track(kept, f"listing {url}"))
    rows = select_recordings(url, pairs, selection)
    return {name: sizes[name] for name in (*tables, *_files_of(rows, sizes))}


def _recording_file(name: str) -> str:
    """Name of the file or, for one inside a recording that is a folder (.mff), of the folder."""
    head, found, _ = name.partition(".mff/")
    return f"{head}.mff" if found else name


def _files_of(rows: list[Row], names: Iterable[str]) -> list[str]:
    """Files of the recordings: their own, and the sidecars of their folders and subjects."""
    own = {str(row["path"]).rpartition("/")[0] + f"/{row['recording']}" for row in rows}
    folders = {str(f) for row in rows for f in PurePosixPath(str(row["path"])).parents}
    files = []
    for name in names:
        folder, _, file = _recording_file(name).rpartition("/")
        stem = re.sub(r"_split-\d+$", "", file.rpartition("_")[0])
        common = file.endswith(COMMON_SIDECARS) and folder in folders
        if common or f"{folder}/{stem}" in own:
            files.append(name)
    return files


def _missing(known: Listing, url: str, selection: SelectionParams, local: Path) -> str | None:
    """Describe what a mirror lacks of a selection: None for nothing, "" where that is unknown."""
    try:
        wanted = _wanted_files(known.__getitem__, url, selection, local, lambda name, size: None)
    except KeyError:  # a folder that was never listed
        return ""
    missing = [name for name, size in wanted.items() if _size_of(local / name) != size]
    if not missing:
        return None
    return (
        f"; {len(missing)} files of its mirror {local} are missing or have another size "
        f"({missing[0]}, …)"
    )
