"""Batches of windows as torch tensors, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.utils.data import IterableDataset

from hbn_foundation.signals.context import PLACES, count_batches, most_at_once, per_batch, pieces
from hbn_foundation.signals.params import NO_JITTER, Jitter
from hbn_foundation.signals.reader import WindowReader

SHARE = "batch_share"


@dataclass
class Batch:
    """A batch of windows.

    Attributes
    ----------
    signals : torch.Tensor
        (B, C, T) float32, in the unit of the reader; channels that
        cannot be used are zero. Channels are contiguous in memory, as in the store: spatial maps
        are equally fast, and transposing would take six times as long as reading. Operations
        along time (random numbers, Fourier transforms) are faster after `.contiguous()`.
    mask : torch.Tensor
        (B, C) bool, channels that can be used.
    index : torch.Tensor
        (B,) int64, position of each window in the windows table.
    shift : torch.Tensor or None
        (B,) int64, samples by which each window begins later than in the table; None if unknown.
    target : torch.Tensor or None
        (B,) what an objective adds.
    places : torch.Tensor or None
        (B, 4) `PLACES` of the windows, where they are in sequences.
    """

    signals: torch.Tensor
    mask: torch.Tensor
    index: torch.Tensor
    shift: torch.Tensor | None = None
    target: torch.Tensor | None = None
    places: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> Batch:
        """Move all tensors to a device."""
        given = {name: part for name, part in vars(self).items() if part is not None}
        return Batch(**{name: part.to(device) for name, part in given.items()})


def _mixed(shares: np.ndarray, batch_size: int, random: np.random.Generator) -> np.ndarray:
    """Draw the places of the windows in a pass: in each batch some that have a share, and others.

    The shares (N,) are NaN for the others; the first one counts.
    """
    has = ~np.isnan(shares)
    n_few = min(max(1, round(float(shares[has][0]) * batch_size)), batch_size - 1)
    n_batches = len(shares) // batch_size
    parts = []
    for places, count in ((np.flatnonzero(has), n_few), (np.flatnonzero(~has), batch_size - n_few)):
        # each is drawn once before any is repeated
        rounds = -(-n_batches * count // len(places))
        drawn = np.concatenate([random.permutation(places) for _ in range(rounds)])
        parts.append(drawn[: n_batches * count].reshape(n_batches, count))
    return random.permuted(np.concatenate(parts, axis=1), axis=1).ravel()


class WindowBatches(IterableDataset[Batch]):
    """Batches of windows, one pass per iteration; a data set for a DataLoader of batch size None.

    The windows are read in the calling thread: reading takes a few per cent of a training step,
    and worker processes as well as a thread that reads ahead were slower in every case tried on
    two cores.

    Windows that were cut from another store are a UserError.

    Parameters
    ----------
    reader, windows
        Table with `row`, `recording` and `start`. With `shuffle` and `drop_last`, windows that
        have a value in the column `batch_share` make up that share of every batch, and are
        repeated as often as this takes; the number of batches is the same. With a column
        `sequence`, a batch has whole sequences, as many as `batch_size` of the longest allows, and
        one at least.
    shuffle, seed
        Whether the order changes with the epoch. Order and jitter depend on the seed, the epoch
        (see `set_epoch`) and the table, not on the batch size.
    jitter
        Random shift of starts, to either side; shifted windows touch neither a gap nor a bad
        segment.
    drop_last
        Omit the last batch if it has fewer windows.
    """

    def __init__(
        self,
        reader: WindowReader,
        windows: pd.DataFrame,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        jitter: Jitter = NO_JITTER,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1 or jitter.samples < 0:
            raise ValueError(f"batch_size {batch_size} or jitter {jitter.samples} is too small")
        reader.check(windows)
        self.reader = reader
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.jitter = jitter
        self.drop_last = drop_last
        self._rows = windows["row"].to_numpy(dtype=np.int64)
        self._starts = windows["start"].to_numpy(dtype=np.int64)
        self._ranges = reader.store.range_of(self._rows, self._starts) if jitter.samples else None
        self._shares: np.ndarray | None = None
        if SHARE in windows and shuffle and drop_last and batch_size > 1:
            shares = windows[SHARE].to_numpy(dtype=np.float64)
            self._shares = shares if np.isnan(shares).any() and not np.isnan(shares).all() else None
        self._pieces = pieces(windows)
        self._places: np.ndarray | None = None
        if self._pieces:
            self._places = windows[list(PLACES)].to_numpy(np.float32)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the order and the jitter of the next pass depend."""
        self.epoch = epoch

    @property
    def n_windows(self) -> int:
        """Windows in one pass; those of sequences at most."""
        if self.drop_last and not self._pieces:
            return len(self._rows) // self.batch_size * self.batch_size
        return len(self._rows)

    def __len__(self) -> int:
        if self._pieces:
            return count_batches(self._pieces, self.batch_size, self.drop_last)
        return math.ceil(self.n_windows / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order, starts = self._plan()
        most = most_at_once(self._pieces, self.batch_size)
        shape = (most, self.reader.n_samples, self.reader.n_channels)
        buffer = np.empty(shape, dtype=np.float16)
        for chosen in self._chosen(order):
            signals, mask = self.reader.read_scaled(
                self._rows[chosen], starts[chosen], buffer[: len(chosen)]
            )
            shift = torch.from_numpy(starts[chosen] - self._starts[chosen])
            places = None if self._places is None else torch.from_numpy(self._places[chosen])
            yield Batch(signals, mask, torch.from_numpy(chosen), shift, places=places)

    def _chosen(self, order: np.ndarray) -> Iterator[np.ndarray]:
        """Give the windows of each batch; of sequences the order is one of those."""
        if not self._pieces:
            for first in range(0, self.n_windows, self.batch_size):
                yield order[first : first + self.batch_size]
            return
        count = per_batch(self._pieces, self.batch_size)
        for number in range(len(self)):
            some = order[number * count : (number + 1) * count]
            yield np.concatenate([self._pieces[one] for one in some])

    def _plan(self) -> tuple[np.ndarray, np.ndarray]:
        """Draw the order and the starts of one pass."""
        random = np.random.default_rng([self.seed, self.epoch])
        order = np.arange(len(self._pieces) or len(self._rows))
        if self._shares is not None:
            order = _mixed(self._shares, self.batch_size, random)
        elif self.shuffle:
            order = random.permutation(order)
        starts = self._starts
        if self._ranges is not None:
            most, share = self.jitter
            shift = random.integers(-most, most, size=len(starts), endpoint=True)
            if share < 1:
                shift[random.random(len(starts)) >= share] = 0
            low, high = self._ranges.T
            starts = np.clip(starts + shift, low, high - self.reader.n_samples)
        return order, starts
