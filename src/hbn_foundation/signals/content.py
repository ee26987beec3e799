"""What a recording consists of on disk, and hashes of its content and of the cleaning."""

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
from hbn_foundation.files import renamed_when_done
from hbn_foundation.recordings.params import CleaningParams

CLEANING_VERSION = 2
"""To be raised when the code cleans otherwise than before with the same parameters."""

SIDECARS = ("channels.tsv", "eeg.json", "electrodes.tsv", "coordsystem.json", "events.tsv")
WITHOUT_EFFECT = {"chunk_seconds", "scale"}
"""Parameters of the cleaning that do not change its result on disk."""

PACKAGES = ("mne", "pymatreader", "scipy")
"""What reads and filters; another version of one (but of its last number) cleans again."""

NAMED_IN_VHDR = re.compile(rb"(?im)^\s*(?:DataFile|MarkerFile)\s*=\s*(.+?)\s*$")

Stamp = list[tuple[str, int, int]]


def cleaning_hash(params: CleaningParams) -> str:
    """Hash of the parameters of the cleaning, of its version and of those of its packages."""
    packages = [f"{name} {'.'.join(version(name).split('.')[:2])}" for name in PACKAGES]
    content = {
        "version": CLEANING_VERSION,
        "packages": packages,
        **params.model_dump(exclude=WITHOUT_EFFECT),
    }
    return _hash(json.dumps(content, sort_keys=True).encode())


def stamp(row: Mapping[str, Any]) -> Stamp:
    """Name, size and time (ns) of every file that a recording's clean signal depends on.

    Parameters
    ----------
    row
        Row of `find_recordings`. A file that is missing has size −1.
    """
    root, path = str(row["bids_root"]), str(row["path"])
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0].partition("_split-")[0].removesuffix("_eeg")
    files = _own_files(os.path.join(root, folder), stem, name)
    found = [(f"{folder}/{f}", *_size_and_time(os.path.join(root, folder, f))) for f in files]
    for suffix in SIDECARS:
        for file in sidecars(root, path, suffix):
            found.append((file.relative_to(root).as_posix(), *_size_and_time(str(file))))
    return sorted(set(found))


def _own_files(folder: str, stem: str, name: str) -> set[str]:
    """Signal files of a recording: every ``<stem>_eeg.*`` but its JSON; folders' files too.

    Besides, those of other names that its header `name` may mean: BrainVision's is asked; of
    EEGLAB's, which would have to be read whole, every ``.fdt`` without a ``.set`` counts.
    """
    names = _names(folder, _time(folder))
    files = set()
    for own in (n for n in names if _is_own(n, stem)):
        place = Path(folder, own)
        if place.is_dir():
            files |= {p.relative_to(folder).as_posix() for p in place.rglob("*") if p.is_file()}
        else:
            files.add(own)
    start, ending = os.path.splitext(name)
    if ending.lower() == ".vhdr":
        files |= _named_in_vhdr(os.path.join(folder, name), start)
    elif ending.lower() == ".set":
        headers = {n[:-4] for n in names if n.lower().endswith(".set")}
        files |= {n for n in names if n.lower().endswith(".fdt") and n[:-4] not in headers}
    return files


def _is_own(name: str, stem: str) -> bool:
    if not name.startswith(stem) or name.endswith((".json", ".tsv")):
        return False
    rest = name[len(stem) :]
    # _eeg-1.fif is the second file of a recording that is none of BIDS's splits
    return re.match(r"(_split-\d+)?_eeg[.-]", rest) is not None


def _named_in_vhdr(path: str, stem: str) -> set[str]:
    """Names of the data and the markers in a BrainVision header, as far as it can be read."""
    if _size_and_time(path)[0] < 0:
        return set()
    try:
        named = NAMED_IN_VHDR.findall(Path(path).read_bytes())
    except OSError:
        return set()
    return {_decoded(name).replace("$b", stem).replace("\\", "/") for name in named}


def _decoded(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


@lru_cache(maxsize=8)
def _names(folder: str, changed: int) -> tuple[str, ...]:
    """Names in a folder that last changed at `changed` (ns)."""
    return tuple(sorted(os.listdir(folder))) if changed >= 0 else ()


def _time(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return -1


def _size_and_time(path: str) -> tuple[int, int]:
    """Size and time (ns) of a file; −1 where there is none (or something that never ends).

    The time is that of the last change of any kind: copying can keep the content's.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    time = max(found.st_mtime_ns, found.st_ctime_ns)
    return (found.st_size, time) if stat.S_ISREG(found.st_mode) else (-1, -1)


def content_hash(root: str | Path, files: Stamp) -> str:
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


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def known_hash(store: str | Path, recording: str, files: Stamp) -> str | None:
    """Content hash noted when the files had this stamp; None when they have changed since."""
    try:
        noted = json.loads(_note(store, recording).read_bytes())
        same = [tuple(f) for f in noted["files"]] == files
        return str(noted["content_hash"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_hash(store: str | Path, recording: str, files: Stamp, content: str) -> None:
    """Note the content hash of files, for `known_hash`."""
    text = json.dumps({"files": files, "content_hash": content})
    with renamed_when_done(_note(store, recording), len(text)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _note(store: str | Path, recording: str) -> Path:
    return Path(store) / "sources" / f"{recording}.json"
