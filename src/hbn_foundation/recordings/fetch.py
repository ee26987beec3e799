"""Fetch the selected recordings of a remote BIDS root, with their sidecars, by fsspec.

The mirror is a BIDS root itself. A file that is there with the remote size is not fetched
again; each is written to a temporary name first, so an interrupted transfer leaves no half file.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.progress import track
from hbn_foundation.recordings.find import check_root, recordings_in
from hbn_foundation.recordings.params import SelectionParams
from hbn_foundation.recordings.select import Row, select_recordings, select_subjects

COMMON_SIDECARS = ("electrodes.tsv", "coordsystem.json", "scans.tsv")
"""Sidecars that belong to all recordings of a subject or session."""


def mirror(
    url: str,
    selection: SelectionParams,
    cache: str | Path,
    storage_options: Mapping[str, Any] | None = None,
) -> Path:
    """Copy what is selected from `url` into a folder of `cache`; return that folder.

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
        The URL cannot be read, is not a BIDS root, or nothing is selected.
    """
    import fsspec

    protocol, _, rest = url.partition("://")
    if storage_options is None:
        storage_options = {"anon": True} if protocol in ("s3", "s3a") else {}
    local = Path(cache) / protocol / "/".join(p for p in rest.split("/") if p not in ("", ".."))
    try:
        files, top = fsspec.core.url_to_fs(url, **storage_options)
        remote = _Remote(files, str(top).rstrip("/"))
        return _mirror(remote, url, selection, local)
    except UserError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{local}: disk full while fetching {url}") from error
        raise UserError(f"{url}: cannot be read ({_line(error)})") from error
    except (ImportError, ValueError) as error:
        raise UserError(f"{url}: cannot be read ({_line(error)})") from error
    except Exception as error:  # the clients of the stores raise exceptions of their own
        raise UserError(
            f"{url}: cannot be read ({type(error).__name__}: {_line(error)})"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class _Remote:
    """A folder of an fsspec file system, with names relative to it."""

    def __init__(self, files: Any, top: str) -> None:
        self.files, self.top = files, top

    def names(self, folder: str = "") -> dict[str, bool]:
        """Names in a folder, and whether each is a folder."""
        path = f"{self.top}/{folder}".rstrip("/")
        listed = self.files.ls(path, detail=True)
        names = {PurePosixPath(e["name"]).name: e["type"] == "directory" for e in listed}
        names.pop("", None)
        return names

    def sizes(self, folder: str) -> dict[str, int]:
        """Every file below a folder, by its relative name, with its size."""
        found = self.files.find(f"{self.top}/{folder}", detail=True)
        start = len(self.top.lstrip("/")) + 1
        return {name.lstrip("/")[start:]: int(e.get("size") or 0) for name, e in found.items()}

    def fetch(self, name: str, target: Path, size: int | None = None) -> None:
        """Copy one file unless it is there already with that size."""
        if size is not None and target.is_file() and target.stat().st_size == size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            self.files.get_file(f"{self.top}/{name}", str(temporary))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _mirror(remote: _Remote, url: str, selection: SelectionParams, local: Path) -> Path:
    try:
        names = remote.names()
    except FileNotFoundError as error:
        raise UserError(f"{url}: no such folder, expected the root of a BIDS data set") from error
    subjects = check_root(url, names)
    for name, is_folder in names.items():
        if not is_folder and name.endswith((".json", ".tsv")):
            remote.fetch(name, local / name, remote.files.size(f"{remote.top}/{name}"))
    kept = select_subjects(url, subjects, selection, local / "participants.tsv")
    sizes: dict[str, int] = {}

    def listed(subject: str) -> list[Row]:
        found = remote.sizes(f"sub-{subject}")
        sizes.update(found)
        heads = (_head(name) for name in found)
        return recordings_in(sorted(dict.fromkeys(heads)))

    listing = track(kept, f"listing {url}")
    rows = select_recordings(url, ((subject, listed(subject)) for subject in listing), selection)
    wanted = _wanted(sizes, rows)
    for name in track(wanted, f"fetching {url}"):
        remote.fetch(name, local / name, sizes[name])
    return local


def _head(name: str) -> str:
    """File or, for a recording that is a folder (.mff), the folder's name."""
    head, found, _ = name.partition(".mff/")
    return f"{head}.mff" if found else name


def _wanted(names: Iterable[str], rows: list[Row]) -> list[str]:
    """Files of the recordings: their own, and the sidecars of their folders and subjects."""
    own = {str(row["path"]).rpartition("/")[0] + f"/{row['recording']}" for row in rows}
    folders = {str(f) for row in rows for f in PurePosixPath(str(row["path"])).parents}
    wanted = []
    for name in names:
        folder, _, file = _head(name).rpartition("/")
        stem = re.sub(r"_split-\d+$", "", file.rpartition("_")[0])
        common = file.endswith(COMMON_SIDECARS) and folder in folders
        if common or f"{folder}/{stem}" in own:
            wanted.append(name)
    return wanted
