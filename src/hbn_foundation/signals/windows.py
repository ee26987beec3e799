"""Cut recordings into windows, and read windows from the signal store.

A window is a recording and a start; nothing is copied until it is read. A window of a time-major
file is one contiguous piece, so reading it is one `seek` and one `readinto` straight into the
batch. Files are read, not mapped: that is as fast here, and the pages stay in the cache of the
operating system instead of counting as memory of this process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.wording import some
from hbn_foundation.progress import say
from hbn_foundation.recordings.quality import AMPLITUDES_UV
from hbn_foundation.signals.params import WindowParams

if TYPE_CHECKING:
    from torch import Tensor

    from hbn_foundation.signals.store import SignalStore

MOST_OPEN_FILES = 256
SERIAL_ELEMENTS = 30_000
"""Torch works on so few elements in the calling thread. Converting a batch takes half a
millisecond there; sharing it out takes as long at best, and a time slice on a busy machine."""
COLUMNS = ("recording", "subject", "task", "run")


def window_length(seconds: float, sfreq: float) -> int:
    """Count the samples of a window.

    Raises
    ------
    UserError
        When the window is shorter than two samples.
    """
    n_samples = round(seconds * sfreq)
    if n_samples < 2:
        raise UserError(
            f"windows: seconds is {seconds:g}; expected at least two samples at {sfreq:g} Hz"
        )
    return n_samples


def cut_windows(store: SignalStore, params: WindowParams) -> pd.DataFrame:
    """Cut every usable recording into windows that lie wholly inside it.

    No window lies across a gap or touches a segment that is marked bad.

    Parameters
    ----------
    store
        The signal store.
    params
        Length and stride in seconds.

    Returns
    -------
    pandas.DataFrame
        `row` (of `store.recordings`), `recording`, `subject`, `task`, `run`, `start` (samples),
        `onset` (s of real time from the recording's first sample), one row per window, in the
        order of the recordings. Recordings without room for a window give none and are told.

    Raises
    ------
    UserError
        When no recording is as long as a window.
    """
    recordings = store.recordings
    n_samples = window_length(params.seconds, store.sfreq)
    stride = max(1, round(params.stride * store.sfreq))
    names = ("row", "start", "stop", "onset")
    rows, starts, stops, onsets = (store.ranges[name].to_numpy() for name in names)
    room = stops - starts - n_samples
    counts = np.where(room >= 0, room // stride + 1, 0)
    short = recordings["recording"][~np.isin(np.arange(len(recordings)), rows[counts > 0])]
    if len(short) == len(recordings):
        longest = float((stops - starts).max()) / store.sfreq if len(rows) else 0
        raise UserError(
            f"windows: seconds is {params.seconds:g}, but the longest of {len(recordings)} "
            f"usable recordings lasts {longest:.1f} s without a gap or a bad segment"
        )
    if len(short):
        say(f"{len(short)} recordings have no {params.seconds:g} s without a gap or a bad segment "
            f"and give no window: {some(short)}")  # fmt: skip
    row = np.repeat(rows, counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    later = (np.arange(len(row)) - first) * stride
    windows = recordings.loc[:, list(COLUMNS)].iloc[row].reset_index(drop=True)
    windows.insert(0, "row", row)
    windows["start"] = np.repeat(starts, counts) + later
    windows["onset"] = np.repeat(onsets, counts) + later / store.sfreq
    return windows


def thinned(n: int, most: int, seed: int) -> np.ndarray:
    """Positions of at most `most` of `n` items, evenly spaced from a random beginning."""
    if n <= most:
        return np.arange(n)
    offset = np.random.default_rng(seed).random()
    return np.floor((np.arange(most) + offset) * n / most).astype(np.int64)


class _Place(NamedTuple):
    """Where the samples of a recording are, and how its channels map to the layout."""

    path: str
    offset: int
    n_channels: int
    columns: np.ndarray | None
    bad: np.ndarray | None


def _check_amplitudes(store: SignalStore) -> None:
    """Raise where volts make no sense, since the unit of a recording is not what it seems."""
    if "amplitude_uv" not in store.recordings:
        return
    least, greatest = AMPLITUDES_UV
    amplitudes = store.recordings.set_index("recording")["amplitude_uv"].dropna()
    wrong = amplitudes[(amplitudes < least) | (amplitudes > greatest)]
    if len(wrong):
        named = some([f"{name} ({value:.3g} µV)" for name, value in wrong.items()])
        raise UserError(
            f"input.unit: volts: {len(wrong)} of {len(store.recordings)} recordings have a median "
            f"amplitude outside {least:g} to {greatest:g} µV: {named}; "
            "give their unit in channels.tsv or leave them out (selection.exclude_subjects)"
        )


class WindowReader:
    """Read windows of one length from the signal store.

    Parameters
    ----------
    store
        The signal store.
    n_samples
        Length of the windows in samples.
    volts
        Read in volts, bad channels too, as somebody sees a window who knows nothing of its
        recording; by default robust z-scores.

    Attributes
    ----------
    n_channels : int
        Channels of the layout, the same for every window.
    lengths : numpy.ndarray
        Samples of each recording.
    rescales : bool
        Whether `gains` are other than one.

    Raises
    ------
    UserError
        When volts are read and the amplitude of a recording cannot be that of EEG.
    """

    def __init__(self, store: SignalStore, n_samples: int, volts: bool = False) -> None:
        if volts:
            _check_amplitudes(store)
        self.store = store
        self.n_samples = n_samples
        self.volts = volts
        self.n_channels = len(store.channel_names)
        self.lengths = store.recordings["n_samples"].to_numpy(dtype=np.int64)
        self.rescales = volts or store.scale != "recording"
        self._masks = np.zeros((len(self.lengths), self.n_channels), dtype=bool)
        self._gains = np.ones((len(self.lengths), self.n_channels), dtype=np.float32)
        self._places: dict[int, _Place] = {}
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()
        self._lock = Lock()

    def read(
        self,
        rows: Sequence[int] | np.ndarray,
        starts: Sequence[int] | np.ndarray,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read a batch of windows.

        Parameters
        ----------
        rows
            Recording of each window, a row of `store.recordings` (B,).
        starts
            First sample of each window (B,).
        out
            Float16 array (B, T, C) to read into, to spare its allocation.

        Returns
        -------
        numpy.ndarray
            Float16 (B, T, C) in units of the store on its channel layout; absent and bad channels
            are zero, bad ones not where volts are read.

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
        rows = np.asarray(rows, dtype=np.int64)
        for row in np.unique(rows).tolist():
            self._place(row)
        return self._masks[rows]

    def gains(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Give the factors (B, C) float32 from units of the store to those of the model."""
        rows = np.asarray(rows, dtype=np.int64)
        for row in np.unique(rows).tolist():
            self._place(row)
        return self._gains[rows]

    def read_scaled(
        self,
        rows: Sequence[int] | np.ndarray,
        starts: Sequence[int] | np.ndarray,
        pieces: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Read windows as models and baselines take them: whoever needs signals reads them here.

        Parameters
        ----------
        rows, starts
            As `read` takes them.
        pieces
            Float16 array (B, T, C) to read into on the way, to spare its allocation.

        Returns
        -------
        signals : torch.Tensor
            (B, C, T) float32 in units of the model; channels that cannot be used are zero. A view
            of newly allocated memory in which channels lie side by side.
        mask : torch.Tensor
            (B, C) bool, channels that can be used.
        """
        import torch

        signals = channels_first(self.read(rows, starts, out=pieces))
        if self.rescales:
            signals *= torch.from_numpy(self.gains(rows)).unsqueeze(-1)
        return signals, torch.from_numpy(self.mask(rows))

    def check(self, windows: pd.DataFrame) -> None:
        """Make sure that a windows table was cut from this store.

        Raises
        ------
        UserError
            When a recording is not in the row where the table has it.
        """
        rows = windows["row"].to_numpy(dtype=np.int64)
        where = np.flatnonzero(np.diff(rows, prepend=-1))
        names = windows["recording"].to_numpy()[where]
        known = self.store.recordings["recording"].to_numpy()
        for row, name in zip(rows[where].tolist(), names, strict=True):
            if row >= len(known) or known[row] != name:
                raise UserError(
                    f"windows: {name} is not recording {row} of the signal store; "
                    "the windows were cut from another store, cut them anew"
                )

    def close(self) -> None:
        """Close the files; they are opened again when needed."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind when sent to another process."""
        return {"store": self.store, "n_samples": self.n_samples, "volts": self.volts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _read_one(self, row: int, start: int, window: np.ndarray) -> None:
        place = self._place(row)
        piece = window
        if place.columns is not None:
            piece = np.empty((self.n_samples, place.n_channels), dtype=np.float16)
        file = self._file(row, place)
        file.seek(place.offset + start * place.n_channels * piece.itemsize)
        if file.readinto(piece.data) != piece.nbytes:  # type: ignore[attr-defined]
            raise UserError(f"{place.path}: shorter than the signal store says; ingest again")
        if place.columns is not None:
            window[:] = 0
            window[:, place.columns] = piece
        if place.bad is not None:
            window[:, place.bad] = 0

    def _file(self, row: int, place: _Place) -> BinaryIO:
        file = self._files.get(row)
        if file is None:
            if len(self._files) >= MOST_OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            file = open(place.path, "rb", buffering=0)  # noqa: SIM115 - stays open
            self._files[row] = file
        else:
            self._files.move_to_end(row)
        return file

    def _place(self, row: int) -> _Place:
        if row not in self._places:
            signal = cast(np.memmap, self.store.signal(row))
            if signal.dtype != np.float16 or not signal.flags.c_contiguous:
                raise UserError(f"{signal.filename}: not a time-major float16 array; ingest again")
            columns = np.asarray(self.store.channel_index(row))
            present = np.zeros(self.n_channels, dtype=bool)
            present[columns] = True
            usable = present if self.volts else np.asarray(self.store.usable(row), dtype=bool)
            self._masks[row] = usable
            if self.volts:
                self._gains[row, columns] = self.store.scales(row)
            elif self.rescales:
                self._gains[row] = self.store.gains(row)
            bad = np.flatnonzero(present & ~usable)
            plain = np.array_equal(columns, np.arange(self.n_channels))
            self._places[row] = _Place(
                path=str(signal.filename),
                offset=int(signal.offset),
                n_channels=signal.shape[1],
                columns=None if plain else columns,
                bad=bad if len(bad) else None,
            )
        return self._places[row]


def channels_first(pieces: np.ndarray) -> Tensor:
    """Convert (B, T, C) float16 to a (B, C, T) float32 view of newly allocated memory."""
    import torch

    signals = torch.empty(pieces.shape, dtype=torch.float32)
    flat = torch.from_numpy(pieces).flatten()
    for target, source in zip(
        signals.flatten().split(SERIAL_ELEMENTS), flat.split(SERIAL_ELEMENTS), strict=True
    ):
        target.copy_(source)
    return signals.transpose(1, 2)
