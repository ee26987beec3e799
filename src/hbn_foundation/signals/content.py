"""Files of a recording on disk, and hashes of their content and of the cleaning parameters."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from hbn_foundation.bids import sidecars
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.sidecars import UnreadableSidecar, read_text

CLEANING_VERSION = 2
"""Increment when the result of the cleaning changes for the same parameters."""

SIDECARS = ("channels.tsv", "eeg.json", "electrodes.tsv", "coordsystem.json", "events.tsv")
WITHOUT_EFFECT = {"chunk_seconds", "scale"}
"""Parameters of the cleaning that do not change its result on disk."""

PACKAGES = ("mne", "pymatreader", "scipy")
"""Packages that read and filter; a new major or minor version of one cleans again."""

NAMED_IN_VHDR = re.compile(r"(?im)^\s*(?:DataFile|MarkerFile)\s*=\s*(.+?)\s*$")

FileSignature = list[tuple[str, int, int]]


def cleaning_hash(params: CleaningParams) -> str:
    """Hash of the cleaning parameters, of its version and of the versions of its packages."""
    packages = [f"{name} {'.'.join(version(name).split('.')[:2])}" for name in PACKAGES]
    values = params.model_dump(exclude=WITHOUT_EFFECT)
    content = {"version": CLEANING_VERSION, "packages": packages, **values}
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def content_hash(root: str | Path, files: FileSignature) -> str:
    """Hash of the files' names and contents."""
    digest = hashlib.blake2b(digest_size=16)
    for name, size, _ in files:
        digest.update(f"{PurePosixPath(name).name}\0{size}\0".encode())
        if size < 0:
            continue
        with open(os.path.join(root, name), "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def file_signature(row: Mapping[str, Any]) -> FileSignature:
    """Name, size and time (ns) of every file that the clean signal of a recording depends on.

    `row` is one of `find_recordings`. A file that is missing has size −1.
    """
    root, path = str(row["bids_root"]), str(row["path"])
    folder, _, name = path.rpartition("/")
    found = [f"{folder}/{file}" for file in _signal_files(os.path.join(root, folder), name)]
    for suffix in SIDECARS:
        found += [file.relative_to(root).as_posix() for file in sidecars(root, path, suffix)]
    return [(file, *_size_and_time(os.path.join(root, file))) for file in sorted(set(found))]


def _signal_files(folder: str, name: str) -> set[str]:
    """Names, relative to the folder, of the files that the signal of a recording may be read from.

    These are all ``<stem>_eeg.*`` except JSON and TSV, the contents of folders, and files that the
    header `name` may refer to: those named in a BrainVision header and, since an EEGLAB header
    would have to be read whole, every ``.fdt`` without a ``.set``.
    """
    stem = name.rpartition(".")[0].partition("_split-")[0].removesuffix("_eeg")
    # _eeg-1.fif is the second file of a recording that BIDS does not split
    own = re.compile(re.escape(stem) + r"(_split-\d+)?_eeg[.-].*(?<!\.json)(?<!\.tsv)", re.DOTALL)
    names = _names(folder, os.stat(folder).st_mtime_ns) if os.path.isdir(folder) else ()
    files = set()
    for place in (Path(folder, other) for other in names if own.fullmatch(other)):
        parts = filter(Path.is_file, place.rglob("*")) if place.is_dir() else [place]
        files |= {part.relative_to(folder).as_posix() for part in parts}
    start, ending = os.path.splitext(name)
    if ending.lower() == ".vhdr":
        files |= _named_in_vhdr(os.path.join(folder, name), start)
    elif ending.lower() == ".set":
        headers = {other[:-4] for other in names if other.lower().endswith(".set")}
        data = {other for other in names if other.lower().endswith(".fdt")}
        files |= {other for other in data if other[:-4] not in headers}
    return files


def _named_in_vhdr(path: str, stem: str) -> set[str]:
    """Names of the data and the markers in a BrainVision header, as far as it can be read."""
    try:
        text, _ = read_text(Path(path))
    except (OSError, UnreadableSidecar):
        return set()
    names = NAMED_IN_VHDR.findall(text)
    return {name.replace("$b", stem).replace("\\", "/") for name in names}


@lru_cache(maxsize=8)
def _names(folder: str, changed: int) -> tuple[str, ...]:
    """Names in a folder that last changed at `changed` (ns)."""
    return tuple(sorted(os.listdir(folder)))


def _size_and_time(path: str) -> tuple[int, int]:
    """Size and time (ns) of a file; −1 if it does not exist or is not a regular file.

    The time is the later of mtime and ctime, because copying can preserve the mtime.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    time = max(found.st_mtime_ns, found.st_ctime_ns)
    return (found.st_size, time) if stat.S_ISREG(found.st_mode) else (-1, -1)
