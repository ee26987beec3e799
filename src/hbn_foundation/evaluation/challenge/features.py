"""Features of windows for the baselines: what existing methods measure, and the course in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.baselines import classical_features
from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.evaluation.params import BaselineParams
from hbn_foundation.evaluation.spectra import electrode_weights, read_batches

if TYPE_CHECKING:
    from torch import nn

    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.store import SignalStore

RANDOM = "random_weights"
TIME_BINS = "time_bins"
BOOSTED = "boosted_trees"
ON_TIME_BINS = (TIME_BINS, BOOSTED)


class Unlearned(NamedTuple):
    """An encoder with random weights.

    Attributes
    ----------
    encoder
        In evaluation mode.
    prepare
        See `encoder_features`.
    """

    encoder: Encoder
    prepare: nn.Module | None = None


def method_features(
    methods: tuple[str, ...],
    store: SignalStore,
    windows: pd.DataFrame,
    n_samples: int,
    params: BaselineParams,
    random_encoder: Unlearned | None = None,
    bin_seconds: float = 0.05,
) -> dict[str, np.ndarray]:
    """Features (N, D) of the methods that have any, by method.

    Parameters
    ----------
    methods
        Names; those without features are left out, and so is `random_weights` without an encoder.
    store, windows
        The signals, and where the windows are, with their `split`; what must be fitted is fitted
        on those of training subjects.
    n_samples
        Length of a window.
    params
        Bands, shrinkage, batch size.
    random_encoder
        With random weights, and how windows reach it.
    bin_seconds
        Width of the time bins in s.
    """
    train = (windows["split"] == "train").to_numpy()
    found = classical_features(methods, store, windows, train, n_samples, params)
    if set(methods) & set(ON_TIME_BINS):
        bins = time_bins(store, windows, n_samples, bin_seconds, params.batch_size)
        found |= {name: bins for name in ON_TIME_BINS if name in methods}
    if RANDOM in methods and random_encoder is not None:
        encoder = random_encoder.encoder
        if encoder.n_samples != n_samples:
            raise UserError(
                f"evaluation: the encoder is made for windows of {encoder.n_samples} "
                f"samples, these have {n_samples}; leave {RANDOM} out of the baselines"
            )
        found |= encoder_features(
            {RANDOM: encoder}, store, windows, params.batch_size, prepare=random_encoder.prepare
        )
    return found


def time_bins(
    store: SignalStore, windows: pd.DataFrame, n_samples: int, seconds: float, batch_size: int
) -> np.ndarray:
    """Means over short stretches of time (N, electrodes · bins), electrode by electrode.

    Dense caps are averaged to the 19 directions of the 10-20 system, see `electrode_weights`.

    Parameters
    ----------
    store, windows
        The signals, and where the windows are.
    n_samples
        Length of a window; samples after the last whole bin are not used.
    seconds
        Width of a bin in s, at least one sample.
    batch_size
        Windows read at once.
    """
    width = min(max(1, round(seconds * store.sfreq)), n_samples)
    whole = n_samples // width * width
    parts = []
    for signals, mask in read_batches(store, windows, n_samples, batch_size):
        electrodes = electrode_weights(store.positions, mask) @ signals[..., :whole]
        means = electrodes.reshape(*electrodes.shape[:2], -1, width).mean(-1)
        parts.append(means.reshape(len(means), -1).astype(np.float32))
    return np.concatenate(parts)
