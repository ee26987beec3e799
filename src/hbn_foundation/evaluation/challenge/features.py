"""Features of windows for the baselines: what existing methods measure, and the course in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.baselines import (
    ON_COVARIANCES,
    fit_components,
    measure,
    tangent_spaces,
    to_tangent,
)
from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.evaluation.params import BaselineParams
from hbn_foundation.evaluation.spectra import COMPONENTS, electrode_weights, read_batches

if TYPE_CHECKING:
    from torch import nn

    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.store import SignalStore

RANDOM = "random_weights"
TIME_BINS = "time_bins"
BOOSTED = "boosted_trees"
ON_TIME_BINS = (TIME_BINS, BOOSTED)
MOST_AT_ONCE = 8192
#: What a fitted method says (N,) of windows, from their features and their table.
Answer = Callable[[Any, pd.DataFrame], np.ndarray]


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

    @property
    def n_samples(self) -> int:
        """Length of the windows that it takes."""
        return self.encoder.n_samples


class WindowFeatures:
    """Features (N, D) of the methods that have any.

    Parameters
    ----------
    methods
        Names; those without features are left out, and so is `random_weights` without an encoder.
    store
        The signals.
    n_samples
        Length of a window.
    params
        Bands, shrinkage, batch size.
    random_encoder
        With random weights, and how windows reach it.
    bin_seconds
        Width of the time bins in s.

    Raises
    ------
    UserError
        When the encoder is made for windows of another length.
    """

    def __init__(
        self,
        methods: tuple[str, ...],
        store: SignalStore,
        n_samples: int,
        params: BaselineParams,
        random_encoder: Unlearned | None = None,
        bin_seconds: float = 0.05,
    ) -> None:
        self.methods = methods
        self.store = store
        self.n_samples = n_samples
        self.params = params
        self.random_encoder = random_encoder if RANDOM in methods else None
        self.bin_seconds = bin_seconds
        self._spaces: dict[str, list[Any]] = {}
        self._components: np.ndarray | None = None
        made_for = n_samples if self.random_encoder is None else self.random_encoder.n_samples
        if made_for != n_samples:
            raise UserError(
                f"evaluation: the encoder is made for windows of {made_for} samples, these have "
                f"{n_samples}; leave {RANDOM} out of the baselines"
            )

    def fit(self, windows: pd.DataFrame) -> dict[str, np.ndarray]:
        """Fit what must be fitted on the training windows; return the features of all, by method.

        Parameters
        ----------
        windows
            Where the windows are, with their `split` (N rows).
        """
        train = (windows["split"] == "train").to_numpy()
        self._components = fit_components(
            self.methods, self.store, windows[train], self.n_samples, self.params
        )
        found = self._measured(windows)
        for name in ON_COVARIANCES:
            if name in found:
                self._spaces[name] = tangent_spaces(found[name], train)
        return self._mapped(found)

    def __call__(self, windows: pd.DataFrame) -> dict[str, np.ndarray]:
        """Features (N, D) of further windows, by method."""
        return self._mapped(self._measured(windows))

    def _measured(self, windows: pd.DataFrame) -> dict[str, np.ndarray]:
        store, n_samples, params = self.store, self.n_samples, self.params
        found = measure(self.methods, store, windows, n_samples, params, self._components)
        if set(self.methods) & set(ON_TIME_BINS):
            bins = time_bins(
                store, windows, n_samples, self.bin_seconds, params.batch_size, self._components
            )
            found |= {name: bins for name in ON_TIME_BINS if name in self.methods}
        if self.random_encoder is not None:
            encoder, prepare = self.random_encoder
            found |= encoder_features(
                {RANDOM: encoder}, store, windows, params.batch_size, prepare=prepare
            )
        return found

    def _mapped(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return found | {name: to_tangent(s, found[name]) for name, s in self._spaces.items()}


def always(value: float) -> Answer:
    """Answer every window alike."""
    return lambda _, windows: np.full(len(windows), value)


def answer_windows(
    fits: Mapping[str, Sequence[Answer]], features: WindowFeatures, windows: pd.DataFrame
) -> dict[str, np.ndarray]:
    """Answer windows a few thousand at a time, so that their features need little memory.

    Parameters
    ----------
    fits
        By method: what it was fitted for, K of them.
    features
        Fitted.
    windows
        Where the windows are (N rows).

    Returns
    -------
    dict
        By method (N, K).
    """
    answers: dict[str, list[np.ndarray]] = {method: [] for method in fits}
    for first in range(0, len(windows), MOST_AT_ONCE):
        part = windows.iloc[first : first + MOST_AT_ONCE]
        found = features(part)
        for method, of_method in fits.items():
            said = [answer(found.get(method), part) for answer in of_method]
            answers[method].append(np.column_stack(said))
    return {method: np.concatenate(parts) for method, parts in answers.items()}


def time_bins(
    store: SignalStore,
    windows: pd.DataFrame,
    n_samples: int,
    seconds: float,
    batch_size: int,
    components: np.ndarray | None = None,
) -> np.ndarray:
    """Means over short stretches of time (N, electrodes · bins), electrode by electrode.

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
    components
        Of `fit_components`.
    """
    width = min(max(1, round(seconds * store.sfreq)), n_samples)
    if components is not None:
        components = components[: COMPONENTS[TIME_BINS]]
    whole = n_samples // width * width
    parts = []
    for signals, mask in read_batches(store, windows, n_samples, batch_size):
        electrodes = electrode_weights(store.positions, mask, components) @ signals[..., :whole]
        means = electrodes.reshape(*electrodes.shape[:2], -1, width).mean(-1)
        parts.append(means.reshape(len(means), -1).astype(np.float32))
    return np.concatenate(parts)
