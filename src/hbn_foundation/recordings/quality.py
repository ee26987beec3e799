"""Counts over the raw samples of a recording, and which of its channels are bad."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from hbn_foundation.recordings.params import CleaningParams

SPECTRUM_SECONDS = 10.0
"""Seconds of each chunk whose spectrum is taken."""

SEGMENT_SECONDS = 2.0
LINE_FREQUENCIES = (50.0, 60.0)

MIN_CHANNELS_TO_COMPARE = 8
"""With fewer, channels are not compared with each other."""

REFERENCE = "reference"
"""Reason of a flat channel that the sidecar names as the reference: unusable, but not bad."""

MIN_LOG_SPREAD = 0.2
"""Least robust deviation of log amplitudes, for montages with very even amplitudes."""

AMPLITUDES_UV = (0.5, 500.0)
"""Least and greatest plausible median amplitude of EEG in µV; beyond, the unit is doubted."""


class ChannelTally:
    """Counts for each of some channels over the raw samples at `sfreq` Hz, a chunk at a time.

    Its memory does not depend on the recording's length. A second whose range is below
    `flat_volts` is flat.
    """

    def __init__(self, n_channels: int, sfreq: float, flat_volts: float) -> None:
        self._sfreq, self._flat_volts = sfreq, flat_volts
        self._second = max(round(sfreq), 2)
        self._n_segment = max(round(SEGMENT_SECONDS * sfreq), 4)
        self._n_samples = self._n_seconds = 0
        self._missing = np.zeros(n_channels, int)
        self._flat = np.zeros(n_channels, int)
        self._extreme = np.full((2, n_channels), -np.inf)
        self._at_extreme = np.zeros((2, n_channels), int)
        self._power = np.zeros((n_channels, self._n_segment // 2 + 1))

    def update(self, samples: np.ndarray) -> None:
        """Count the next (C, T) samples in volts; NaN is missing."""
        from scipy import fft

        missing = ~np.isfinite(samples)
        if missing.any():
            self._missing += missing.sum(axis=1)
            samples = np.where(missing, 0.0, samples)
        self._n_samples += samples.shape[1]
        seconds = _segments(samples, self._second)
        span = seconds.max(axis=2) - seconds.min(axis=2)
        self._flat += (span < self._flat_volts).sum(axis=1)
        self._n_seconds += seconds.shape[1]
        for side, signed in enumerate((samples, -samples)):
            top = signed.max(axis=1)
            higher = top > self._extreme[side]
            self._extreme[side] = np.where(higher, top, self._extreme[side])
            count = np.count_nonzero(signed >= self._extreme[side][:, None], axis=1)
            self._at_extreme[side] = count + np.where(higher, 0, self._at_extreme[side])
        segments = _segments(samples[:, : int(SPECTRUM_SECONDS * self._sfreq)], self._n_segment)
        if segments.size:
            segments = segments - segments.mean(axis=2, keepdims=True)
            windowed = (segments * np.hanning(self._n_segment)).astype(np.float32)
            self._power += (np.abs(fft.rfft(windowed, axis=2)) ** 2).sum(axis=1)

    @property
    def missing_share(self) -> np.ndarray:
        """(C,) share of the samples that are NaN or infinite."""
        return self._missing / max(self._n_samples, 1)

    @property
    def flat_share(self) -> np.ndarray:
        """(C,) share of the flat seconds; a recording under a second counts as one."""
        if self._n_seconds == 0:
            span = self._extreme[0] + self._extreme[1]
            return (span < self._flat_volts).astype(float)
        return self._flat / self._n_seconds

    @property
    def clipping_share(self) -> np.ndarray:
        """(C,) share of the samples at the channel's own highest or lowest value."""
        return self._at_extreme.max(axis=0) / max(self._n_samples, 1)

    def line_ratio(self, line: Any) -> np.ndarray:
        """(C,) mean power within 1 Hz of the mains frequency over that 2 to 5 Hz away; 1 is none.

        `line` is `PowerLineFrequency` of the sidecar in Hz; where it is no frequency, the higher
        ratio of 50 and 60 Hz is taken. NaN where the sampling rate is too low to tell.
        """
        known = isinstance(line, int | float) and line > 0
        frequencies = np.arange(self._power.shape[1]) * self._sfreq / self._n_segment
        ratios = [np.full(len(self._power), np.nan)]
        for hz in (line,) if known else LINE_FREQUENCIES:
            distance = np.abs(frequencies - hz)
            if self._sfreq / 2 >= hz + 2:
                at = self._power[:, distance <= 1].mean(axis=1)
                beside = self._power[:, (distance >= 2) & (distance <= 5)].mean(axis=1)
                nan = np.full(len(at), np.nan)
                ratios.append(np.divide(at, beside, out=nan, where=beside > 0))
        return np.fmax.reduce(ratios)


def _segments(samples: np.ndarray, size: int) -> np.ndarray:
    """(C, n, size) whole segments of samples (C, T)."""
    n = samples.shape[1] // size
    return samples[:, : n * size].reshape(len(samples), n, size)


def bad_channels(
    tally: ChannelTally, scales: np.ndarray, correlation: np.ndarray, params: CleaningParams
) -> dict[int, str]:
    """Find the bad ones of C channels, each with the first reason that holds.

    The reasons are ``missing samples``, ``flat``, ``clipping``, then, against the others that are
    left, ``noisy`` (robust z of the log amplitude, after PREP, Bigdely-Shamlo et al. 2015),
    ``weak`` and ``uncorrelated``.

    Parameters
    ----------
    tally
        Counts over the raw samples.
    scales, correlation
        (C,) robust amplitude of the clean signal in volts; highest absolute correlation of each
        clean channel with another.
    params
        The thresholds.
    """
    reasons = {
        "missing samples": tally.missing_share > params.missing_share,
        "flat": (tally.flat_share >= params.flat_share) | (scales <= 0),
        "clipping": tally.clipping_share >= params.clipping_share,
    }
    left = ~np.any([*reasons.values()], axis=0)
    if left.sum() >= MIN_CHANNELS_TO_COMPARE:
        log = np.log(np.where(left, scales, 1.0))
        middle = np.median(log[left])
        spread = max(1.4826 * float(np.median(np.abs(log[left] - middle))), MIN_LOG_SPREAD)
        reasons |= {
            "noisy": left & ((log - middle) / spread > params.amplitude_z),
            "weak": left & (log < middle + np.log(max(params.weak_ratio, 1e-12))),
            "uncorrelated": left & (correlation < params.min_correlation),
        }
    found = {i: why for why in reversed(reasons) for i in np.flatnonzero(reasons[why]).tolist()}
    return dict(sorted(found.items()))


def is_reference(name: str, reference: Any) -> bool:
    """Whether `EEGReference` of the sidecar, such as ``Cz (vertex)``, names a channel."""
    return name.casefold() in re.findall(r"\w+", str(reference or "").casefold())


def highest_correlation(sample: np.ndarray) -> np.ndarray:
    """Highest absolute correlation of each row of (C, S) with another; 0 for constant ones."""
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.nan_to_num(np.abs(np.atleast_2d(np.corrcoef(sample, dtype=np.float32))))
    np.fill_diagonal(matrix, 0.0)
    return matrix.max(axis=0, initial=0.0)
