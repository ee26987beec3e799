"""Classical measurements of windows, batch by batch: band power and covariances per band.

Signals never stay in memory, only what is measured. Nothing here is fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.progress import track

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

Bands = Sequence[tuple[float, float]]
MOST_CHANNELS = 32
"""Up to so many channels are taken as they are."""
COMPONENTS = {"riemann": 64, "filter_bank": 32, "time_bins": 32, "boosted_trees": 32}
"""How many principal components of the channels of denser caps each method takes."""
MOST_FOR_COMPONENTS = 1000
SHARPNESS = 80.0
SMALLEST_POWER = 1e-9


def read_batches(
    store: SignalStore, windows: pd.DataFrame, n_samples: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read windows in the order of the table: signals (B, C, T), and channels (B, C) of use.

    Absent and bad channels are zero.
    """
    from hbn_foundation.signals.reader import WindowReader

    reader = WindowReader(store, n_samples)
    rows, starts = windows["row"].to_numpy(), windows["start"].to_numpy()
    for first in track(range(0, len(rows), batch_size), "batches measured for baselines"):
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

    Bands are edges in Hz, None for one covariance of the whole signal. `shrinkage` is the share of
    the identity scaled to the same trace, so that no covariance is singular.
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


def time_bins(signals: np.ndarray, width: int) -> np.ndarray:
    """Means of signals (B, V, T) over stretches of `width` samples: (B, V · bins).

    Channel by channel; samples after the last whole bin are not used.
    """
    width = min(max(1, width), signals.shape[-1])
    whole = signals[..., : signals.shape[-1] // width * width]
    means = whole.reshape(*whole.shape[:2], -1, width).mean(-1)
    return means.reshape(len(means), -1).astype(np.float32)


def electrode_weights(
    positions: np.ndarray, mask: np.ndarray, components: np.ndarray | None = None
) -> np.ndarray:
    """Weights (B, V, C) from channels to what covariances are taken of.

    Channels are taken as they are; one that cannot be used by `mask` (B, C) is replaced by an
    average of those around it, by `positions` (C, 3). `components` (V, C) are those of
    `principal_components`; None for the channels themselves.
    """
    import torch

    from hbn_foundation.models.spatial import VirtualElectrodes

    places = torch.from_numpy(np.ascontiguousarray(positions, dtype=np.float32))
    electrodes = VirtualElectrodes(SHARPNESS)
    electrodes.directions = places
    distinct, group = np.unique(mask, axis=0, return_inverse=True)
    weights = electrodes.weights(places, torch.from_numpy(distinct)).numpy().copy()
    window, channel = np.nonzero(distinct)
    weights[window, channel] = 0
    weights[window, channel, channel] = 1
    if components is not None:
        weights = components @ weights
    return weights[np.ravel(group)]


def principal_components(
    store: SignalStore, windows: pd.DataFrame, n_samples: int, batch_size: int
) -> np.ndarray | None:
    """Principal components (V, C) of the channels of dense caps, over training windows.

    A window of two seconds gives a covariance of 129 average-referenced, partly interpolated
    channels that is close to singular, and 8,385 numbers per band; projecting to fewer components
    regularises it (Sabbagh et al. 2020).

    At most 64 orthonormal rows, largest first; None for up to 32 channels, which are taken as they
    are. Of more than 1,000 windows some are taken evenly.
    """
    n_channels = len(store.positions)
    if n_channels <= MOST_CHANNELS:
        return None
    places = np.linspace(0, len(windows) - 1, min(len(windows), MOST_FOR_COMPONENTS))
    total = np.zeros((n_channels, n_channels))
    few = windows.iloc[places.astype(np.int64)]
    for signals, mask in read_batches(store, few, n_samples, batch_size):
        whole = electrode_weights(store.positions, mask) @ signals
        whole -= whole.mean(-1, keepdims=True)
        total += (whole @ whole.swapaxes(1, 2)).sum(0)
    _, vectors = np.linalg.eigh(total)
    return vectors[:, ::-1][:, : max(COMPONENTS.values())].T.astype(np.float32)


def _inside(frequencies: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    low, high = band
    return (frequencies >= low - 1e-6) & (frequencies < high - 1e-6)
