"""Noise of a given spectrum, and the recording's own filter, in the frequency domain."""

from __future__ import annotations

import numpy as np

BAND = (0.5, 48.0)  # the challenge's files are filtered to 0.5-50 Hz; 50 Hz is half their rate


def coloured(
    rng: np.random.Generator, n_sources: int, n_samples: int, sfreq: float, amplitude: np.ndarray
) -> np.ndarray:
    """Return (n_sources, n_samples) float32 noise of rms 1 with an amplitude spectrum.

    `amplitude` is taken at `frequencies(n_samples, sfreq)`.
    """
    from scipy import fft

    length = fft.next_fast_len(n_samples, real=True)
    parts = rng.standard_normal((n_sources, len(amplitude), 2), dtype=np.float32)
    power = 2.0 * np.sum(amplitude[1:] ** 2) * 2.0 / length**2
    scale = (amplitude / np.sqrt(max(power, 1e-30))).astype(np.float32)
    spectrum = (parts[..., 0] + 1j * parts[..., 1]) * scale
    return fft.irfft(spectrum, length, axis=-1)[:, :n_samples].astype(np.float32, copy=False)


def frequencies(n_samples: int, sfreq: float) -> np.ndarray:
    """Return the frequencies in Hz at which `coloured` takes its amplitudes."""
    from scipy import fft

    return np.fft.rfftfreq(fft.next_fast_len(n_samples, real=True), 1.0 / sfreq)


def one_over_f(f: np.ndarray, slope: float) -> np.ndarray:
    """Return the amplitude of a spectrum whose power falls as 1 / f^slope within the band."""
    return np.maximum(f, 0.3) ** (-slope / 2.0) * band_limit(f)


def bump(f: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Return a Gaussian amplitude spectrum around `centre` with standard deviation `width`, Hz."""
    return np.exp(-0.5 * ((f - centre) / width) ** 2) * band_limit(f)


def band_limit(f: np.ndarray) -> np.ndarray:
    """Return the gain of the recording's own filter."""
    low, high = BAND
    return np.sqrt(1.0 / (1.0 + (low / np.maximum(f, 1e-6)) ** 8) / (1.0 + (f / high) ** 24))


def filtered(courses: np.ndarray, sfreq: float) -> np.ndarray:
    """Pass time courses (k, n_samples) through the recording's own filter, without delay."""
    from scipy import fft

    n = courses.shape[-1]
    length = fft.next_fast_len(n + int(4 * sfreq), real=True)
    spectrum = fft.rfft(courses, length, axis=-1)
    spectrum *= band_limit(np.fft.rfftfreq(length, 1.0 / sfreq))
    return fft.irfft(spectrum, length, axis=-1)[..., :n].astype(np.float32, copy=False)
