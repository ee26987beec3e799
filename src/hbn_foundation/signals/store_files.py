"""Files of the signal store: their names, and writing each so that a crash loses nothing.

``signals/<recording>-<key>.npy``   the signal, time-major float16 (T, C)
``signals/<recording>-<key>.json``  everything known about it; written after the signal, so that
                                    a description without a signal cannot be
``index.parquet``                   the table of the recordings selected last, with the layout

The key is a hash of the input's content and of the cleaning parameters. So a run with other
parameters or newer files adds to the store and never changes what an earlier index refers to.
Each file is written to a temporary name in the same folder and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.cleaned import CleanedRecording

FORMAT = 1
"""Version of the files' format; a store of another version is made anew."""

INDEX = "index.parquet"
METADATA_KEY = b"hbn_foundation"
HIDDEN_COLUMNS = ("channels", "scales", "bad")
"""Columns of the index that hold one list per recording and are left out of the table."""

TABLE_COLUMNS = (
    *("recording", "subject", "session", "task", "run", "status", "reason"),
    *("n_channels", "n_samples", "sfreq", "duration", "n_bad", "bad_channels"),
    *("content_hash", "cleaning_hash"),
)
"""Columns that every table has; the measures of the quality follow."""


def signal_file(store: str | Path, recording: str, content_hash: str, cleaning_hash: str) -> Path:
    """Path of a recording's signal."""
    key = hashlib.blake2b(f"{content_hash} {cleaning_hash}".encode(), digest_size=6).hexdigest()
    return Path(store) / "signals" / f"{recording}-{key}.npy"


def description_file(
    store: str | Path, recording: str, content_hash: str, cleaning_hash: str
) -> Path:
    """Path of a recording's description."""
    return signal_file(store, recording, content_hash, cleaning_hash).with_suffix(".json")


@contextlib.contextmanager
def renamed_when_done(path: Path, bytes_needed: int | None = None) -> Iterator[Path]:
    """Give a temporary name to write to, renamed to `path` when the block ends well.

    Parameters
    ----------
    path
        The final name. Its folder is made.
    bytes_needed
        How much is being written, for the message.

    Raises
    ------
    UserError
        The disk is full (or a quota reached). Files written before stay as they are.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise disk_full(path, bytes_needed) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def disk_full(path: Path, bytes_needed: int | None = None) -> UserError:
    """Error for a disk without room for `path`."""
    need = f": {bytes_needed / 1e6:.1f} MB needed" if bytes_needed else ""
    return UserError(
        f"{path}: disk full{need}; free some space or set another path and run again, "
        "what is written already is kept"
    )


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
    if value is None or value is pd.NA:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def index_row(description: Mapping[str, Any]) -> dict[str, Any]:
    """Row of the index for one description."""
    bad = description.get("bad", {})
    n_samples, sfreq = description.get("n_samples", 0), description.get("sfreq", np.nan)
    channels = description.get("channels", [])
    ok = description["status"] == "ok"
    return {
        **{name: description[name] for name in TABLE_COLUMNS[:7]},
        "n_channels": len(channels),
        "n_samples": n_samples,
        "sfreq": sfreq,
        "duration": n_samples / sfreq if ok else np.nan,
        "n_bad": len(bad),
        "bad_channels": ", ".join(f"{name} ({why})" for name, why in bad.items()),
        "content_hash": description["content_hash"],
        "cleaning_hash": description["cleaning_hash"],
        **description["quality"],
        "channels": channels,
        "scales": description.get("scales", []),
        "bad": list(bad),
    }


def write_index(store: str | Path, descriptions: Sequence[Mapping[str, Any]]) -> None:
    """Write ``index.parquet`` for these recordings, in this order, with the layout.

    The layout's position of a channel is the mean direction over the recordings that have it:
    the template's own where names are known, the group's where heads were digitised.
    """
    frame = pd.DataFrame([index_row(description) for description in descriptions])
    for name in (*TABLE_COLUMNS, *HIDDEN_COLUMNS):
        if name not in frame:
            frame[name] = pd.Series(dtype=object)
    text = ["recording", "subject", "session", "task", "run", "status", "reason"]
    frame[text] = frame[text].astype("string")
    layout = _layout(descriptions)
    rates = sorted({float(d["sfreq"]) for d in descriptions if d["status"] == "ok"})
    if len(rates) > 1:
        raise UserError(f"{store}: recordings at {rates} Hz in one signal store, expected one rate")
    metadata = {"format": FORMAT, "sfreq": rates[0] if rates else None, "layout": layout}
    write_index_file(Path(store) / INDEX, frame, {**metadata, "store": "."})


def write_index_file(path: Path, frame: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    """Write an index: one row per recording, and the metadata in the file's schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), METADATA_KEY: json.dumps(metadata).encode()}
    )
    with renamed_when_done(path, table.nbytes) as temporary:
        pq.write_table(table, temporary)


def read_index_file(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read an index and its metadata; they are empty when the file is no index of a store."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, partitioning=None)
    content = (table.schema.metadata or {}).get(METADATA_KEY)
    return table.to_pandas(), json.loads(content) if content else {}


def _layout(descriptions: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Every channel's mean direction, in order of first appearance (fullest recording first)."""
    sums: dict[str, np.ndarray] = {}
    usable = [d for d in descriptions if d["status"] == "ok"]
    for description in sorted(usable, key=lambda d: -len(d["channels"])):
        for name, position in zip(description["channels"], description["positions"], strict=True):
            sums[name] = sums.get(name, 0.0) + np.asarray(position, float)
    return {name: (total / np.linalg.norm(total)).tolist() for name, total in sums.items()}


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
