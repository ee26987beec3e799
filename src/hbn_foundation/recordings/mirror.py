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
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from hbn_foundation.errors import UserError, one_line
from hbn_foundation.files import is_full_disk, path_inside, renamed_when_done
from hbn_foundation.progress import say, track
from hbn_foundation.recordings.params import SelectionParams
from hbn_foundation.recordings.select import Row, recording_file, select

COMMON_SIDECARS = ("electrodes.tsv", "coordsystem.json", "scans.tsv")
"""Sidecars that belong to all recordings of a subject or session."""

TABLES = (".json", ".tsv")
Sizes = dict[str, int | None]
"""Sizes of files by name below the root; None for folders."""


def mirror(
    url: str,
    selection: SelectionParams,
    cache_folder: str | Path,
    storage_options: Mapping[str, Any] | None = None,
) -> Path:
    """Copy what is selected from `url` into a folder of `cache_folder`; return that folder.

    The URL is any that fsspec knows, with options of its file system; without them, access on S3
    is anonymous. Only folders of subjects that may be selected are listed. Where the URL cannot be
    read now, a mirror that is complete for the selection is used as it is.

    Raises
    ------
    UserError
        The URL cannot be read and its mirror is not complete for the selection, it is not a BIDS
        root, nothing is selected, or names at the URL lead out of the mirror.
    """
    protocol, _, rest = url.partition("://")
    if storage_options is None:
        storage_options = {"anon": True} if protocol in ("s3", "s3a") else {}
    local = (
        Path(cache_folder) / protocol / "/".join(p for p in rest.split("/") if p not in ("", ".."))
    )
    noted = local.with_name(f"{local.name}.listing.json")
    try:
        listing = _fetch(url, selection, local, storage_options)
    except UserError:
        raise
    except Exception as error:  # each store's client raises exceptions of its own
        if isinstance(error, OSError) and is_full_disk(error):
            raise UserError(f"{local}: disk full while fetching {url}") from error
        reason = f"{url}: cannot be read ({one_line(error)})"
        if isinstance(error, FileNotFoundError):
            reason = f"{url}: no such folder, expected the root of a BIDS data set"
        missing = _missing(_known(noted), url, selection, local)
        if missing is not None:
            raise UserError(f"{reason}{missing}") from error
        say(f"{reason}; its mirror {local}, which holds all that is selected, is used instead")
        return local
    with renamed_when_done(noted) as temporary:
        temporary.write_text(json.dumps(_known(noted) | listing))
    return local


def _fetch(
    url: str, selection: SelectionParams, local: Path, storage_options: Mapping[str, Any]
) -> dict[str, Sizes]:
    """Fetch what is selected; return what was listed for it, by folder: "" or ``sub-<label>``."""
    import fsspec
    from fsspec.implementations.dirfs import DirFileSystem

    files, top = fsspec.core.url_to_fs(url, **storage_options)
    remote = DirFileSystem(str(top).rstrip("/"), files)
    listing: dict[str, Sizes] = {}

    def listed(folder: str) -> Sizes:
        listing[folder] = _sizes(remote, folder)
        return listing[folder]

    def fetch(name: str, size: int) -> None:
        if _size_of(local / name) != size:
            with renamed_when_done(local / name) as temporary:
                remote.get_file(name, str(temporary))

    wanted = _wanted_files(listed, url, selection, local, fetch)
    for name, size in track(wanted.items(), f"fetching {url}", total=len(wanted)):
        fetch(name, size)
    return listing


def _known(noted: Path) -> dict[str, Sizes]:
    """Read what was listed before; nothing where that cannot be read."""
    try:
        return {str(folder): dict(n) for folder, n in json.loads(noted.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _sizes(remote: Any, folder: str) -> Sizes:
    """List the top folder, or all files below one of its folders."""
    entries = remote.find(folder, detail=True).values() if folder else remote.ls("", detail=True)
    return {
        entry["name"].strip("/"): None
        if entry["type"] == "directory"
        else int(entry.get("size") or remote.size(entry["name"]) or 0)
        for entry in entries
        if entry["name"]
    }


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _wanted_files(
    listed: Callable[[str], Sizes],
    url: str,
    selection: SelectionParams,
    local: Path,
    fetch: Callable[[str, int], None],
) -> dict[str, int]:
    """Names and sizes of the files that a selection needs, checked to lie inside the mirror."""
    sizes: dict[str, int] = {}

    @cache
    def checked(folder: str) -> Sizes:
        found = listed(folder)
        for name in found:
            if folder or name.startswith("sub-") or name.endswith(TABLES):
                path_inside(local, name)
        sizes.update({name: size for name, size in found.items() if size is not None})
        return found

    size = checked("").get("participants.tsv")
    if selection.participants and size is not None:
        fetch("participants.tsv", size)
    rows = select(url, checked, selection, local / "participants.tsv")
    tables = [name for name in checked("") if name in sizes and name.endswith(TABLES)]
    return {name: sizes[name] for name in (*tables, *_files_of(rows, sizes))}


def _files_of(rows: list[Row], names: Iterable[str]) -> list[str]:
    """Files of the recordings: their own, and the sidecars of their folders and subjects."""
    own = {str(row["path"]).rpartition("/")[0] + f"/{row['recording']}" for row in rows}
    folders = {str(f) for row in rows for f in PurePosixPath(str(row["path"])).parents}
    files = []
    for name in names:
        folder, _, file = recording_file(name).rpartition("/")
        stem = re.sub(r"_split-\d+$", "", file.rpartition("_")[0])
        common = file.endswith(COMMON_SIDECARS) and folder in folders
        if common or f"{folder}/{stem}" in own:
            files.append(name)
    return files


def _missing(
    known: Mapping[str, Sizes], url: str, selection: SelectionParams, local: Path
) -> str | None:
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
