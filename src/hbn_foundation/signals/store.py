"""The signal store: one clean memory-mapped signal per recording, and a table of them all.

``signals/<recording>-<key>.npy``  the signal, time-major float16 (T, C)
``index.parquet``                  the recordings of the last build (`index.py`)
``cleaned.parquet``, ``journal.jsonl``  all recordings cleaned so far (`journal.py`)

Every file but a journal is written to a temporary name in the same folder and renamed.
A store is read through `SignalStore`; `build.py` makes one from BIDS recordings,
`store_from_arrays` a small one from memory.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.files import renamed_when_done
from hbn_foundation.recordings.clean import CleanedRecording
from hbn_foundation.recordings.timeline import Segment, Stretch, Timeline
from hbn_foundation.signals.clean_task import FORMAT, describe, signal_file
from hbn_foundation.signals.index import (
    HIDDEN_COLUMNS,
    INDEX,
    IndexBuilder,
    read_index_file,
    write_index_file,
)

IDENTITY = ("recording", "content_hash", "cleaning_hash")
"""Columns that say which signal a recording has."""

MAX_GAIN = 10.0
"""Limit of the factor between a recording's scale and its subject's; beyond, it is an artefact."""


class SignalStore:
    """Clean signals on disk and their table; signals are memory-mapped.

    `path` is the store's folder, or an index that `save` wrote elsewhere; anything else, or an
    index of another format, is a UserError. `content` is table and metadata of the index, if they
    are in memory already.
    """

    def __init__(
        self, path: str | Path, content: tuple[pd.DataFrame, dict[str, Any]] | None = None
    ) -> None:
        index = Path(path) / INDEX if Path(path).is_dir() else Path(path)
        if not index.is_file():
            raise UserError(f"{path}: no signal store here (no {index.name}); run ingestion first")
        self._index, self._metadata = content or read_index_file(index)
        if self._metadata.get("format") != FORMAT:
            raise UserError(
                f"{index}: format {self._metadata.get('format')} of the signal store's index, "
                f"expected {FORMAT}; run ingestion again"
            )
        self.index_path = index
        self.path = Path(os.path.normpath(index.parent / self._metadata["store"]))
        layout = self._metadata["layout"]
        self.channel_names: tuple[str, ...] = tuple(layout)
        """Names of the layout's C channels: the union over all usable recordings."""
        self.positions: np.ndarray = np.array(list(layout.values()), np.float32).reshape(-1, 3)
        """(C, 3) unit vectors of the layout's channels in head coordinates."""
        self._usable_rows = np.flatnonzero(self._index["status"].to_numpy() == "ok")
        self._place = {name: place for place, name in enumerate(self.channel_names)}

    def save(self, index: Path) -> None:
        """Write an index of this selection of recordings to another place.

        The signals stay in the store, to which the index has a relative path. Later builds of the
        store do not change the signals that it refers to.
        """
        there = os.path.relpath(self.path.absolute(), index.absolute().parent)
        write_index_file(index, self._index, {**self._metadata, "store": there})

    def __repr__(self) -> str:
        """Path and size in one line."""
        return f"SignalStore({str(self.path)!r}, {len(self)} recordings)"

    def __len__(self) -> int:
        """Count of the usable recordings."""
        return len(self._usable_rows)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Pickle the path only, so that sending a store to another process costs nothing."""
        return (SignalStore, (str(self.index_path),))

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz of all recordings; that no recording is usable is a UserError."""
        if self._metadata["sfreq"] is None:
            raise UserError(f"{self.path}: the signal store has no usable recording")
        return float(self._metadata["sfreq"])

    @cached_property
    def table(self) -> pd.DataFrame:
        """All selected recordings with status, reason and the measures of their quality."""
        return self._index.drop(columns=list(HIDDEN_COLUMNS))

    @cached_property
    def recordings(self) -> pd.DataFrame:
        """The usable rows of `table`; their position is the `row` that the methods take."""
        return self.table.iloc[self._usable_rows].reset_index(drop=True)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the usable recordings' names, contents, cleaning parameters and scale."""
        lines = self.recordings[list(IDENTITY)].astype(str).agg("\t".join, axis=1)
        return hashlib.blake2b("\n".join([*lines, self.scale]).encode(), digest_size=16).hexdigest()

    def signal(self, row: int) -> np.ndarray:
        """Signal of a usable recording, memory-mapped: (T, c) float16 in stored units."""
        return np.load(self.signal_file(row), mmap_mode="r")

    def signal_file(self, row: int) -> Path:
        """Path of the signal of a usable recording."""
        return signal_file(self.path, *map(str, self.recordings.loc[row, list(IDENTITY)]))

    def timeline(self, row: int) -> Timeline:
        """Continuous stretches and bad segments of a usable recording."""
        place = self._usable_rows[row]
        stretches = np.asarray(self._index["stretches"].iat[place]).reshape(-1, 3).tolist()
        bad = np.asarray(self._index["bad_segments"].iat[place]).reshape(-1, 2).tolist()
        return Timeline(
            self.sfreq,
            tuple(Stretch(int(start), int(stop), onset) for start, stop, onset in stretches),
            tuple(Segment(int(start), int(stop)) for start, stop in bad),
        )

    @cached_property
    def ranges(self) -> pd.DataFrame:
        """Ranges without gap or bad segment: `row`, `start`, `stop` (samples), `onset` (s).

        Each window lies within one of these ranges. Onsets are real time.
        """
        found = [(row, *part) for row in range(len(self)) for part in self.timeline(row).ranges]
        table = pd.DataFrame(found, columns=["row", "start", "stop", "onset"])
        return table.astype({"row": int, "start": int, "stop": int, "onset": float})

    def range_of(self, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """(N, 2) int64, start and stop of the allowed ranges in which samples (N,) lie."""
        return self._ranges_at(rows, starts)[["start", "stop"]].to_numpy(np.int64)

    def onset_of(self, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Seconds (N,) of real time from the first sample of a recording to samples (N,)."""
        found = self._ranges_at(rows, starts)
        return found["onset"].to_numpy() + (starts - found["start"].to_numpy()) / self.sfreq

    def _ranges_at(self, rows: np.ndarray, starts: np.ndarray) -> pd.DataFrame:
        row, start = (self.ranges[name].to_numpy() for name in ("row", "start"))
        key = rows.astype(np.int64) << 40 | starts
        found = np.searchsorted(row << 40 | start, key, side="right") - 1
        return self.ranges.iloc[np.maximum(found, 0)]

    def channel_index(self, row: int) -> np.ndarray:
        """Positions of the signal's columns in the layout: (c,) int64."""
        names = self._names(row, "channels")
        return np.fromiter((self._place[name] for name in names), np.int64, len(names))

    def usable(self, row: int) -> np.ndarray:
        """Which of the layout's channels are present and not bad: (C,) bool."""
        good = set(self._names(row, "channels")) - set(self._names(row, "bad"))
        return np.array([name in good for name in self.channel_names], bool)

    def scales(self, row: int) -> np.ndarray:
        """Volts per stored unit of the signal's columns: (c,) float32."""
        return np.asarray(self._index["scales"].iat[self._usable_rows[row]], np.float32)

    def good_scales(self, row: int) -> np.ndarray:
        """Volts per stored unit of the layout's channels: (C,) float32, NaN where not usable."""
        scales = np.full(len(self.channel_names), np.nan, np.float32)
        scales[self.channel_index(row)] = self.scales(row)
        scales[~self.usable(row) | (scales <= 0)] = np.nan
        return scales

    def gains(self, row: int) -> np.ndarray:
        """Factors from stored units to the units that windows are read in: (C,) float32.

        On disk each recording has its own robust scale. If the store's `scale` is subject, these
        factors bring all recordings of a subject to the median of their scales.
        """
        gains = np.ones(len(self.channel_names), np.float32)
        if self.scale == "recording":
            return gains
        common = self._subject_scales[str(self.recordings["subject"].iat[row])]
        index = self.channel_index(row)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.scales(row) / common[index]
        gains[index] = np.where(np.isfinite(ratio), ratio, 1).clip(1 / MAX_GAIN, MAX_GAIN)
        return gains

    @property
    def scale(self) -> str:
        """Whether channels are scaled per `subject` or per `recording`."""
        return str(self._metadata.get("scale", "recording"))

    @property
    def cleaning(self) -> dict[str, Any]:
        """Parameters of the cleaning; empty for a store of arrays or of an earlier build."""
        return dict(self._metadata.get("cleaning", {}))

    @property
    def datasets(self) -> dict[str, str | None]:
        """What the data sets call themselves, by name (see `dataset_names`); as `cleaning`."""
        return dict(self._metadata.get("datasets", {}))

    @cached_property
    def _subject_scales(self) -> dict[str, np.ndarray]:
        """Median scale of each channel of the layout (C,) over a subject's good recordings."""
        collected: dict[str, list[np.ndarray]] = {}
        for row, subject in enumerate(self.recordings["subject"].astype(str)):
            collected.setdefault(subject, []).append(self.good_scales(row))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
            return {name: np.nanmedian(rows, axis=0) for name, rows in collected.items()}

    def _names(self, row: int, column: str) -> list[str]:
        joined = str(self._index[column].iat[self._usable_rows[row]])
        return joined.split("\t") if joined else []


def store_from_arrays(
    path: str | Path,
    recordings: Iterable[tuple[Mapping[str, Any], np.ndarray]],
    names: tuple[str, ...],
    positions: np.ndarray,
    sfreq: float = 100.0,
) -> SignalStore:
    """Make a store from signals in memory, for tests and experiments.

    Parameters
    ----------
    recordings
        Pairs of a row (``recording`` and ``subject``, if wanted ``session``, ``task``, ``run``,
        ``bad``: channel names with their reasons, ``quality``, ``timeline``, and ``names`` and
        ``positions`` that are its own) and a signal (T, C) in stored units.
    names, positions
        The C channels and their (C, 3) unit vectors.
    """
    index = IndexBuilder()
    for place, (row, signal) in enumerate(recordings):
        own = tuple(row.get("names", names))
        cleaned = CleanedRecording(
            names=own,
            positions=np.asarray(row.get("positions", positions)),
            scales=np.full(len(own), 1e-5),
            timeline=row.get("timeline") or Timeline.unbroken(len(signal), sfreq),
            bad=row.get("bad", {}),
            quality=row.get("quality", {}),
        )
        stored = np.ascontiguousarray(signal, dtype=np.float16)
        content = hashlib.blake2b(stored.tobytes(), digest_size=16).hexdigest()
        file = signal_file(path, str(row["recording"]), content, "arrays")
        with renamed_when_done(file, stored.nbytes) as temporary, temporary.open("wb") as opened:
            np.save(opened, stored)
        index.add(place, describe(row, cleaned, content, "arrays"))
    write_index_file(Path(path) / INDEX, *index.content())
    return SignalStore(path)
