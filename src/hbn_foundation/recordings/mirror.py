"""Fetch the selected recordings of a remote BIDS root, with their sidecars, by fsspec.

The mirror is a BIDS root itself. A file that is there with the remote size is not fetched
again; each is written to a temporary name first, so an interrupted transfer leaves no half file.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hbn_foundation.bids import recordings_in
from hbn_foundation.errors import UserError
from hbn_foundation.files import is_full_disk, path_inside
from hbn_foundation.progress import say, track
from hbn_foundation.recordings.manifest import Manifest
from hbn_foundation.recordings.params import SelectionParams
from hbn_foundation.recordings.select import Row, check_root, select_recordings, select_subjects

COMMON_SIDECARS = ("electrodes.tsv", "coordsystem.json", "scans.tsv")
"""Sidecars that belong to all recordings of a subject or session."""


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
    manifest = Manifest(local)
    try:
        with _errors_named(url, local):
            import fsspec

            files, top = fsspec.core.url_to_fs(url, **storage_options)
            fetched = _mirror(_Remote(files, str(top).rstrip("/")), url, selection, local)
    except _UnreachableError as error:
        if not manifest.covers(selection):
            raise
        missing = manifest.missing()
        if missing:
            raise UserError(
                f"{error}; {len(missing)} files of its mirror {local} are missing or have another "
                f"size ({missing[0]}, …)"
            ) from error
        say(f"{error}; its mirror {local}, which holds all that is selected, is used instead")
        return local
    manifest.add(selection, fetched)
    return local


class _UnreachableError(UserError):
    """The URL cannot be read now."""


@contextlib.contextmanager
def _errors_named(url: str, local: Path) -> Iterator[None]:
    """Turn what the clients of the stores raise into one line."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise _UnreachableError(
            f"{url}: no such folder, expected the root of a BIDS data set"
        ) from error
    except OSError as error:
        if is_full_disk(error):
            raise UserError(f"{local}: disk full while fetching {url}") from error
        raise _UnreachableError(f"{url}: cannot be read ({_line(error)})") from error
    except (ImportError, ValueError) as error:
        raise _UnreachableError(f"{url}: cannot be read ({_line(error)})") from error
    except Exception as error:  # the clients of the stores raise exceptions of their own
        raise _UnreachableError(
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
        top = self.top.lstrip("/") + "/"
        # a name that does not begin so is refused as one that leads out
        return {n.lstrip("/").removeprefix(top): int(e.get("size") or 0) for n, e in found.items()}

    def fetch(self, name: str, target: Path, size: int) -> None:
        """Copy one file unless it is there already with that size."""
        if target.is_file() and target.stat().st_size == size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            self.files.get_file(f"{self.top}/{name}", str(temporary))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _mirror(remote: _Remote, url: str, selection: SelectionParams, local: Path) -> dict[str, int]:
    """Fetch what is selected; return the files and sizes. All names are checked before."""
    names = remote.names()
    subjects = check_root(url, names)
    tables = [n for n, folder in names.items() if not folder and n.endswith((".json", ".tsv"))]
    sizes = {name: int(remote.files.size(f"{remote.top}/{name}") or 0) for name in tables}
    paths = {name: path_inside(local, name) for name in (*tables, *(f"sub-{s}" for s in subjects))}
    participants = local / "participants.tsv"
    if selection.participants and participants.name in sizes:
        remote.fetch(participants.name, participants, sizes[participants.name])
    kept = select_subjects(url, subjects, selection, participants)

    def listed(subject: str) -> list[Row]:
        found = remote.sizes(f"sub-{subject}")
        paths.update({name: path_inside(local, name) for name in found})
        sizes.update(found)
        heads = (_head(name) for name in found)
        return recordings_in(sorted(dict.fromkeys(heads)))

    listing = track(kept, f"listing {url}")
    rows = select_recordings(url, ((subject, listed(subject)) for subject in listing), selection)
    wanted = [*tables, *_wanted(sizes, rows)]
    for name in track(wanted, f"fetching {url}"):
        remote.fetch(name, paths[name], sizes[name])
    return {name: paths[name].stat().st_size for name in wanted}


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
