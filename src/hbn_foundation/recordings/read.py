"""Open a recording, and read its eeg.json.

Files are opened with `mne.io.read_raw` and the sidecars read here. `mne_bids.read_raw_bids`
takes half as long again, and fails on things that do not matter here: events whose onset is
``n/a``, a participant missing from participants.tsv, a channels.tsv that disagrees with the file.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.bids_names import sidecar
from hbn_foundation.recordings.integrity import (
    UnreadableRecording,
    check_duration,
    check_fdt,
    check_file,
    is_passing,
)


def read_raw(path: str | Path) -> Any:
    """Open a recording without loading its samples.

    Parameters
    ----------
    path
        The file (or ``.mff`` folder).

    Returns
    -------
    mne.io.BaseRaw
        Not preloaded; only an EEGLAB file that holds its own samples is in memory.

    Raises
    ------
    UnreadableRecording
        With the reason, whatever is wrong with the file.
    """
    import mne

    path = Path(path)
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # mne.io.read_raw knows EGI by its .mff alone
            reader = mne.io.read_raw_egi if path.suffix.lower() == ".raw" else mne.io.read_raw
            raw = reader(path, preload=False, verbose="ERROR")
    except Exception as error:  # whatever a reader trips over is a reason to leave the file out
        if is_passing(error):
            raise
        raise UnreadableRecording(f"cannot be read: {one_line(error)}") from error
    if not np.isfinite(raw.info["sfreq"]) or raw.info["sfreq"] <= 0:
        raise UnreadableRecording(f"sampling rate of {raw.info['sfreq']:g} Hz")
    if raw.n_times == 0:
        raise UnreadableRecording("no samples")
    files = [Path(name) for name in raw.filenames if name is not None]
    check_fdt(path, files, len(raw.ch_names), raw.n_times)
    return raw


def one_line(error: BaseException) -> str:
    """Put an exception's message in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def read_sidecar(root: str | Path, path: str) -> dict[str, Any]:
    """Read a recording's eeg.json; empty when there is none or it is damaged."""
    file = sidecar(root, path, "eeg.json")
    try:
        content = json.loads(file.read_bytes()) if file else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def check_length(raw: Any, path: str, info: Mapping[str, Any]) -> None:
    """Compare the length with the sidecar's where the file's header has none."""
    if path.lower().endswith(".vhdr"):
        check_duration(raw.n_times / raw.info["sfreq"], info.get("RecordingDuration"))
