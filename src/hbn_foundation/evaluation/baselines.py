"""What an encoder must beat: classical features of the same windows, for the same probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.params import BaselineParams
from hbn_foundation.evaluation.spectra import (
    COMPONENTS,
    covariances,
    electrode_weights,
    log_band_power,
    principal_components,
    read_batches,
)
from hbn_foundation.progress import track

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

MOST_FOR_MEAN = 1000
ON_COVARIANCES = ("riemann", "filter_bank")
#: Band powers differ in kind from channel to channel; everything else keeps its variances.
SCALED_PER_FEATURE = ("band_power",)


def classical_features(
    methods: tuple[str, ...],
    store: SignalStore,
    windows: pd.DataFrame,
    train: np.ndarray,
    n_samples: int,
    params: BaselineParams,
) -> dict[str, np.ndarray]:
    """Features (N, D) of the classical methods; covariances in the tangent space.

    Parameters
    ----------
    train
        Which windows (N,) are of training subjects; means are taken of those.
    methods, store, windows, n_samples, params
        See `measure`.
    """
    components = fit_components(methods, store, windows[train], n_samples, params)
    measured = measure(methods, store, windows, n_samples, params, components)
    for name in ON_COVARIANCES:
        if name in measured:
            measured[name] = tangent_vectors(measured[name], train)
    return measured


def fit_components(
    methods: tuple[str, ...],
    store: SignalStore,
    training: pd.DataFrame,
    n_samples: int,
    params: BaselineParams,
) -> np.ndarray | None:
    """Fit `principal_components` on training windows where a method needs them."""
    if not set(methods) & set(COMPONENTS):
        return None
    return principal_components(store, training, n_samples, params.batch_size)


def measure(
    methods: tuple[str, ...],
    store: SignalStore,
    windows: pd.DataFrame,
    n_samples: int,
    params: BaselineParams,
    components: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Measure windows for the classical methods in one pass over the signals.

    Parameters
    ----------
    methods
        Any of `band_power`, `riemann` and `filter_bank`; others are ignored.
    store, windows
        The signals, and where the windows are.
    n_samples
        Length of a window.
    params
        Bands, shrinkage, batch size.
    components
        Of `fit_components`.

    Returns
    -------
    dict
        `band_power`: (N, bands · C), NaN where a channel cannot be used; `riemann`:
        (N, 1, V, V) and `filter_bank`: (N, bands, V, V) covariances.
    """
    wanted = [name for name in ("band_power", "riemann", "filter_bank") if name in methods]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    if not wanted:
        return {}
    for signals, mask in read_batches(store, windows, n_samples, params.batch_size):
        if "band_power" in parts:
            power = log_band_power(signals, mask, params.bands, store.sfreq)
            parts["band_power"].append(power)
        if "riemann" in parts or "filter_bank" in parts:
            electrodes = electrode_weights(store.positions, mask, components) @ signals
        if "riemann" in parts:
            matrices = covariances(electrodes, None, store.sfreq, params.shrinkage)
            parts["riemann"].append(matrices)
        if "filter_bank" in parts:
            few = electrodes if components is None else electrodes[:, : COMPONENTS["filter_bank"]]
            matrices = covariances(few, params.bands, store.sfreq, params.shrinkage)
            parts["filter_bank"].append(matrices)
    return {name: np.concatenate(list_) for name, list_ in parts.items()}


def tangent_vectors(matrices: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Map covariances (N, bands, V, V) to the tangent space at the training windows' mean.

    Affine-invariant metric (Barachant et al. 2012), each band at its own mean, all bands side by
    side (N, bands · V(V+1)/2).

    Parameters
    ----------
    matrices
        Positive definite.
    train
        Which windows (N,) the mean is taken of; more than 1,000 are thinned evenly, for the mean
        of that many moves no further.
    """
    return to_tangent(tangent_spaces(matrices, train), matrices)


def tangent_spaces(matrices: np.ndarray, train: np.ndarray) -> list[Any]:
    """Fit pyriemann's tangent space of each band; parameters as for `tangent_vectors`."""
    from pyriemann.tangentspace import TangentSpace

    chosen = np.flatnonzero(train)
    if len(chosen) > MOST_FOR_MEAN:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MOST_FOR_MEAN).astype(np.int64)]
    return [
        TangentSpace(metric="riemann").fit(of_band[chosen].astype(np.float64))
        for of_band in track(matrices.swapaxes(0, 1), "mean covariances of bands")
    ]


def to_tangent(spaces: list[Any], matrices: np.ndarray) -> np.ndarray:
    """Map covariances (N, bands, V, V) to fitted tangent spaces, bands side by side."""
    columns = [
        space.transform(of_band.astype(np.float64)).astype(np.float32)
        for space, of_band in zip(spaces, matrices.swapaxes(0, 1), strict=True)
    ]
    return np.concatenate(columns, 1)
