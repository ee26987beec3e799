"""What a fine-tuned checkpoint says of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.training.checkpoint import Checkpoint, check_signals, fill, make_encoder

if TYPE_CHECKING:
    from hbn_foundation.models.finetuned import FineTuned
    from hbn_foundation.signals.store import SignalStore


def load_finetuned(checkpoint: Checkpoint) -> FineTuned:
    """Load encoder and head of a fine-tuned checkpoint, in evaluation mode, on the CPU.

    Raises
    ------
    UserError
        When the weights do not fit the architecture that the metadata describe.
    """
    from hbn_foundation.models.finetuned import make_finetuned
    from hbn_foundation.models.params import HeadParams

    metadata = checkpoint.metadata
    targets = metadata["targets"]
    model = make_finetuned(
        make_encoder(checkpoint),
        HeadParams(**metadata["parameters"]["head"]),
        1 if targets["is_regression"] else len(targets["names"]),
        not targets["is_regression"],
    )
    fill(model, checkpoint, "")
    return model.eval()


def predict(
    checkpoint: Checkpoint, store: SignalStore, windows: pd.DataFrame, batch_size: int = 256
) -> np.ndarray:
    """Predict windows.

    Parameters
    ----------
    checkpoint
        Fine-tuned.
    store, windows
        Signals, and windows cut from them.
    batch_size
        Windows at once.

    Returns
    -------
    numpy.ndarray
        (n, classes) log-probabilities, or (n,) values in their own units.
    """
    import torch

    from hbn_foundation.signals.batches import WindowBatches
    from hbn_foundation.signals.windows import WindowReader

    n_samples = checkpoint.metadata["n_samples"]
    check_signals(checkpoint, float(store.sfreq), n_samples)
    model = load_finetuned(checkpoint)
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    reader = WindowReader(store, n_samples)
    with torch.inference_mode():
        outputs = [
            model(batch.signals, positions, batch.mask)
            for batch in WindowBatches(reader, windows, batch_size)
        ]
    found = torch.cat(outputs)
    targets = checkpoint.metadata["targets"]
    if targets["is_regression"]:
        return found.squeeze(-1).numpy() * targets["sd"] + targets["mean"]
    return found.log_softmax(-1).numpy()
