"""Band-pass and resampling in one pass, a piece of the recording at a time.

Each piece is taken with a halo on both sides, longer than the filter's half length, so that the
pieces join as if the whole had been filtered at once. The filter is a zero-phase FIR; it is
applied to the piece's spectrum, which is then cut to the new rate (as `mne.filter.resample` does)
and shifted to the new rate's grid. So sampling rates need not be integers, and the inverse
transform is only as long as the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

STOP_HZ = 2.0
"""Width of the upper transition where the new rate's Nyquist frequency bounds it."""

MAX_DRIFT = 0.005
"""Samples by which a piece's length may miss the new rate's grid at its far end."""


@dataclass(frozen=True)
class Piece:
    """Samples ``start … stop`` of the input make samples ``first … last`` of the output."""

    start: int
    stop: int
    first: int
    last: int


class Resampler:
    """Filter and resample pieces of one recording.

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
        Length of the pieces, without halo.
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
        self.sfreq_in, self.sfreq_out, self.n_in = sfreq_in, sfreq_out, n_in
        self.n_out = max(int(np.floor((n_in - 1) / sfreq_in * sfreq_out + 1e-6)) + 1, 1)
        nyquist = min(sfreq_in, sfreq_out) / 2
        width = min(STOP_HZ, nyquist / 10)
        self.l_freq = min(l_freq, nyquist / 4)
        self.h_freq = min(h_freq, nyquist - width)
        self._taps = self._design(width, nyquist)
        self.halo = len(self._taps) // 2 + 1
        self._gains: dict[tuple[int, int], np.ndarray] = {}
        self._chunk_out = max(int(chunk_seconds * sfreq_out), 1)

    def _design(self, width: float, nyquist: float) -> np.ndarray:
        if self.h_freq + width < nyquist:
            width = min(max(self.h_freq / 4, width), nyquist - self.h_freq)
        return band_pass(self.sfreq_in, self.l_freq, self.h_freq, width)

    def pieces(self) -> Iterator[Piece]:
        """Pieces that cover the output without gap or overlap."""
        ratio = self.sfreq_in / self.sfreq_out
        # of equal length, so that there is no short one at the end that is mostly halo
        n_pieces = max(round(self.n_out / self._chunk_out), 1)
        edges = np.linspace(0, self.n_out, n_pieces + 1).round().astype(int).tolist()
        for first, last in pairwise(edges):
            start = int(np.floor(first * ratio)) - self.halo
            stop = int(np.ceil((last - 1) * ratio)) + self.halo + 1
            yield Piece(start, stop, first, last)

    def apply(self, piece: Piece, samples: np.ndarray) -> np.ndarray:
        """Filter and resample the samples of a piece.

        Parameters
        ----------
        piece
            From `pieces`.
        samples
            (C, stop − start) float32; what lies beyond the recording's ends is extended by the
            caller (`extend`).

        Returns
        -------
        (C, last − first) float32 array
        """
        from scipy import fft

        n_fft, m_fft = _lengths(samples.shape[1], self.sfreq_in / self.sfreq_out)
        spectrum = fft.rfft(samples, n_fft, axis=1)
        n_bins = min(m_fft, n_fft) // 2 + 1
        spectrum = spectrum[:, :n_bins] * self._response(n_fft, n_bins, piece)
        signal = fft.irfft(spectrum, m_fft, axis=1)
        signal = signal[:, : piece.last - piece.first]
        return np.asarray(signal * (m_fft / n_fft), np.float32)

    def _response(self, n_fft: int, n_bins: int, piece: Piece) -> np.ndarray:
        """Zero-phase response of the filter, and the shift to the output's first sample."""
        if (n_fft, n_bins) not in self._gains:
            self._gains = {(n_fft, n_bins): self._gain(n_fft)[:n_bins]}
        shift = piece.first * self.sfreq_in / self.sfreq_out - piece.start
        phase = np.exp(2j * np.pi * np.arange(n_bins) / n_fft * shift)
        return (self._gains[n_fft, n_bins] * phase).astype(np.complex64)

    def _gain(self, n_fft: int) -> np.ndarray:
        from scipy import fft

        kernel = np.zeros(n_fft)
        half = len(self._taps) // 2
        kernel[: half + 1] = self._taps[half:]
        kernel[-half:] = self._taps[:half]
        return fft.rfft(kernel).real


@cache
def band_pass(sfreq: float, l_freq: float, h_freq: float, h_width: float) -> np.ndarray:
    """Design the zero-phase FIR: windowed sinc (Hamming), one length for each edge.

    This is what `mne.filter.create_filter` makes of ``fir_design="firwin"``; it is written out
    because importing that takes a worker longer than cleaning ten recordings.

    Parameters
    ----------
    sfreq
        Sampling rate in Hz.
    l_freq, h_freq
        Edges of the pass band in Hz; the lower transition is `l_freq` wide.
    h_width
        Width of the upper transition in Hz.

    Returns
    -------
    (N,) array
        Symmetric, N odd.
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

    Nearly: the end of the piece is off the new grid by less than `MAX_DRIFT` samples. Fast
    lengths are preferred; rates without such are served by slower ones.
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
    """Replace samples (C, T) that are not finite by a line between their neighbours.

    One of them would make a whole piece NaN. A channel without any finite sample is zero.
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

    This is MNE's ``reflect_limited``, except that it levels out instead of falling to zero.
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
