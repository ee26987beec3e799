"""Read windows from the signal store, as arrays and as torch tensors.

A window of a time-major file is one contiguous piece, so reading it is one `seek` and one
`readinto` straight into the batch. Files are read, not mapped: that is as fast here, and the pages
stay in the cache of the operating system instead of counting as memory of this process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from weakref import finalize

import numpy as np
import pandas as pd
import torch

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.recordings.quality import AMPLITUDES_UV

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

Unit = Literal["store", "volts", "microvolts"]
MAX_OPEN_FILES = 256
SERIAL_ELEMENTS = 30_000
"""Torch converts this many elements in the calling thread. A batch takes half a millisecond that
way; distributing it over threads is no faster, and slower on a busy machine."""


class WindowReader:
    """Read windows of `n_samples` samples from the signal store.

    Windows are robust z-scores, in the unit of the `store`; or `microvolts`; or `volts`, bad
    channels included, as a model sees that knows nothing else of the recording. An amplitude in
    volts that cannot be that of EEG is a UserError.

    Attributes
    ----------
    n_channels : int
        Channels of the layout, the same for every window.
    lengths : numpy.ndarray
        Samples of each recording.
    """

    def __init__(self, store: SignalStore, n_samples: int, unit: Unit = "store") -> None:
        if unit != "store":
            _check_amplitudes(store)
        self.store = store
        self.n_samples = n_samples
        self.unit: Unit = unit
        self.n_channels = len(store.channel_names)
        self.lengths = store.recordings["n_samples"].to_numpy(dtype=np.int64)
        self._masks = np.zeros((len(self.lengths), self.n_channels), dtype=bool)
        self._gains: np.ndarray | None = None  # from units of the store to those of the model
        if unit != "store" or store.scale != "recording":
            self._gains = np.ones((len(self.lengths), self.n_channels), dtype=np.float32)
        self._columns: dict[int, np.ndarray | None] = {}
        self._files: OrderedDict[int, tuple[BinaryIO, int]] = OrderedDict()
        self._lock = Lock()
        finalize(self, _close, self._files).atexit = False  # a reader that is gone has none open

    def read(
        self,
        rows: Sequence[int] | np.ndarray,
        starts: Sequence[int] | np.ndarray,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read windows by their rows of `store.recordings` (B,) and first samples (B,).

        Returns
        -------
        numpy.ndarray
            Float16 (B, T, C) in units of the store on its channel layout; absent channels are
            zero, and bad ones unless volts are read. It is `out`, if given.

        Raises
        ------
        IndexError
            When a window does not lie wholly inside its recording.
        UserError
            When a file of the store is shorter than the store says.
        """
        rows, starts = np.asarray(rows, dtype=np.int64), np.asarray(starts, dtype=np.int64)
        outside = (starts < 0) | (starts + self.n_samples > self.lengths[rows])
        if outside.any():
            row, start = rows[outside][0], starts[outside][0]
            raise IndexError(
                f"window of {self.n_samples} samples from {start} on lies outside recording {row}, "
                f"which has {self.lengths[row]}"
            )
        shape = (len(rows), self.n_samples, self.n_channels)
        if out is None:
            out = np.empty(shape, dtype=np.float16)
        elif out.shape != shape or out.dtype != np.float16 or not out.flags.c_contiguous:
            raise ValueError(f"out must be a contiguous float16 array of shape {shape}")
        with self._lock:
            for window, row, start in zip(out, rows.tolist(), starts.tolist(), strict=True):
                self._read_one(row, start, window)
        return out

    def mask(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Tell which channels can be used (B, C): present and, unless in volts, not bad."""
        for row in np.unique(rows).tolist():
            self._columns_of(row)
        return self._masks[rows]

    def read_scaled(
        self,
        rows: Sequence[int] | np.ndarray,
        starts: Sequence[int] | np.ndarray,
        buffer: np.ndarray | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read windows in the form in which models and baselines take them.

        Arguments are those of `read`; `buffer` is what it reads into.

        Returns
        -------
        signals : torch.Tensor
            (B, C, T) float32 in units of the model; channels that cannot be used are zero. A view
            of newly allocated memory in which channels lie side by side.
        mask : torch.Tensor
            (B, C) bool, channels that can be used.
        """
        signals = channels_first(self.read(rows, starts, out=buffer))
        mask = torch.from_numpy(self.mask(rows))
        if self._gains is not None:
            signals *= torch.from_numpy(self._gains[rows]).unsqueeze(-1)
        return signals, mask

    def check(self, windows: pd.DataFrame) -> None:
        """Make sure that a windows table was cut from this store; else raise a UserError."""
        first = np.flatnonzero(np.diff(windows["row"].to_numpy(dtype=np.int64), prepend=-1))
        pairs = windows[["row", "recording"]].iloc[first]
        known = self.store.recordings["recording"]
        wrong = pairs[pairs["row"].map(known) != pairs["recording"]]
        if len(wrong):
            row, name = wrong.iloc[0]
            raise UserError(
                f"windows: {name} is not recording {row} of the signal store; "
                "the windows were cut from another store, cut them anew"
            )

    def close(self) -> None:
        """Close the files; they are opened again when needed."""
        with self._lock:
            _close(self._files)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the open files."""
        return {"store": self.store, "n_samples": self.n_samples, "unit": self.unit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _read_one(self, row: int, start: int, window: np.ndarray) -> None:
        columns = self._columns_of(row)
        piece = window
        if columns is not None:
            piece = np.empty((self.n_samples, len(columns)), dtype=np.float16)
        file, offset = self._file(row)
        file.seek(offset + start * piece.shape[1] * piece.itemsize)
        if file.readinto(piece.data) != piece.nbytes:  # type: ignore[attr-defined]
            raise UserError(f"{file.name}: shorter than the signal store says; ingest again")
        if columns is not None:
            window[:, columns] = piece
        if not self._masks[row].all():
            window[:, ~self._masks[row]] = 0

    def _file(self, row: int) -> tuple[BinaryIO, int]:
        """Return a recording's open file and the offset of its samples in bytes."""
        if row in self._files:
            self._files.move_to_end(row)
            return self._files[row]
        if len(self._files) >= MAX_OPEN_FILES:
            self._files.popitem(last=False)[1][0].close()
        file = open(self.store.signal_file(row), "rb", buffering=0)  # noqa: SIM115 - stays open
        np.lib.format.read_magic(file)
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.float16 or by_column or len(shape) != 2:
            raise UserError(f"{file.name}: not a time-major float16 array; ingest again")
        self._files[row] = file, file.tell()
        return self._files[row]

    def _columns_of(self, row: int) -> np.ndarray | None:
        """Return where the layout has a recording's channels; None if it is the layout itself."""
        if row not in self._columns:
            columns = self.store.channel_index(row)
            self._masks[row, columns] = self.unit == "volts" or self.store.usable(row)[columns]
            if self.unit != "store" and self._gains is not None:
                factor = 1e6 if self.unit == "microvolts" else 1.0
                self._gains[row, columns] = self.store.scales(row) * np.float32(factor)
            elif self._gains is not None:
                self._gains[row] = self.store.gains(row)
            is_layout = np.array_equal(columns, np.arange(self.n_channels))
            self._columns[row] = None if is_layout else columns
        return self._columns[row]


def _close(files: OrderedDict[int, tuple[BinaryIO, int]]) -> None:
    while files:
        files.popitem()[1][0].close()


def _check_amplitudes(store: SignalStore) -> None:
    """Raise if the unit of a recording is implausible, so that it cannot be read in volts."""
    if "amplitude_uv" not in store.recordings:
        return
    least, greatest = AMPLITUDES_UV
    amplitudes = store.recordings.set_index("recording")["amplitude_uv"].dropna()
    wrong = amplitudes[(amplitudes < least) | (amplitudes > greatest)]
    if len(wrong):
        named = first_few([f"{name} ({value:.3g} µV)" for name, value in wrong.items()])
        raise UserError(
            f"signals in volts: {len(wrong)} of {len(store.recordings)} recordings have a median "
            f"amplitude outside {least:g} to {greatest:g} µV: {named}; "
            "give their unit in channels.tsv or leave them out (selection.exclude_subjects)"
        )


def channels_first(pieces: np.ndarray) -> torch.Tensor:
    """Convert (B, T, C) float16 to a (B, C, T) float32 view of newly allocated memory."""
    signals = torch.empty(pieces.shape, dtype=torch.float32)
    flat = torch.from_numpy(pieces).flatten()
    for target, source in zip(
        signals.flatten().split(SERIAL_ELEMENTS), flat.split(SERIAL_ELEMENTS), strict=True
    ):
        target.copy_(source)
    return signals.transpose(1, 2)
