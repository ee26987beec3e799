"""Real time of a recording's samples, and the samples that windows may touch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

BEYOND = "the window reaches beyond the recording"
GAP = "a gap in the recording lies within the window, or before its end or the response"
BAD = "the window touches a segment marked bad"


class Stretch(NamedTuple):
    """Samples ``start … stop`` were recorded without a break, from `onset` (s) on."""

    start: int
    stop: int
    onset: float


class Segment(NamedTuple):
    """Samples ``start … stop`` that windows must not touch."""

    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Timeline:
    """Continuous stretches of a recording and its bad segments.

    Onsets are those of events.tsv: seconds of real time from the first sample of the recording.

    Attributes
    ----------
    sfreq
        Sampling rate in Hz.
    stretches
        In order of time, without overlap.
    bad
        Segments marked bad; sorted, without overlap, each within a stretch.
    """

    sfreq: float
    stretches: tuple[Stretch, ...]
    bad: tuple[Segment, ...] = ()

    @classmethod
    def unbroken(cls, n_samples: int, sfreq: float) -> Timeline:
        """Timeline of a recording without a gap."""
        return cls(sfreq, (Stretch(0, n_samples, 0.0),))

    @property
    def n_samples(self) -> int:
        """Samples of all stretches."""
        return sum(stop - start for start, stop, _ in self.stretches)

    @property
    def bad_seconds(self) -> float:
        """Length of all bad segments."""
        return sum(stop - start for start, stop in self.bad) / self.sfreq

    @property
    def pauses(self) -> float:
        """Seconds before and between the stretches that were not recorded."""
        ends = [0.0, *(s.onset + (s.stop - s.start) / self.sfreq for s in self.stretches)]
        lengths = [s.onset - end for s, end in zip(self.stretches, ends, strict=False)]
        return sum(length for length in lengths if length > 0.5 / self.sfreq)

    def without(self, samples: Sequence[tuple[int, int]]) -> Timeline:
        """Remove sorted samples (start, stop)."""
        parts = [part for s in self.stretches for part in _without(s, samples, self.sfreq)]
        return Timeline(self.sfreq, tuple(parts)).with_bad(self.bad)

    def with_bad(self, segments: Iterable[tuple[int, int]]) -> Timeline:
        """Join segments, split them where stretches end, and mark them bad."""
        joined = merged(segments)
        bad = [
            Segment(max(a, start), min(b, stop))
            for start, stop, _ in self.stretches
            for a, b in joined
            if a < stop and b > start
        ]
        return Timeline(self.sfreq, self.stretches, tuple(bad))

    @cached_property
    def ranges(self) -> list[Stretch]:
        """Parts that windows may touch: each window must lie within one of these."""
        return [part for s in self.stretches for part in _without(s, self.bad, self.sfreq)]

    @cached_property
    def allowed(self) -> np.ndarray:
        """(k, 2) int64, start and stop of the `ranges`."""
        pairs = [(start, stop) for start, stop, _ in self.ranges]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def places(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find times (N,), in seconds of real time: their stretches (N,) and samples (N,) int64.

        The stretch is the last that begins at or before the time, or the first; the nearest sample
        is counted on from its beginning, even beyond its end.
        """
        starts, _, onsets = np.array(self.stretches).T
        # a time may be rounded to just before the onset of its own stretch
        index = np.searchsorted(onsets, times + 0.5 / self.sfreq, side="right") - 1
        index = np.maximum(index, 0)
        sample = np.round((times - onsets[index]) * self.sfreq).astype(np.int64)
        return index, starts[index].astype(np.int64) + sample

    def trial_windows(
        self, times: np.ndarray, offset: int, n_samples: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Place a window of `n_samples` at each stimulus, beginning `offset` samples after it.

        `times` (N, 2) are stimulus and response in seconds of real time; NaN where there is no
        response. Returns the first sample of each window (N,), int64, and why a window is missing
        (N,), "" where it is not.
        """
        stimulus, response = times.T
        stretch, sample = self.places(stimulus)
        of_response, _ = self.places(np.where(np.isnan(response), stimulus, response))
        first, last, _ = np.array(self.stretches)[stretch].T
        start, stop = sample + offset, sample + offset + n_samples
        ends = (start < 0) | ((stretch == len(self.stretches) - 1) & (stop > last))
        broken = (of_response != stretch) | (start < first) | (stop > last)
        whole = self.inside(start, n_samples)
        return start, np.select([ends, broken, ~whole], [BEYOND, GAP, BAD], "")

    def inside(self, start: np.ndarray, n_samples: int) -> np.ndarray:
        """Return which windows (N,) lie completely within one allowed range."""
        low, high = self.allowed.T
        if not len(low):
            return np.zeros(len(start), bool)
        index = np.searchsorted(low, start, side="right") - 1
        return (index >= 0) & (start + n_samples <= high[index])

    def starts(self, n_samples: int, stride: int) -> np.ndarray:
        """First samples of the windows of one length that are allowed, one every `stride`."""
        ranges = [np.arange(a, b - n_samples + 1, stride) for a, b in self.allowed]
        return np.concatenate([np.empty(0, np.int64), *ranges])

    def at_rate(self, sfreq: float, lengths: Sequence[int]) -> Timeline:
        """Resample to a rate in Hz at which the stretches have these lengths, without gaps."""
        ratio = sfreq / self.sfreq
        stretches, bad, first = [], [], 0
        for (start, stop, onset), length in zip(self.stretches, lengths, strict=True):
            for segment in self.bad:
                if start <= segment.start < stop:
                    a = min(int(np.floor((segment.start - start) * ratio + 1e-6)), length - 1)
                    b = max(int(np.ceil((segment.stop - start) * ratio - 1e-6)), a + 1)
                    bad.append((first + a, first + min(b, length)))
            stretches.append(Stretch(first, first + length, onset))
            first += length
        return Timeline(sfreq, tuple(stretches)).with_bad(bad)


def merged(segments: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort segments and join those that overlap or touch."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(segments):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _without(stretch: Stretch, skipped: Sequence[tuple[int, int]], sfreq: float) -> list[Stretch]:
    """Parts of a stretch that remain without sorted segments."""
    edges = [stretch.start]
    for start, stop in skipped:
        if start < stretch.stop and stop > stretch.start:
            edges += [max(start, stretch.start), min(stop, stretch.stop)]
    edges.append(stretch.stop)
    pairs = list(pairwise(edges))[::2]
    return [Stretch(a, b, stretch.onset + (a - stretch.start) / sfreq) for a, b in pairs if a < b]
