"""Files of the signal store: their names, and writing each so that a crash loses nothing.

``signals/<recording>-<key>.npy``   the signal, time-major float16 (T, C)
``signals/<recording>-<key>.json``  everything known about it; written after the signal, so that
                                    a description without a signal cannot be
``sources/<recording>.json``        size, time and hash of the input files seen last (`build.py`)
``index.parquet``                   the recordings selected last (`store_index.py`)

The key is a hash of the input's content and of the cleaning parameters. So a run with other
parameters or newer files adds to the store and never changes what an earlier index refers to.
Each file is written to a temporary name in the same folder and renamed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.files import renamed_when_done
from hbn_foundation.recordings.cleaned import CleanedRecording

FORMAT = 2
"""Version of the files' format; a store of another version is made anew."""

FOLDERS = ("signals", "sources")
"""Folders of the store."""


def signal_file(store: str | Path, recording: str, content_hash: str, cleaning_hash: str) -> Path:
    """Path of a recording's signal."""
    key = hashlib.blake2b(f"{content_hash} {cleaning_hash}".encode(), digest_size=6).hexdigest()
    return Path(store) / "signals" / f"{recording}-{key}.npy"


def description_file(
    store: str | Path, recording: str, content_hash: str, cleaning_hash: str
) -> Path:
    """Path of a recording's description."""
    return signal_file(store, recording, content_hash, cleaning_hash).with_suffix(".json")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` in one go."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    with renamed_when_done(path, len(text)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def describe(
    row: Mapping[str, Any], cleaned: CleanedRecording, content_hash: str, cleaning_hash: str
) -> dict[str, Any]:
    """Describe a clean recording, as its JSON file holds it."""
    return {
        **_identity(row, content_hash, cleaning_hash),
        "status": "ok",
        "reason": "",
        "sfreq": float(cleaned.sfreq),
        "n_samples": int(cleaned.n_samples),
        "stretches": [list(stretch) for stretch in cleaned.timeline.stretches],
        "bad_segments": [list(segment) for segment in cleaned.timeline.bad],
        "channels": list(cleaned.names),
        "positions": np.asarray(cleaned.positions, float).round(6).tolist(),
        "scales": np.asarray(cleaned.scales, float).tolist(),
        "bad": dict(cleaned.bad),
        "quality": {key: _plain(value) for key, value in cleaned.quality.items()},
    }


def describe_failure(
    row: Mapping[str, Any],
    reason: str,
    content_hash: str,
    cleaning_hash: str,
    quality: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe a recording that could not be used, as its JSON file holds it."""
    return {
        **_identity(row, content_hash, cleaning_hash),
        "status": "failed",
        "reason": reason,
        "quality": {key: _plain(value) for key, value in (quality or {}).items()},
    }


def _identity(row: Mapping[str, Any], content_hash: str, cleaning_hash: str) -> dict[str, Any]:
    names = ("recording", "subject", "session", "task", "run", "path")
    return {
        "format": FORMAT,
        **{name: _plain(row.get(name)) for name in names},
        "content_hash": content_hash,
        "cleaning_hash": cleaning_hash,
    }


def _plain(value: Any) -> Any:
    """Value as JSON knows it: missing and non-finite values become null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def write_recording(
    store: str | Path,
    row: Mapping[str, Any],
    cleaned: CleanedRecording,
    signal: np.ndarray,
    content_hash: str = "",
    cleaning_hash: str = "",
) -> dict[str, Any]:
    """Write one recording's signal and description; return the description.

    `signal` is (T, C) in stored units. The index is not touched: call `write_index` at the end.
    """
    path = signal_file(store, str(row["recording"]), content_hash, cleaning_hash)
    signal = np.ascontiguousarray(signal, dtype=np.float16)
    with renamed_when_done(path, signal.nbytes) as temporary, temporary.open("wb") as file:
        np.save(file, signal)
    description = describe(row, cleaned, content_hash, cleaning_hash)
    write_json(path.with_suffix(".json"), description)
    return description


def read_description(
    store: str | Path, recording: str, content_hash: str, cleaning_hash: str
) -> dict[str, Any] | None:
    """Read the description of a recording; None when it is absent, damaged or of another format."""
    path = description_file(store, recording, content_hash, cleaning_hash)
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    return content
