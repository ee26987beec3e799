"""Clean one recording into the store: the task that the builder gives to its workers.

It imports no pandas and no more of MNE than it needs: a worker's start is to be short.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.files import renamed_when_done
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.content import content_hash, known_hash, note_hash, stamp
from hbn_foundation.signals.store_files import (
    FOLDERS,
    describe,
    describe_failure,
    description_file,
    read_description,
    signal_file,
    write_json,
)


@dataclass(frozen=True)
class CleaningTask:
    """One recording to clean, at its place in the index."""

    place: int
    row: dict[str, Any]
    store: str
    params: CleaningParams
    cleaning: str


def done_before(task: CleaningTask) -> dict[str, Any] | None:
    """Find the description of a recording cleaned before whose files have not changed since."""
    recording = str(task.row["recording"])
    content = known_hash(task.store, recording, stamp(task.row))
    if content is None:
        return None
    description = _read(task, content)
    return None if description is None else {**description, "known": True}


def _read(task: CleaningTask, content: str) -> dict[str, Any] | None:
    """Read the description of a recording cleaned before, if its signal is there as well."""
    key = (task.store, str(task.row["recording"]), content, task.cleaning)
    description = read_description(*key)
    if description is None or (description["status"] == "ok" and not signal_file(*key).is_file()):
        return None
    return description


def seconds_allowed(row: Mapping[str, Any], least: float) -> float:
    """Seconds that reading may take: `least`, and as many again for each 10 MB of the files."""
    return least * (1 + sum(max(size, 0) for _, size, _ in stamp(row)) / 1e7)


def load_readers() -> None:
    """Import what cleaning needs: that takes seconds, or a minute from a network drive."""
    import mne.io  # noqa: F401
    import scipy.fft  # noqa: F401

    import hbn_foundation.recordings.clean  # noqa: F401


def clean_task(task: CleaningTask) -> dict[str, Any]:
    """Clean one recording; run in a worker.

    Raises
    ------
    UserError
        The disk is full or the store cannot be written. Whatever else is wrong is taken for a
        fault of the recording, and is in its description.
    """
    from hbn_foundation.recordings.integrity import UnreadableRecording

    recording = str(task.row["recording"])
    content = ""
    try:
        files = stamp(task.row)
        content = content_hash(task.row["bids_root"], files)
        description = _read(task, content)
        if description is None:
            try:
                description = _clean_content(task, content)
            except UnreadableRecording as error:
                description = describe_failure(task.row, str(error), content, task.cleaning)
            key = (task.store, recording, content, task.cleaning)
            write_json(description_file(*key), description)
        note_hash(task.store, recording, files, content)
        return description
    except UserError:
        raise
    except MemoryError:
        reason = "it needs more memory than there is or than store.max_memory_gb allows"
    except Exception as error:  # one recording must not end the run
        if isinstance(error, OSError) and _is_of_store(error, task.store):
            raise UserError(
                f"store.path: {error.filename} cannot be written ({error.strerror})"
            ) from error
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return describe_failure(
        task.row, f"{reason}; tried again in the next run", content, task.cleaning
    )


def _is_of_store(error: OSError, store: str) -> bool:
    """Tell whether the file that could not be opened is one of the store's."""
    if not isinstance(error.filename, str | bytes):
        return False
    file = Path(os.path.abspath(os.fsdecode(error.filename)))
    return any(file.is_relative_to(os.path.abspath(Path(store, name))) for name in FOLDERS)


def _clean_content(task: CleaningTask, content: str) -> dict[str, Any]:
    from hbn_foundation.recordings.clean import clean_recording

    out = signal_file(task.store, str(task.row["recording"]), content, task.cleaning)
    with renamed_when_done(out) as temporary:
        cleaned = clean_recording(task.row, task.params, temporary)
    return describe(task.row, cleaned, content, task.cleaning)
