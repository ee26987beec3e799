"""Where on the scalp a model looks: how far predictions move when channels are hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.signals.windows import subsample

if TYPE_CHECKING:
    from torch import Tensor

    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint

NEAR = np.cos(np.deg2rad(30))
MAX_WINDOWS = 64


def checkpoint_maps(
    checkpoint: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    targets: tuple[str, ...] = (),
    factor: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Measure on test windows where on the scalp a fine-tuned model looks.

    Parameters
    ----------
    checkpoint
        Fine-tuned.
    store, windows
        The signals, and windows of test subjects; at most 64 of them, by the seed, are used.
    targets
        Names of targets that are numbers; none: the main one.
    factor
        What predictions are multiplied by, such as 1,000 for ms.

    Returns
    -------
    numpy.ndarray
        As of `relevance`, a map for each target.
    """
    import torch

    from hbn_foundation.models.config import MAIN
    from hbn_foundation.signals.reader import WindowReader
    from hbn_foundation.training.finetuned import load_finetuned

    model = load_finetuned(checkpoint).eval()
    reader = WindowReader(store, checkpoint.metadata["n_samples"], model.unit)
    few = windows.iloc[subsample(len(windows), MAX_WINDOWS, seed)]
    signals, mask = reader.read_scaled(few["row"].to_numpy(), few["start"].to_numpy())
    reader.close()
    positions = torch.from_numpy(np.array(store.positions, dtype=np.float32))

    def answer(windows: Tensor) -> Tensor:
        prepared, present = model.prepare(windows, mask & (windows != 0).any(-1))
        outputs = model(prepared, positions, present)
        return factor * torch.stack([model.value(outputs, name) for name in targets or (MAIN,)], 1)

    return relevance(answer, signals, store.positions)


def relevance(
    answer: Callable[[Tensor], Tensor], windows: Tensor, positions: np.ndarray
) -> np.ndarray:
    """Measure how far predictions move when the channels within 30° of a place are hidden.

    Parameters
    ----------
    answer
        Predictions (B,) or (B, M) of windows (B, C, T); a channel of zeros counts as missing.
    windows, positions
        (B, C, T) of test subjects; (C, 3) unit vectors.

    Returns
    -------
    numpy.ndarray
        Root mean square shift (M, 19) of each prediction, for the places of the 10-20 system.
    """
    import torch

    from hbn_foundation.models.spatial import DIRECTIONS_10_20

    shifts = []
    with torch.no_grad():
        usual = answer(windows)
        for direction in DIRECTIONS_10_20.values():
            hidden = windows.clone()
            hidden[:, torch.from_numpy(positions @ np.array(direction) > NEAR)] = 0
            moved = (answer(hidden) - usual).float().reshape(len(usual), -1)
            shifts.append(moved.square().mean(0).sqrt().numpy())
    return np.stack(shifts, 1)
