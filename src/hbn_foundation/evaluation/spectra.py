"""Classical measurements of windows, batch by batch: band power and covariances per band.

Signals never stay in memory, only what is measured. Nothing here is fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

Bands = Sequence[tuple[float, float]]
MOST_CHANNELS = 32
SHARPNESS = 80.0
SMALLEST_POWER = 1e-9


def read_batches(
    store: SignalStore, windows: pd.DataFrame, n_samples: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read windows in the order of the table.

    Yields
    ------
    signals : numpy.ndarray
        (B, C, T) float32, absent and bad channels zero.
    mask : numpy.ndarray
        (B, C) bool, channels that can be used.
    """
    from hbn_foundation.signals.windows import WindowReader

    reader = WindowReader(store, n_samples)
    rows, starts = windows["row"].to_numpy(), windows["start"].to_numpy()
    for first in range(0, len(rows), batch_size):
        part = slice(first, first + batch_size)
        signals, mask = reader.read_scaled(rows[part], starts[part])
        yield signals.numpy(), mask.numpy()
    reader.close()


def log_band_power(signals: np.ndarray, mask: np.ndarray, bands: Bands, sfreq: float) -> np.ndarray:
    """Log power of each channel in each band (B, bands · C), from a Hann-tapered spectrum.

    Channels that cannot be used are NaN, for the probe to replace by the training mean.
    """
    n_samples = signals.shape[-1]
    power = np.abs(np.fft.rfft(signals * np.hanning(n_samples + 2)[1:-1].astype(np.float32))) ** 2
    frequencies = np.fft.rfftfreq(n_samples, 1 / sfreq)
    columns = []
    for band in bands:
        mean = power[..., _inside(frequencies, band)].mean(-1)
        columns.append(np.where(mask, np.log(mean + SMALLEST_POWER), np.nan))
    return np.concatenate(columns, 1).astype(np.float32)


def covariances(
    signals: np.ndarray, bands: Bands | None, sfreq: float, shrinkage: float
) -> np.ndarray:
    """Covariances (B, bands, V, V) of signals (B, V, T), band-passed by their Fourier transform.

    Parameters
    ----------
    signals
        Band-pass and covariance are taken of the window as it is.
    bands
        Edges in Hz; None for one covariance of the whole signal.
    sfreq
        Sampling rate in Hz.
    shrinkage
        Share of the identity scaled to the same trace, so that no covariance is singular.
    """
    n_samples = signals.shape[-1]
    spectrum = np.fft.rfft(signals - signals.mean(-1, keepdims=True))
    frequencies = np.fft.rfftfreq(n_samples, 1 / sfreq)
    result = []
    for band in bands if bands is not None else [(0.0, np.inf)]:
        part = spectrum[..., _inside(frequencies, band)]
        matrix = part.real @ part.real.swapaxes(1, 2) + part.imag @ part.imag.swapaxes(1, 2)
        result.append(2 * matrix / n_samples**2)
    matrices = np.stack(result, 1).astype(np.float64)
    size = matrices.shape[-1]
    level = np.trace(matrices, axis1=-2, axis2=-1)[..., None, None] / size + SMALLEST_POWER
    shrunk = (1 - shrinkage) * matrices + shrinkage * level * np.eye(size)
    return shrunk.astype(np.float32)


def electrode_weights(positions: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Weights (B, V, C) from channels to the electrodes that covariances are taken of.

    Up to 32 channels are taken as they are; a channel that cannot be used is replaced by an
    average of those around it. Denser caps are averaged to the 19 directions of the 10-20 system:
    a covariance of 129 channels from a window of two seconds is close to singular.
    """
    import torch

    from hbn_foundation.models.spatial import VirtualElectrodes

    places = torch.from_numpy(np.ascontiguousarray(positions, dtype=np.float32))
    electrodes = VirtualElectrodes(SHARPNESS)
    few = len(positions) <= MOST_CHANNELS
    if few:
        electrodes.directions = places
    distinct, group = np.unique(mask, axis=0, return_inverse=True)
    weights = electrodes.weights(places, torch.from_numpy(distinct)).numpy().copy()
    if few:
        window, channel = np.nonzero(distinct)
        weights[window, channel] = 0
        weights[window, channel, channel] = 1
    return weights[np.ravel(group)]


def _inside(frequencies: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    low, high = band
    return (frequencies >= low - 1e-6) & (frequencies < high - 1e-6)
