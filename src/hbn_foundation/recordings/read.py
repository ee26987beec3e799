"""Open a recording, and read its eeg.json.

Files are opened with `mne.io.read_raw` and the sidecars read here. `mne_bids.read_raw_bids`
takes half as long again, and fails on things that do not matter here: events whose onset is
``n/a``, a participant missing from participants.tsv, a channels.tsv that disagrees with the file.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.recordings.integrity import (
    UnreadableRecording,
    check_duration,
    check_fdt,
    check_file,
    is_passing,
)
from hbn_foundation.sidecars import inherited_json

NO_EFFECT = re.compile(
    # filters, gaps and channels are read and told by this package
    r"different (high|low)pass|cutoff frequency|software filter|boundary|mixed sampling|not unique"
    # what is not used: dates, persons, positions of other points, times of annotations
    r"|date|birth|patient|subject|naming conventions|channel loc|coordinate|montage|position"
    r"|annotation\(s\)|events have an onset",
    re.IGNORECASE,
)
"""Warnings of readers that say nothing of the signal."""


def read_raw(path: str | Path, notes: list[str] | None = None, **options: Any) -> Any:
    """Open a recording without loading its samples.

    Parameters
    ----------
    path
        The file (or ``.mff`` folder).
    notes
        What the reader warns of is added here, as far as it concerns the signal.
    options
        Of the reader, such as ``include``.

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
    # mne.io.read_raw knows EGI by its .mff alone
    reader = mne.io.read_raw_egi if path.suffix.lower() == ".raw" else mne.io.read_raw
    try:
        check_file(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raw = _opened(reader, path, options)
        raw.get_channel_types()  # a damaged FIF file has kinds that there are not
    except UnreadableRecording:
        raise
    except Exception as error:  # whatever a reader trips over is a reason to leave the file out
        if is_passing(error):
            raise
        raise UnreadableRecording(f"cannot be read: {one_line(error)}") from error
    if notes is not None:
        told = [one_line(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
        told = [f"MNE: {text}" for text in told if not NO_EFFECT.search(text)]
        notes += [text for text in dict.fromkeys(told) if text not in notes]
    if not np.isfinite(raw.info["sfreq"]) or raw.info["sfreq"] <= 0:
        raise UnreadableRecording(f"sampling rate of {raw.info['sfreq']:g} Hz")
    if raw.n_times == 0:
        raise UnreadableRecording("no samples")
    files = [Path(name) for name in raw.filenames if name is not None]
    check_fdt(path, files, len(raw.ch_names), raw.n_times)
    return raw


def _opened(reader: Callable[..., Any], path: Path, options: Mapping[str, Any]) -> Any:
    """Open a file; the texts of annotations in EDF may be in another encoding than UTF-8."""
    try:
        return reader(path, preload=False, verbose="WARNING", **options)
    except Exception as error:
        if path.suffix.lower() not in (".edf", ".bdf") or "latin1" not in str(error):
            raise
        return reader(path, preload=False, verbose="WARNING", encoding="latin1", **options)


def one_line(error: BaseException | str) -> str:
    """Put an exception's message in one line of at most 200 characters."""
    text = " ".join(str(error).split())[:200]
    if text and not isinstance(error, KeyError):
        return text
    return f"{type(error).__name__} {text}".strip()


def read_sidecar(root: str | Path, path: str) -> dict[str, Any]:
    """Read a recording's eeg.json; empty when there is none or it is damaged."""
    return inherited_json(root, path, "eeg.json")[0]


def check_length(raw: Any, path: str, info: Mapping[str, Any]) -> None:
    """Compare the length with the sidecar's where the file's header has none."""
    if path.lower().endswith(".vhdr"):
        check_duration(raw.n_times / raw.info["sfreq"], info.get("RecordingDuration"))
