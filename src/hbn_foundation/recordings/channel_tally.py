"""What is counted in a recording's raw samples while they pass, a piece at a time."""

from __future__ import annotations

import numpy as np

SPECTRUM_SECONDS = 10.0
"""Seconds of each piece whose spectrum is taken."""

SEGMENT_SECONDS = 2.0
LINE_FREQUENCIES = (50.0, 60.0)


class ChannelTally:
    """Counts for each channel over the whole recording; memory does not depend on its length.

    Parameters
    ----------
    n_channels
        Number of channels.
    sfreq
        Sampling rate of the raw samples in Hz.
    flat_volts
        A second whose range is below this is flat.
    """

    def __init__(self, n_channels: int, sfreq: float, flat_volts: float) -> None:
        self._sfreq, self._flat_volts = sfreq, flat_volts
        self._second = max(round(sfreq), 2)
        self._n_segment = max(round(SEGMENT_SECONDS * sfreq), 4)
        self.n_samples = 0
        self._n_seconds = 0
        self._missing = np.zeros(n_channels, int)
        self._flat = np.zeros(n_channels, int)
        self._extreme = np.full((2, n_channels), -np.inf)
        self._at_extreme = np.zeros((2, n_channels), int)
        self._power = np.zeros((n_channels, self._n_segment // 2 + 1))
        self._n_power = 0

    def update(self, samples: np.ndarray) -> None:
        """Count the next (C, T) samples in volts; NaN is missing."""
        self.n_samples += samples.shape[1]
        if not np.isfinite(samples).all():
            missing = ~np.isfinite(samples)
            self._missing += missing.sum(axis=1)
            samples = np.where(missing, 0.0, samples)
        self._count_flat(samples)
        self._count_extremes(samples)
        self._add_power(samples)

    def _count_flat(self, samples: np.ndarray) -> None:
        n = samples.shape[1] // self._second
        if n == 0:
            return
        seconds = samples[:, : n * self._second].reshape(len(samples), n, self._second)
        span = seconds.max(axis=2) - seconds.min(axis=2)
        self._flat += (span < self._flat_volts).sum(axis=1)
        self._n_seconds += n

    def _count_extremes(self, samples: np.ndarray) -> None:
        for side, signed in enumerate((samples, -samples)):
            top = signed.max(axis=1)
            higher = top > self._extreme[side]
            self._extreme[side] = np.where(higher, top, self._extreme[side])
            count = np.count_nonzero(signed >= self._extreme[side][:, None], axis=1)
            self._at_extreme[side] = count + np.where(higher, 0, self._at_extreme[side])

    def _add_power(self, samples: np.ndarray) -> None:
        from scipy import fft

        size = self._n_segment
        n = min(samples.shape[1], int(SPECTRUM_SECONDS * self._sfreq)) // size
        if n == 0:
            return
        segments = samples[:, : n * size].reshape(len(samples), n, size)
        segments = segments - segments.mean(axis=2, keepdims=True)
        spectrum = fft.rfft((segments * np.hanning(size)).astype(np.float32), axis=2)
        self._power += (np.abs(spectrum) ** 2).sum(axis=1)
        self._n_power += n

    @property
    def missing_share(self) -> np.ndarray:
        """(C,) share of the samples that are NaN or infinite."""
        return self._missing / max(self.n_samples, 1)

    @property
    def flat_share(self) -> np.ndarray:
        """(C,) share of the seconds that hardly move; the whole where it is under a second."""
        if self._n_seconds == 0:
            span = self._extreme[0] + self._extreme[1]
            return (span < self._flat_volts).astype(float)
        return self._flat / self._n_seconds

    @property
    def clipping_share(self) -> np.ndarray:
        """(C,) share of the samples at the channel's own highest or lowest value."""
        return self._at_extreme.max(axis=0) / max(self.n_samples, 1)

    def line_ratio(self, line: float | None) -> np.ndarray:
        """(C,) power at the mains frequency over that beside it; 1 is none.

        Parameters
        ----------
        line
            Mains frequency in Hz; None takes the higher ratio of 50 and 60 Hz.

        Returns
        -------
        (C,) array
            Mean power within 1 Hz of `line` over the mean power 2 to 5 Hz away; NaN where the
            sampling rate is too low to tell.
        """
        ratios = [self._ratio_at(f) for f in ((line,) if line else LINE_FREQUENCIES)]
        with np.errstate(all="ignore"):
            return np.fmax.reduce(ratios)

    def _ratio_at(self, line: float) -> np.ndarray:
        frequencies = np.arange(self._power.shape[1]) * self._sfreq / self._n_segment
        distance = np.abs(frequencies - line)
        if not self._n_power or self._sfreq / 2 < line + 2:
            return np.full(len(self._power), np.nan)
        at = self._power[:, distance <= 1].mean(axis=1)
        beside = self._power[:, (distance >= 2) & (distance <= 5)].mean(axis=1)
        return np.divide(at, beside, out=np.full(len(at), np.nan), where=beside > 0)
