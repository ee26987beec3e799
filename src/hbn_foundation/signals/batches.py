"""Read windows from the signal store, in batches of torch tensors.

A window of a time-major file is one contiguous piece, so reading it is one `seek` and one
`readinto` straight into the batch. Files are read, not mapped: that is as fast here, and the pages
stay in the cache of the operating system instead of counting as memory of this process.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import numpy as np
import pandas as pd
import torch

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.recordings.quality import AMPLITUDES_UV

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

SHARE = "batch_share"
MOST_OPEN_FILES = 256
SERIAL_ELEMENTS = 30_000
"""Torch works on so few elements in the calling thread. Converting a batch takes half a
millisecond there; sharing it out takes as long at best, and a time slice on a busy machine."""


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
        named = first_few([f"{name} ({value:.3g} µV)" for name, value in wrong.items()])
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
    ) -> tuple[torch.Tensor, torch.Tensor]:
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


def channels_first(pieces: np.ndarray) -> torch.Tensor:
    """Convert (B, T, C) float16 to a (B, C, T) float32 view of newly allocated memory."""
    signals = torch.empty(pieces.shape, dtype=torch.float32)
    flat = torch.from_numpy(pieces).flatten()
    for target, source in zip(
        signals.flatten().split(SERIAL_ELEMENTS), flat.split(SERIAL_ELEMENTS), strict=True
    ):
        target.copy_(source)
    return signals.transpose(1, 2)


@dataclass
class Batch:
    """Some windows.

    Attributes
    ----------
    signals : torch.Tensor
        (B, C, T) float32, robust z-scores, or volts where the reader reads those; channels that
        cannot be used are zero. Channels lie side by side in memory, as in the store: spatial
        maps are as fast so, and transposing would cost six times as much as reading. What runs
        along time for every channel (random numbers, Fourier transforms) is faster after
        `.contiguous()`.
    mask : torch.Tensor
        (B, C) bool, channels that can be used.
    index : torch.Tensor
        (B,) int64, position of each window in the table that the batches are made from.
    shift : torch.Tensor or None
        (B,) int64, samples by which each window begins later than in the table; None: nobody says.
    """

    signals: torch.Tensor
    mask: torch.Tensor
    index: torch.Tensor
    shift: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str, **options: Any) -> Batch:
        """Move all tensors to a device."""
        return Batch(
            self.signals.to(device, **options),
            self.mask.to(device, **options),
            self.index.to(device, **options),
            None if self.shift is None else self.shift.to(device, **options),
        )


@dataclass(frozen=True)
class Mix:
    """Two kinds of windows in fixed numbers per batch.

    Attributes
    ----------
    few, others
        Places of the windows that have a share, and of the rest.
    n_few, n_others
        How many of each are in a batch.
    """

    few: np.ndarray
    others: np.ndarray
    n_few: int
    n_others: int

    @classmethod
    def of(cls, shares: np.ndarray, batch_size: int) -> Mix | None:
        """Read the column of shares (N,); None when there are no two kinds, or no room for both."""
        has = ~np.isnan(shares)
        if has.all() or not has.any() or batch_size < 2:
            return None
        n_few = min(max(1, round(float(shares[has][0]) * batch_size)), batch_size - 1)
        return cls(np.flatnonzero(has), np.flatnonzero(~has), n_few, batch_size - n_few)

    @property
    def n_batches(self) -> int:
        """Whole batches in one pass, as many as without shares."""
        return (len(self.few) + len(self.others)) // (self.n_few + self.n_others)

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Draw the order of a pass: (n_batches · batch size,) places."""
        parts = [
            _in_turns(places, self.n_batches * count, random).reshape(self.n_batches, count)
            for places, count in ((self.few, self.n_few), (self.others, self.n_others))
        ]
        return random.permuted(np.concatenate(parts, axis=1), axis=1).ravel()


def _in_turns(places: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw `count` places: each once before any comes again."""
    rounds = -(-count // len(places))
    return np.concatenate([random.permutation(places) for _ in range(rounds)])[:count]


class WindowBatches:
    """Batches of windows, one pass per iteration.

    The windows are read in the calling thread: reading takes a few per cent of a training step,
    and worker processes as well as a thread that reads ahead were slower in every case tried on
    two cores.

    Parameters
    ----------
    reader
        Reads the windows.
    windows
        Table with `row`, `recording` and `start`. Where it has `batch_share`, the windows with a
        value there make up that share of every batch; a pass has as many batches as without, and
        both kinds come as often as that takes. Only where `shuffle` and `drop_last` are set, as
        in training.
    batch_size
        Windows in a batch; the last one may have fewer.
    shuffle
        Whether the order changes with the epoch.
    seed, epoch
        Order and jitter depend on these two and on the table, not on the batch size.
    jitter
        Largest random shift of a start in samples, to either side; a window stays where there is
        neither a gap nor a bad segment.
    drop_last
        Leave out the last batch when it has fewer windows.

    Raises
    ------
    UserError
        When the windows were cut from another store.
    """

    def __init__(
        self,
        reader: WindowReader,
        windows: pd.DataFrame,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        jitter: int = 0,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1 or jitter < 0:
            raise ValueError(f"batch_size {batch_size} or jitter {jitter} is too small")
        reader.check(windows)
        self.reader = reader
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epoch
        self.jitter = jitter
        self.drop_last = drop_last
        self._rows = windows["row"].to_numpy(dtype=np.int64)
        self._starts = windows["start"].to_numpy(dtype=np.int64)
        self._ranges = reader.store.range_of(self._rows, self._starts) if jitter else None
        self._mix: Mix | None = None
        if SHARE in windows and shuffle and drop_last:
            self._mix = Mix.of(windows[SHARE].to_numpy(dtype=np.float64), batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the jitter of the next pass."""
        self.epoch = epoch

    @property
    def n_windows(self) -> int:
        """Windows in one pass."""
        if self.drop_last:
            return len(self._rows) // self.batch_size * self.batch_size
        return len(self._rows)

    def __len__(self) -> int:
        return math.ceil(self.n_windows / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order, starts = self._plan()
        shape = (self.batch_size, self.reader.n_samples, self.reader.n_channels)
        pieces = np.empty(shape, dtype=np.float16)
        for first in range(0, self.n_windows, self.batch_size):
            chosen = order[first : first + self.batch_size]
            signals, mask = self.reader.read_scaled(
                self._rows[chosen], starts[chosen], pieces[: len(chosen)]
            )
            shift = torch.from_numpy(starts[chosen] - self._starts[chosen])
            yield Batch(signals, mask, torch.from_numpy(chosen), shift)

    def _plan(self) -> tuple[np.ndarray, np.ndarray]:
        """Draw the order and the starts of one pass."""
        random = np.random.default_rng([self.seed, self.epoch])
        order = np.arange(len(self._rows))
        if self._mix is not None:
            order = self._mix.draw(random)
        elif self.shuffle:
            order = random.permutation(order)
        starts = self._starts
        if self._ranges is not None:
            shift = random.integers(-self.jitter, self.jitter, size=len(starts), endpoint=True)
            low, high = self._ranges.T
            starts = np.clip(starts + shift, low, high - self.reader.n_samples)
        return order, starts
