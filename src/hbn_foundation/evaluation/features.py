"""Features of windows from frozen encoders, batch by batch; only the features stay in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.progress import track

if TYPE_CHECKING:
    from torch import nn

    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.store import SignalStore


def encoder_features(
    encoders: dict[str, Encoder],
    store: SignalStore,
    windows: pd.DataFrame,
    batch_size: int,
    input_of: str | None = None,
    prepare: nn.Module | None = None,
) -> dict[str, np.ndarray]:
    """Embed windows with one or more encoders in one pass over the signals.

    Parameters
    ----------
    encoders
        By name; all for windows of the same length.
    store, windows
        The signals, and where the windows are.
    batch_size
        Windows read at once.
    input_of
        An encoder whose input (what its tokens are made of, before any learned weight that mixes
        tokens) is returned too, as `encoder_input`.
    prepare
        Takes windows in volts and their present channels, and gives both as the encoders see
        them; None where encoders take windows as the store has them.

    Returns
    -------
    dict
        Float32 (N, features) by name, in the order of `windows`.
    """
    import torch

    from hbn_foundation.signals.batches import WindowBatches, WindowReader

    n_samples = next(iter(encoders.values())).n_samples
    reader = WindowReader(store, n_samples, volts=prepare is not None)
    positions = torch.from_numpy(np.array(store.positions, dtype=np.float32))
    result: dict[str, np.ndarray] = {}
    for encoder in encoders.values():
        encoder.eval()
    with torch.inference_mode():
        for batch in track(WindowBatches(reader, windows, batch_size), "batches embedded"):
            place = batch.index.numpy()
            signals, mask = batch.signals, batch.mask
            if prepare is not None:
                signals, mask = prepare(signals, mask)
            for name, encoder in encoders.items():
                parts = encoder.inputs(signals, positions, mask)
                if name == input_of:
                    _put(result, "encoder_input", _flat(parts), place, len(windows))
                tokens = torch.cat(list(encoder.embed(parts).values()), 1)
                features = encoder.residual(tokens).flatten(1)  # as `features`, inputs made once
                _put(result, name, features.float(), place, len(windows))
    reader.close()
    return result


def _flat(parts: dict[str, Any]) -> Any:
    import torch

    return torch.cat([part.flatten(1).float() for part in parts.values()], 1)


def _put(
    result: dict[str, np.ndarray], name: str, values: Any, place: np.ndarray, n_windows: int
) -> None:
    if name not in result:
        result[name] = np.empty((n_windows, values.shape[1]), dtype=np.float32)
    result[name][place] = values.numpy()
