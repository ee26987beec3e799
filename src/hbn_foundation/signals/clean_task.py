"""Clean one recording into the store: the task that the builder gives to its workers.

This module imports neither pandas nor MNE, so that a worker starts quickly.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.errors import UserError
from hbn_foundation.files import renamed_when_done
from hbn_foundation.recordings.clean import CleanedRecording
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.quality import REFERENCE
from hbn_foundation.signals.content import content_hash, file_signature
from hbn_foundation.signals.parallel import Limits
from hbn_foundation.signals.params import BuildParams

FORMAT = 2
"""Version of the store's files; a store of another version is built again."""

SIGNALS = "signals"
"""Folder of the signals in the store."""

RETRY_NOTE = "; tried again in the next run"


@dataclass(frozen=True)
class CleaningTask:
    """One recording to clean: its position in the index and its row of `find_recordings`.

    `store` is the store's folder, `cleaning` the hash of `params`, and `known` holds what the
    store knows of the recording for this cleaning: descriptions by content hash. Of a `raw` in
    memory (`mne.io.BaseRaw`), the row names no file.
    """

    place: int
    row: dict[str, Any]
    store: str
    params: CleaningParams
    cleaning: str
    known: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    raw: Any = None


def signal_file(store: str | Path, recording: str, content_hash: str, cleaning_hash: str) -> Path:
    """Path of a recording's signal, named by content and cleaning.

    Other parameters or newer files add signals and never change those of an earlier index.
    """
    key = hashlib.blake2b(f"{content_hash} {cleaning_hash}".encode(), digest_size=6).hexdigest()
    return Path(store, SIGNALS, f"{recording}-{key}.npy")


def describe(
    row: Mapping[str, Any], cleaned: CleanedRecording, content_hash: str, cleaning_hash: str
) -> dict[str, Any]:
    """Describe a clean recording by texts, numbers and lists of numbers: its row of the index."""
    bad = {name: why for name, why in cleaned.bad.items() if why != REFERENCE}
    positions = np.asarray(cleaned.positions, float).round(6)
    return {
        **describe_failure(row, "", content_hash, cleaning_hash),
        "status": "ok",
        "n_channels": len(cleaned.names),
        "n_samples": int(cleaned.n_samples),
        "sfreq": float(cleaned.sfreq),
        "duration": cleaned.n_samples / cleaned.sfreq,
        "n_bad": len(bad),
        "bad_channels": ", ".join(f"{name} ({why})" for name, why in bad.items()),
        "reference": ", ".join(name for name in cleaned.bad if name not in bad),
        "channels": "\t".join(cleaned.names),
        "scales": np.asarray(cleaned.scales, np.float32).tolist(),
        "bad": "\t".join(cleaned.bad),
        "stretches": np.array(cleaned.timeline.stretches, float).ravel().tolist(),
        "bad_segments": np.array(cleaned.timeline.bad, float).ravel().tolist(),
        "positions": json.dumps(positions.tolist(), allow_nan=False),
        "quality": json.dumps({name: _plain(value) for name, value in cleaned.quality.items()}),
    }


def describe_failure(
    row: Mapping[str, Any], reason: str, content_hash: str = "", cleaning_hash: str = ""
) -> dict[str, Any]:
    """Describe a recording that cannot be used."""
    identity = ("recording", "subject", "session", "task", "run", "path")
    return {
        **{name: _plain(row.get(name)) for name in identity},
        "status": "failed",
        "reason": reason,
        "sfreq": None,
        "duration": None,
        **dict.fromkeys(("n_channels", "n_samples", "n_bad"), 0),
        **dict.fromkeys(("bad_channels", "reference", "channels", "bad"), ""),
        **{name: [] for name in ("scales", "stretches", "bad_segments")},
        "positions": "[]",
        "quality": "{}",
        "files": "",
        "format": FORMAT,
        "content_hash": content_hash,
        "cleaning_hash": cleaning_hash,
    }


def _plain(value: Any) -> Any:
    """Convert a value for JSON: missing and non-finite values become null."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def limits(build: BuildParams, row_of: Callable[[Any], Mapping[str, Any]]) -> Limits:
    """Limits of tasks that read a recording each; `row_of` gives the recording's row."""

    def seconds(task: Any) -> float:
        n_bytes = sum(max(size, 0) for _, size, _ in file_signature(row_of(task)))
        return build.max_seconds * (1 + n_bytes / 1e7)

    return Limits(seconds, load_readers, build.max_memory_gb)


def load_readers() -> None:
    """Import what cleaning needs; this takes seconds, or a minute from a network drive."""
    import mne.io  # noqa: F401
    import scipy.fft  # noqa: F401

    import hbn_foundation.recordings.clean  # noqa: F401


def clean_task(task: CleaningTask) -> dict[str, Any]:
    """Clean one recording and describe it; run in a worker.

    `files` in the description is the signature of its files, or empty if the recording is to be
    tried again in the next run. A full disk and a store that cannot be written are a UserError;
    any other error is attributed to the recording and is in its description.
    """
    from hbn_foundation.recordings.read import UnreadableRecording

    content = ""
    try:
        files = file_signature(task.row) if task.raw is None else []
        content = content_hash(str(task.row["bids_root"]), files)
        description = task.known.get(content)
        if description is None:
            try:
                description = _clean(task, content)
            except UnreadableRecording as error:
                description = describe_failure(task.row, str(error), content, task.cleaning)
        return {**description, "files": json.dumps(files)}
    except UserError:
        raise
    except MemoryError:
        reason = "it needs more memory than there is or than store.max_memory_gb allows"
    except Exception as error:  # one recording does not end the run
        if isinstance(error, OSError) and _is_of_store(error, task.store):
            raise UserError(
                f"store.path: {error.filename} cannot be written ({error.strerror})"
            ) from error
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return describe_failure(task.row, reason + RETRY_NOTE, content, task.cleaning)


def _is_of_store(error: OSError, store: str) -> bool:
    """Tell whether the file that could not be opened is one of the store's signals."""
    if not isinstance(error.filename, str | bytes):
        return False
    file = Path(os.path.abspath(os.fsdecode(error.filename)))
    return file.is_relative_to(os.path.abspath(Path(store, SIGNALS)))


def _clean(task: CleaningTask, content: str) -> dict[str, Any]:
    from hbn_foundation.recordings.clean import clean_recording

    out = signal_file(task.store, str(task.row["recording"]), content, task.cleaning)
    with renamed_when_done(out) as temporary:
        cleaned = clean_recording(task.row, task.params, temporary, task.raw)
    return describe(task.row, cleaned, content, task.cleaning)
