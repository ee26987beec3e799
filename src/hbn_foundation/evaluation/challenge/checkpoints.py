"""What the evaluation takes from a fine-tuned checkpoint beside its predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.challenge.features import Unlearned
from hbn_foundation.evaluation.spatial_maps import SpatialMaps, spatial_maps
from hbn_foundation.signals.windows import subsample

if TYPE_CHECKING:
    from torch import Tensor

    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint

MOST_WINDOWS = 64


def unlearned(checkpoint: Checkpoint, seed: int = 0) -> Unlearned:
    """Make an encoder like the checkpoint's with random weights, its input and scales kept."""
    from hbn_foundation.training.checkpoint import random_encoder
    from hbn_foundation.training.finetuned import load_finetuned

    return Unlearned(random_encoder(checkpoint, seed), load_finetuned(checkpoint).input)


def checkpoint_maps(
    checkpoint: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    targets: tuple[str, ...] = (),
    factor: float = 1.0,
    seed: int = 0,
) -> SpatialMaps:
    """Measure on test windows where on the scalp a fine-tuned model looks.

    Parameters
    ----------
    checkpoint
        Fine-tuned.
    store, windows
        The signals, and windows of test subjects; at most 64 of them are used.
    targets
        Names of targets that are numbers; none: the main one.
    factor
        What predictions are multiplied by, such as 1,000 for ms.
    seed
        Which windows.
    """
    import torch

    from hbn_foundation.models.config import MAIN
    from hbn_foundation.signals.batches import WindowReader
    from hbn_foundation.training.finetuned import load_finetuned

    model = load_finetuned(checkpoint)
    n_samples = checkpoint.metadata["n_samples"]
    reader = WindowReader(store, n_samples, volts=model.input is not None)
    few = windows.iloc[subsample(len(windows), MOST_WINDOWS, seed)]
    signals, mask = reader.read_scaled(few["row"].to_numpy(), few["start"].to_numpy())
    reader.close()
    positions = torch.from_numpy(np.array(store.positions, dtype=np.float32))

    names = targets or (MAIN,)

    def answer(windows: Tensor) -> Tensor:
        present = mask & (windows != 0).any(-1)
        outputs = model(*_placed(model.prepare(windows, present), positions))
        return factor * torch.stack([model.value(outputs, name) for name in names], 1)

    return spatial_maps(model, answer, signals, store.positions)


def _placed(prepared: tuple[Tensor, Tensor], positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return prepared[0], positions, prepared[1]
