"""Names of BIDS files: their entities, and the sidecars that belong to a recording.

The names are parsed here and not by mne-bids because a release has tens of thousands:
`mne_bids.find_matching_paths` takes 33 times as long as listing the folders.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path, PurePosixPath

FORMATS = {
    ".edf": "EDF",
    ".bdf": "BDF",
    ".set": "EEGLAB",
    ".vhdr": "BrainVision",
    ".fif": "FIF",
    ".mff": "EGI",
    ".raw": "EGI",
}
"""Formats read, by the (lower-case) ending of the file that is opened."""

SEPARATOR = "-"
"""Between the name of a data set, which has none, and that of a subject or recording in it."""


def entities(name: str) -> dict[str, str]:
    """Entities of a BIDS file name: ``{"sub": "02", "task": "rest"}``."""
    stem = name.rpartition("/")[2].split(".", 1)[0]
    pairs = (part.partition("-") for part in stem.split("_") if "-" in part)
    return {key: value for key, _, value in pairs}


def in_dataset(dataset: str, name: str) -> str:
    """Put the name of its data set before a subject or recording: ``eyes-01``."""
    return f"{dataset}{SEPARATOR}{name}"


def of_dataset(name: str, datasets: Collection[str]) -> tuple[str, str]:
    """Split what `in_dataset` made into data set and name; "" for a name without one of them."""
    dataset, found, own = name.partition(SEPARATOR)
    return (dataset, own) if found and dataset in datasets else ("", name)


def recording_name(name: str) -> str | None:
    """Name the recording that a file holds (``sub-02_task-rest``); None if it holds none.

    Of a FIF recording in several files only the first counts: reading it reads all. A split
    that is no number (`split-a`) is a recording of its own.
    """
    stem, ending = os.path.splitext(name.rpartition("/")[2])
    if ending.lower() not in FORMATS or not stem.endswith("_eeg") or not stem.startswith("sub-"):
        return None
    split = entities(stem).get("split")
    if split is not None and split.isdecimal():
        if int(split) > 1:
            return None
        stem = stem.replace(f"_split-{split}", "")
    return stem.removesuffix("_eeg")


def recordings_in(names: list[str]) -> list[dict[str, str | None]]:
    """Rows of the recordings among file names relative to the root (``sub-1/eeg/…``)."""
    rows: list[dict[str, str | None]] = []
    for path in names:
        recording = recording_name(path)
        if recording is None:
            continue
        parts = entities(recording)
        rows.append(
            {
                "recording": recording,
                "subject": path.partition("/")[0].removeprefix("sub-"),
                "session": parts.get("ses"),
                "task": parts.get("task"),
                "run": parts.get("run"),
                "path": path,
                "format": FORMATS[os.path.splitext(path)[1].lower()],
            }
        )
    return rows


def sidecar(root: str | Path, path: str, suffix: str) -> Path | None:
    """Find the sidecar of a recording: the first of `sidecars`, None when there is none."""
    return next(iter(sidecars(root, path, suffix)), None)


def sidecars(root: str | Path, path: str, suffix: str) -> list[Path]:
    """Find all sidecars of a recording by BIDS's inheritance.

    Parameters
    ----------
    root
        The BIDS root.
    path
        The recording's file, relative to `root`; empty for a signal in memory, which has none.
    suffix
        What the sidecar's name ends with: ``channels.tsv``, ``eeg.json``, ``electrodes.tsv``.

    Returns
    -------
    list of Path
        From the nearest folder to the root, in each the most specific name first. A link to
        nothing is among them.
    """
    if not path:  # a signal in memory
        return []
    wanted = set(entities(path).items())
    folder = PurePosixPath(path).parent
    found = []
    for place in (folder, *folder.parents):
        here = []
        for name in _sidecars_in(os.path.join(root, place)):
            if name == suffix or name.endswith(f"_{suffix}"):
                own = {pair for pair in entities(name).items() if pair[0] != "space"}
                if own <= wanted:
                    here.append((-len(own), name))
        found += [Path(root, place, name) for _, name in sorted(here)]
    return found


@lru_cache(maxsize=64)
def _listing(folder: str, changed: int) -> tuple[str, ...]:
    """Names of the sidecars in a folder that last changed at `changed` (ns)."""
    with os.scandir(folder) as files:
        names = [f.name for f in files]
    # macOS puts ._sub-1_channels.tsv beside files on disks of other systems
    return tuple(n for n in names if n.endswith((".tsv", ".json")) and not n.startswith("."))


def _sidecars_in(folder: str) -> tuple[str, ...]:
    try:
        return _listing(folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return ()
