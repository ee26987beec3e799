"""What is in the recordings and not from the brain: blinks, muscles, mains, bad channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbn_foundation.recordings.simulation.behaviour import Run
from hbn_foundation.recordings.simulation.noise import band_limit, coloured, frequencies

MAINS_HZ = 60.0
SENSOR_UV = 1.0
BLINK_SECONDS = 0.09  # standard deviation of its bell shape
CLOSED_BLINK_SHARE = 0.1


@dataclass(frozen=True)
class BadChannels:
    """Which channels are bad, by number, and in which way."""

    flat: tuple[int, ...]
    noisy: tuple[int, ...]


def blinks(run: Run, times: np.ndarray, per_minute: float, rng: np.random.Generator) -> np.ndarray:
    """Return blinks of mean height 1, at least half a second apart, few with eyes closed."""
    waits = 0.5 + rng.exponential(60.0 / per_minute, 20 + int(run.seconds * per_minute / 20))
    course = np.zeros_like(times)
    for time in np.cumsum(waits):
        closed = any(start <= time < end for start, end in run.eyes_closed)
        height, width = np.exp(0.25 * rng.standard_normal()), rng.uniform(0.8, 1.3)
        if time > run.seconds or (closed and rng.random() > CLOSED_BLINK_SHARE):
            continue
        near = np.abs(times - time) < 1.0
        t = (times[near] - time) / (BLINK_SECONDS * width)
        course[near] += height * (np.exp(-0.5 * t**2) - 0.12 * np.exp(-0.5 * (t - 3.5) ** 2 / 4))
    return course


def muscle(n_sources: int, n_samples: int, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    """Return (n_sources, n_samples) muscle tension above 20 Hz, coming and going."""
    f = frequencies(n_samples, sfreq)
    high = band_limit(f) / (1.0 + (20.0 / np.maximum(f, 0.1)) ** 4)
    noise = coloured(rng, n_sources, n_samples, sfreq, high)
    slow = coloured(rng, n_sources, n_samples, sfreq, (f < 0.3) * (f > 0) * 1.0)
    return noise * np.exp(0.7 * slow)


def mains(n_channels: int, times: np.ndarray, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    """Return what is left of the mains, (n_channels, n_samples), rms about 1.

    60 Hz lies above half of 100 Hz. The low-pass before downsampling stops it almost, not quite,
    and the rest is folded to 100 - 60 = 40 Hz.
    """
    folded = abs(MAINS_HZ - sfreq * round(MAINS_HZ / sfreq))
    size = np.exp(0.6 * rng.standard_normal(n_channels))
    phase = 2 * np.pi * rng.random() + 0.3 * rng.standard_normal(n_channels)
    waves = np.sin(2 * np.pi * folded * times), np.cos(2 * np.pi * folded * times)
    parts = np.column_stack([np.cos(phase), np.sin(phase)]) * (np.sqrt(2.0) * size)[:, None]
    return (parts @ np.vstack(waves)).astype(np.float32)


def draw_bad_channels(n_channels: int, share: float, rng: np.random.Generator) -> BadChannels:
    """Draw the bad channels of a recording: in a `share` of recordings one to four, else none."""
    if rng.random() >= share:
        return BadChannels((), ())
    chosen = rng.choice(n_channels - 1, rng.integers(1, 5), replace=False)
    flat = rng.random(len(chosen)) < 0.4
    return BadChannels(
        tuple(sorted(map(int, chosen[flat]))), tuple(sorted(map(int, chosen[~flat])))
    )


def spoil(eeg: np.ndarray, bad: BadChannels, sfreq: float, rng: np.random.Generator) -> np.ndarray:
    """Make the bad channels of (channels, samples) flat or noisy, in place, and return it."""
    eeg[list(bad.flat)] = 0.0
    if bad.noisy:
        f = frequencies(eeg.shape[1], sfreq)
        wide = band_limit(f) * (1.0 + 3.0 / np.maximum(f, 0.5))
        noise = coloured(rng, len(bad.noisy), eeg.shape[1], sfreq, wide)
        eeg[list(bad.noisy)] += noise * rng.uniform(60, 150, (len(bad.noisy), 1)).astype(np.float32)
    return eeg
