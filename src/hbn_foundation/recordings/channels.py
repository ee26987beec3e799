"""Tell which channels of a recording are EEG, and where on the head they are.

`mne_bids` is used for electrode positions of electrodes.tsv, with their coordinate systems.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.bids_names import sidecar
from hbn_foundation.recordings.integrity import UnreadableRecording
from hbn_foundation.recordings.montage import (
    canonical_names,
    template_positions,
    to_unit_sphere,
)


@dataclass(frozen=True)
class Channels:
    """EEG channels of a recording that have a position.

    Attributes
    ----------
    picks
        Their columns in the file.
    names
        Canonical names.
    positions
        (C, 3) unit vectors in head coordinates.
    unknown
        EEG channels without a known position, as the file names them.
    bad
        Channels that the data set itself marks as bad, with the reason.
    notes
        What was guessed, left out or not read, a sentence each, for the quality table.
    """

    picks: list[int]
    names: list[str]
    positions: np.ndarray
    unknown: list[str]
    bad: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def eeg_channels(raw: Any, root: str | Path, path: str) -> Channels:
    """Pick the EEG channels of a recording and place them on the head.

    The type of a channel is that of channels.tsv where it names the channel, else that of the
    file. A position is the template's for the channel's name, else the file's own digitised
    one, else that of electrodes.tsv; an EEG channel with none of them is left out.

    Raises
    ------
    UnreadableRecording
        No EEG channel, no positions at all, or two channels of one name.
    """
    described = _channel_table(root, path)
    types = raw.get_channel_types()
    picks = []
    for place, name in enumerate(raw.ch_names):
        said = described.get(name.strip(), {}).get("type", "").upper()
        kind = said if said not in ("", "N/A") else types[place].upper()
        if kind == "EEG":
            picks.append(place)
    if not picks:
        found = sorted({kind.upper() for kind in types})
        raise UnreadableRecording(f"no EEG channel among {len(types)} ({', '.join(found)})")
    given = [raw.ch_names[place].strip() for place in picks]
    canonical = canonical_names([_without_counter(name, given) for name in given])
    positions = _positions(raw, picks, canonical, root, path)
    names = [c if c is not None else g for c, g in zip(canonical, given, strict=True)]
    kept = [i for i in range(len(picks)) if np.isfinite(positions[i]).all()]
    if not kept:
        raise UnreadableRecording(
            f"no positions at all: no template knows the names ({', '.join(given[:4])}, …) and "
            "the file holds none"
        )
    twice = [name for name, n in Counter(names[i] for i in kept).items() if n > 1]
    if twice:
        raise UnreadableRecording(f"duplicate channel names: {', '.join(sorted(twice)[:6])}")
    bad = {}
    for i in kept:
        row = described.get(given[i], {})
        if row.get("status", "").lower() == "bad":
            why = row.get("status_description") or ""
            bad[names[i]] = "channels.tsv" + (f": {why}" if why.lower() not in ("", "n/a") else "")
    return Channels(
        [picks[i] for i in kept],
        [names[i] for i in kept],
        positions[kept],
        [given[i] for i in range(len(picks)) if i not in set(kept)],
        bad,
    )


def _without_counter(name: str, given: list[str]) -> str:
    """Undo the running numbers that MNE appends to names that occur twice (``Fz-0``, ``Fz-1``)."""
    match = re.fullmatch(r"(.+)-(\d+)", name)
    if match and sum(other.startswith(f"{match[1]}-") for other in given) > 1:
        return match[1]
    return name


def _channel_table(root: str | Path, path: str) -> dict[str, dict[str, str]]:
    """Rows of channels.tsv by channel name; empty when there is no such file."""
    file = sidecar(root, path, "channels.tsv")
    if file is None:
        return {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    clean = ({str(k): (v or "") for k, v in row.items() if k is not None} for row in rows)
    return {row.get("name", "").strip(): row for row in clean}


def _positions(
    raw: Any, picks: list[int], canonical: list[str | None], root: str | Path, path: str
) -> np.ndarray:
    """(C, 3) unit vectors, NaN where nothing tells the place."""
    positions = np.full((len(picks), 3), np.nan)
    known = [i for i, name in enumerate(canonical) if name is not None]
    positions[known] = template_positions([str(canonical[i]) for i in known])
    if len(known) == len(picks):
        return positions
    measured = _measured(raw, picks)
    if not np.isfinite(measured).any() and sidecar(root, path, "electrodes.tsv") is not None:
        measured = _measured(_with_electrodes(root, path) or raw, picks)
    there = np.isfinite(measured).all(axis=1)
    if there.any():
        unit = np.full_like(measured, np.nan)
        unit[there] = to_unit_sphere(measured[there])
        unknown = [i for i, name in enumerate(canonical) if name is None]
        positions[unknown] = unit[unknown]
    return positions


def _measured(raw: Any, picks: list[int]) -> np.ndarray:
    """(C, 3) digitised positions in metres, NaN where there is none."""
    points = np.array([raw.info["chs"][place]["loc"][:3] for place in picks], float)
    points[(np.abs(points) < 1e-9).all(axis=1)] = np.nan
    return points


def _with_electrodes(root: str | Path, path: str) -> Any:
    """Open the recording with its electrodes.tsv by mne-bids; None when that fails."""
    import mne_bids

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            location = mne_bids.get_bids_path_from_fname(Path(root, path), verbose="ERROR")
            return mne_bids.read_raw_bids(location, verbose="ERROR")
    except Exception:  # the channels then count as unknown, which the table shows
        return None
