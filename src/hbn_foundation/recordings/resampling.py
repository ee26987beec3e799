"""Band-pass and resampling in one pass, a chunk of the recording at a time.

Each chunk overlaps its neighbours by more than the filter's half length, so that the chunks join
as if the whole had been filtered at once. The filter is a zero-phase FIR; it is applied to the
chunk's spectrum, which is then cut to the new rate (as `mne.filter.resample` does) and shifted to
the new rate's grid. So sampling rates need not be integers, and the inverse transform is only as
long as the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

STOP_HZ = 2.0
"""Width of the upper transition where the new rate's Nyquist frequency bounds it."""

MAX_DRIFT = 0.005
"""Samples by which a chunk's length may miss the new rate's grid at its far end."""

MAX_BLOCK = 16
"""Channels transformed at a time."""


class Chunk(NamedTuple):
    """Samples ``start … stop`` of the input make samples ``first … last`` of the output."""

    start: int
    stop: int
    first: int
    last: int


class Resampler:
    """Filter and resample chunks of one recording.

    Parameters
    ----------
    sfreq_in, sfreq_out
        Sampling rates in Hz, any real numbers.
    l_freq, h_freq
        Edges of the pass band in Hz. The upper one is drawn in so that the transition band ends
        at the lower of the two Nyquist frequencies.
    n_in
        Samples of the whole recording.
    chunk_seconds
        Length of the chunks, without overlap.
    """

    def __init__(
        self,
        sfreq_in: float,
        sfreq_out: float,
        l_freq: float,
        h_freq: float,
        n_in: int,
        chunk_seconds: float,
    ) -> None:
        self.n_in = n_in
        self.ratio = sfreq_in / sfreq_out
        self.n_out = max(int(np.floor((n_in - 1) / sfreq_in * sfreq_out + 1e-6)) + 1, 1)
        nyquist = min(sfreq_in, sfreq_out) / 2
        width = min(STOP_HZ, nyquist / 10)
        self.h_freq = min(h_freq, nyquist - width)
        if self.h_freq + width < nyquist:
            width = min(max(self.h_freq / 4, width), nyquist - self.h_freq)
        self._taps = band_pass(sfreq_in, min(l_freq, nyquist / 4), self.h_freq, width)
        self._gains: dict[tuple[int, int], np.ndarray] = {}
        self._chunk_out = max(int(chunk_seconds * sfreq_out), 1)

    def chunks(self) -> Iterator[Chunk]:
        """Chunks that cover the output without gap or overlap."""
        overlap = len(self._taps) // 2 + 1
        # of equal length: a short one at the end would be mostly overlap
        n_chunks = max(round(self.n_out / self._chunk_out), 1)
        edges = np.linspace(0, self.n_out, n_chunks + 1).round().astype(int).tolist()
        for first, last in pairwise(edges):
            start = int(np.floor(first * self.ratio)) - overlap
            stop = int(np.ceil((last - 1) * self.ratio)) + overlap + 1
            yield Chunk(start, stop, first, last)

    def apply(self, chunk: Chunk, samples: np.ndarray) -> np.ndarray:
        """Filter and resample a chunk, a few channels at a time, to (C, last − first) float32.

        `samples` are the (C, T) float32 samples of the chunk that lie within the recording, all
        finite; beyond its ends the signal is extended.
        """
        from scipy import fft

        before = max(-chunk.start, 0)
        after = chunk.stop - chunk.start - before - samples.shape[1]
        n_fft, m_fft = _lengths(chunk.stop - chunk.start, self.ratio)
        n_bins = min(m_fft, n_fft) // 2 + 1
        response = self._response(n_fft, n_bins, chunk)
        blocks = []
        for at in range(0, len(samples), MAX_BLOCK):
            block = extend(samples[at : at + MAX_BLOCK], before, after)
            spectrum = fft.rfft(block, n_fft, axis=1)[:, :n_bins] * response
            signal = fft.irfft(spectrum, m_fft, axis=1)[:, : chunk.last - chunk.first]
            blocks.append(np.asarray(signal * (m_fft / n_fft), np.float32))
        return np.concatenate(blocks)

    def _response(self, n_fft: int, n_bins: int, chunk: Chunk) -> np.ndarray:
        """Zero-phase response of the filter, and the shift to the output's first sample."""
        from scipy import fft

        if (n_fft, n_bins) not in self._gains:
            kernel = np.zeros(n_fft)
            half = len(self._taps) // 2
            kernel[: half + 1] = self._taps[half:]
            kernel[-half:] = self._taps[:half]
            self._gains = {(n_fft, n_bins): fft.rfft(kernel).real[:n_bins]}
        shift = chunk.first * self.ratio - chunk.start
        phase = np.exp(2j * np.pi * np.arange(n_bins) / n_fft * shift)
        return (self._gains[n_fft, n_bins] * phase).astype(np.complex64)


@cache
def band_pass(sfreq: float, l_freq: float, h_freq: float, h_width: float) -> np.ndarray:
    """Design the zero-phase FIR: windowed sinc (Hamming), one length for each edge.

    This is what `mne.filter.create_filter` makes of ``fir_design="firwin"``; it is written out
    because importing that takes a worker longer than cleaning ten recordings. The edges of the
    pass band and the width of the upper transition are in Hz; the lower one is `l_freq` wide. The
    (N,) taps are symmetric, N odd.
    """
    low = _low_pass(sfreq, l_freq / 2, l_freq)
    high = _low_pass(sfreq, h_freq + h_width / 2, h_width)
    taps = np.zeros(max(len(low), len(high)))
    for sign, part in ((-1, low), (1, high)):
        start = (len(taps) - len(part)) // 2
        taps[start : start + len(part)] += sign * part
    return taps


def _low_pass(sfreq: float, cutoff: float, width: float) -> np.ndarray:
    """Windowed sinc with a transition of `width` around `cutoff` (Hz), of unit gain at 0 Hz."""
    half = int(np.ceil(3.3 / width * sfreq)) // 2
    times = np.arange(-half, half + 1)
    taps = np.sinc(2 * cutoff / sfreq * times) * np.hamming(2 * half + 1)
    return taps / taps.sum()


def _lengths(n: int, ratio: float) -> tuple[int, int]:
    """Lengths of the transforms, the first at least `n`, whose quotient is nearly `ratio`.

    Nearly: the end of the chunk is off the new grid by less than `MAX_DRIFT` samples. Fast
    lengths are preferred.
    """
    from scipy import fft

    m = np.arange(int(np.ceil(n / ratio)), int(1.25 * n / ratio) + 2000)
    n_fft = np.rint(m * ratio).astype(int)
    drift = np.abs(m * ratio - n_fft) / ratio
    drift[n_fft < n] = np.inf
    exact = np.flatnonzero(drift < MAX_DRIFT)
    for i in exact:
        if all(fft.next_fast_len(int(x), real=True) == x for x in (m[i], n_fft[i])):
            return int(n_fft[i]), int(m[i])
    best = exact[0] if len(exact) else np.argmin(drift)
    return int(n_fft[best]), int(m[best])


def without_missing(samples: np.ndarray) -> np.ndarray:
    """Interpolate samples (C, T) that are not finite linearly between their neighbours.

    One of them would make a whole chunk NaN. A channel without any finite sample is zero.
    """
    good = np.isfinite(samples)
    if good.all():
        return samples
    filled = np.zeros_like(samples)
    places = np.arange(samples.shape[1])
    for row in np.flatnonzero(good.any(axis=1)):
        filled[row] = np.interp(places, places[good[row]], samples[row, good[row]])
    return filled


def extend(samples: np.ndarray, before: int, after: int) -> np.ndarray:
    """Extend (C, T) at its ends by point reflection, and by the end value beyond that.

    This is MNE's ``reflect_limited``, but constant instead of zero beyond the reflection.
    """
    n = samples.shape[1]
    left, right = min(before, n - 1), min(after, n - 1)
    parts = [samples]
    if left:
        parts.insert(0, 2 * samples[:, :1] - samples[:, left:0:-1])
    if right:
        parts.append(2 * samples[:, -1:] - samples[:, -2 : -right - 2 : -1])
    joined = np.concatenate(parts, axis=1)
    return np.pad(joined, ((0, 0), (before - left, after - right)), mode="edge")
