"""Features of windows: what classical methods measure, and what frozen encoders give.

Signals never stay in memory, only the features.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.methods import ENCODER_INPUT, JOINED, PRETRAINED, SLOW, display_name
from hbn_foundation.evaluation.params import BaselineParams
from hbn_foundation.evaluation.spectra import (
    COMPONENTS,
    covariances,
    electrode_weights,
    log_band_power,
    principal_components,
    read_batches,
    time_bins,
)
from hbn_foundation.progress import say, track
from hbn_foundation.signals.context import Surroundings, in_context, surroundings
from hbn_foundation.signals.denoising import denoised, winsorised
from hbn_foundation.signals.params import ContextParams
from hbn_foundation.training.slow_features import MAX_LAG, N_COMPONENTS, LinearSlowFeatures

if TYPE_CHECKING:
    from torch import nn

    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.store import SignalStore

MEASURED = ("band_power", "riemann", "filter_bank", "time_bins")
ON_COVARIANCES = ("riemann", "filter_bank")
MOST_FOR_MEAN = 1000
BIN_SECONDS = 0.05  # the stretches of `time_bins`
PARTS = PRETRAINED, ENCODER_INPUT
"""What `pretrained_and_input` is made of."""


class FrozenEncoders(NamedTuple):
    """Encoders for windows of one length, and what prepares windows for them.

    `encoder_input` is the input of the first; `prepare` as for `encoder_features`.
    """

    by_name: Mapping[str, Encoder]
    prepare: nn.Module | None = None


class FeatureExtractor:
    """Features (N, D) of windows by name; what must be fitted is fitted on training windows.

    Parameters
    ----------
    names
        Any of `band_power` (log power, NaN where a channel cannot be used), `riemann` and
        `filter_bank` (covariances in the tangent space), `time_bins` (means over short stretches
        of time), `encoder_input`, `slow_features` of it, names of encoders, and
        `pretrained_and_input`, each divided by its total standard deviation; those that there is no
        encoder for are left out.
    store, n_samples
        The signals, and the length of a window.
    params
        Bands, shrinkage, batch size.
    encoders
        Encoders, if any.
    context
        What is known of a window's surroundings; by default nothing.

    Raises
    ------
    UserError
        When an encoder is made for windows of another length.
    """

    def __init__(
        self,
        names: Collection[str],
        store: SignalStore,
        n_samples: int,
        params: BaselineParams,
        encoders: FrozenEncoders | None = None,
        context: ContextParams | None = None,
    ) -> None:
        self.names = [name for name in MEASURED if name in names]
        self.store, self.n_samples, self.params = store, n_samples, params
        self.context = context or ContextParams()
        self.asked = set(names)
        names = self.asked | (set(PARTS) if JOINED in self.asked else set())
        made = {} if encoders is None else dict(encoders.by_name)
        self.prepare = None if encoders is None else encoders.prepare
        reads_input = {ENCODER_INPUT, SLOW} & names
        self.input_of = next(iter(made), None) if reads_input else None
        if self.input_of is not None and made[self.input_of].is_external:
            left_out = sorted(self.asked & {*reads_input, JOINED})
            say(
                f"baselines: {', '.join(left_out)} left out: the input of an external encoder is "
                "the signal itself"
            )
            self.input_of = None
        self.encoders = {
            name: one for name, one in made.items() if name in names or name == self.input_of
        }
        self.wanted = names
        recentred = self.context.is_used and self.context.recentre
        self.relative = {
            name for name, one in self.encoders.items() if recentred and one.slow is not None
        }
        self._components: np.ndarray | None = None
        self._spaces: dict[str, list[Any]] = {}
        self._slow: LinearSlowFeatures | None = None
        self._spread: dict[str, float] = {}
        for name, encoder in self.encoders.items():
            if encoder.n_samples != n_samples:
                raise UserError(
                    f"evaluation: the encoder is made for windows of {encoder.n_samples} samples, "
                    f"these have {n_samples}; leave {name} out of the baselines"
                )

    def fit(self, windows: pd.DataFrame) -> dict[str, np.ndarray]:
        """Fit on the training windows; return the features of all (N rows with their `split`)."""
        train = (windows["split"] == "train").to_numpy()
        if set(self.names) & set(COMPONENTS):
            self._components = principal_components(
                self.store, windows[train], self.n_samples, self.params.batch_size
            )
        found = self._measured(windows)
        self._spaces = {
            name: _tangent_spaces(found[name], train) for name in ON_COVARIANCES if name in found
        }
        if SLOW in self.wanted and self.input_of is not None:
            self._slow = self._slow_features(windows[train], found[ENCODER_INPUT][train])
        found = self._in_context(windows, self._mapped(found))
        if JOINED in self.asked and found.keys() >= set(PARTS):
            spread = {name: np.sqrt(found[name][train].var(0).sum()) for name in PARTS}
            self._spread = {name: float(one) or 1.0 for name, one in spread.items()}
        return self._joined(found)

    def _joined(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Add what is made of two, and leave out what nobody asked for."""
        if self._spread:
            parts = [found[name] / one for name, one in self._spread.items()]
            found = found | {JOINED: np.concatenate(parts, axis=1)}
        return {name: values for name, values in found.items() if name in self.asked}

    def _slow_features(
        self, windows: pd.DataFrame, inputs: np.ndarray
    ) -> LinearSlowFeatures | None:
        """Fit slow features of the encoder's input on all clean windows of some recordings.

        That of windows (N rows) is known already, (N, D). None where recordings are too short.
        """
        from hbn_foundation.models.slow import N_LINEAR

        around = surroundings(self.store, windows, self.n_samples, ContextParams(of="recording"))
        others, name = around.table.iloc[len(windows) :], str(self.input_of)
        if len(others):
            beside = encoder_features(
                {name: self.encoders[name]}, self.store, others.reset_index(drop=True),
                self.params.batch_size, name, self.prepare,
            )  # fmt: skip
            inputs = np.concatenate([inputs, beside[ENCODER_INPUT]])
        tiles = around.table.iloc[around.tiles]
        lag = max(MAX_LAG, self.n_samples / self.store.sfreq)  # the next window, however long
        number = N_LINEAR if self.context.denoise else N_COMPONENTS
        try:
            return LinearSlowFeatures(number, lag).fit(
                inputs[around.tiles], recordings=tiles["row"], onsets=tiles["onset"]
            )
        except UserError as error:
            say(f"baselines: {display_name(SLOW)} left out: {error}")
            return None

    def __call__(self, windows: pd.DataFrame) -> dict[str, np.ndarray]:
        """Features of further windows (N rows)."""
        return self._joined(self._in_context(windows, self._mapped(self._measured(windows))))

    def _in_context(
        self, windows: pd.DataFrame, found: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Measure the windows around, and put features into their context."""
        if not self.context.is_used or not found:
            return found
        around = surroundings(self.store, windows, self.n_samples, self.context)
        others = around.table.iloc[len(windows) :]
        beside = self._mapped(self._measured(others)) if len(others) else {}
        result = {}
        for name, values in found.items():
            of_all = np.concatenate([values, beside.get(name, values[:0])])
            if name in self.relative:
                of_all = self._relative_outputs(name, of_all, around)
            elif name == SLOW and self.context.denoise:
                of_all = denoised(of_all, around, self.context)[:, :N_COMPONENTS]
            elif self.context.denoise:
                of_all = winsorised(of_all, around, self.context)
            result[name] = in_context(of_all, around, self.context)
        return result

    def _relative_outputs(
        self, name: str, tangents: np.ndarray, around: Surroundings
    ) -> np.ndarray:
        """Slow outputs (M, n_slow) of band tangents (M, D) relative to their recordings.

        Where they are denoised, they are of limited tangents. Linear slow features tell what else
        is noise in the recording, and the slowest are added to the outputs, which say the same with
        other errors.
        """
        import torch

        encoder, context = self.encoders[name], self.context.model_copy(update={"seconds": 0.0})
        assert encoder.band is not None
        everything = around._replace(n_windows=len(around.table))
        limited = winsorised(tangents, around, context) if context.denoise else tangents
        with torch.inference_mode():
            relative = torch.from_numpy(in_context(limited, everything, context))
            parts = relative.unflatten(1, encoder.band.centre.shape).split(self.params.batch_size)
            outputs = torch.cat([encoder.slow_outputs(part) for part in parts]).numpy()
            if not context.denoise:
                return outputs
            assert encoder.slow is not None
            beside = encoder.slow.linear_features(torch.from_numpy(tangents)).numpy()
        n = outputs.shape[1]
        found = denoised(np.concatenate([outputs, beside], axis=1), around, context)
        return found[:, :n] + found[:, n : 2 * n]

    def _measured(self, windows: pd.DataFrame) -> dict[str, np.ndarray]:
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.names}
        batches = read_batches(self.store, windows, self.n_samples, self.params.batch_size)
        for signals, mask in batches if parts else ():
            electrodes = np.empty(0)
            if set(parts) - {"band_power"}:
                weights = electrode_weights(self.store.positions, mask, self._components)
                electrodes = weights @ signals
            for name, of_name in parts.items():
                of_name.append(self._measure(name, signals, mask, electrodes))
        found = {name: np.concatenate(of_name) for name, of_name in parts.items()}
        if self.encoders:
            found |= encoder_features(
                self.encoders, self.store, windows, self.params.batch_size, self.input_of,
                self.prepare, self.relative,
            )  # fmt: skip
        wanted = self.wanted | ({ENCODER_INPUT} if SLOW in self.wanted else set())
        return {name: values for name, values in found.items() if name in wanted}

    def _measure(
        self, name: str, signals: np.ndarray, mask: np.ndarray, electrodes: np.ndarray
    ) -> np.ndarray:
        bands, sfreq = self.params.bands, self.store.sfreq
        if name == "band_power":
            return log_band_power(signals, mask, bands, sfreq)
        if self._components is not None:
            electrodes = electrodes[:, : COMPONENTS[name]]
        if name == "time_bins":
            return time_bins(electrodes, round(BIN_SECONDS * sfreq))
        shrinkage = self.params.shrinkage
        return covariances(electrodes, bands if name == "filter_bank" else None, sfreq, shrinkage)

    def _mapped(self, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = found | {name: _to_tangent(s, found[name]) for name, s in self._spaces.items()}
        if self._slow is not None:
            found[SLOW] = self._slow.transform(found[ENCODER_INPUT])
        return {name: values for name, values in found.items() if name in self.wanted}


def _tangent_spaces(matrices: np.ndarray, train: np.ndarray) -> list[Any]:
    """Fit a tangent space per band of covariances (N, bands, V, V) at the training windows' mean.

    Affine-invariant metric (Barachant et al. 2012). Of more than 1,000 windows some are
    taken evenly: the mean moves no further.
    """
    from pyriemann.tangentspace import TangentSpace

    chosen = np.flatnonzero(train)
    if len(chosen) > MOST_FOR_MEAN:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MOST_FOR_MEAN).astype(np.int64)]
    return [
        TangentSpace(metric="riemann").fit(of_band[chosen].astype(np.float64))
        for of_band in track(matrices.swapaxes(0, 1), "mean covariances of bands")
    ]


def _to_tangent(spaces: list[Any], matrices: np.ndarray) -> np.ndarray:
    """Map covariances (N, bands, V, V) to (N, bands · V(V+1)/2)."""
    columns = [
        space.transform(of_band.astype(np.float64)).astype(np.float32)
        for space, of_band in zip(spaces, matrices.swapaxes(0, 1), strict=True)
    ]
    return np.concatenate(columns, 1)


def encoder_features(
    encoders: Mapping[str, Encoder],
    store: SignalStore,
    windows: pd.DataFrame,
    batch_size: int,
    input_of: str | None = None,
    prepare: nn.Module | None = None,
    relative: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Embed windows with encoders of the same length and unit in one pass over the signals.

    Parameters
    ----------
    input_of
        An encoder whose input (what its tokens are made of, before any learned weight that mixes
        tokens) is returned too, as `encoder_input`.
    prepare
        Takes windows in volts and their present channels, and gives both as the encoders see
        them; None where encoders take windows as they are.
    relative
        Encoders whose band tangents are returned in place of their features, as they are first to
        be made relative to the recording.

    Returns
    -------
    dict
        Float32 (N, features) by name, in the order of `windows`.
    """
    import torch

    from hbn_foundation.signals.batches import WindowBatches
    from hbn_foundation.signals.reader import WindowReader

    first = next(iter(encoders.values()))
    n_samples, unit = first.n_samples, first.unit if prepare is None else "volts"
    reader = WindowReader(store, n_samples, unit)
    positions = torch.from_numpy(np.array(store.positions, dtype=np.float32))
    result: dict[str, np.ndarray] = {}

    def put(name: str, values: torch.Tensor, place: np.ndarray) -> None:
        if name not in result:
            result[name] = np.empty((len(windows), values.shape[1]), dtype=np.float32)
        result[name][place] = values.float().numpy()

    for encoder in encoders.values():
        encoder.eval()
    with torch.inference_mode():
        for batch in track(WindowBatches(reader, windows, batch_size), "batches embedded"):
            place, signals, mask = batch.index.numpy(), batch.signals, batch.mask
            if prepare is not None:
                signals, mask = prepare(signals, mask)
            for name, encoder in encoders.items():
                parts = encoder.inputs(signals, positions, mask)
                if name == input_of:
                    flat = [part.flatten(1).float() for part in parts.values()]
                    put(ENCODER_INPUT, torch.cat(flat, 1), place)
                given = parts["band"].flatten(1) if name in relative else encoder.summary(parts)
                put(name, given, place)  # inputs are made once
    reader.close()
    return result
