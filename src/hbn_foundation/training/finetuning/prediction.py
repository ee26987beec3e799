"""What a fine-tuned checkpoint says of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.models.config import MAIN
from hbn_foundation.progress import track
from hbn_foundation.training.checkpoint import Checkpoint, check_signals

if TYPE_CHECKING:
    from hbn_foundation.models.finetuned import FineTuned
    from hbn_foundation.signals.store import SignalStore


def load_finetuned(checkpoint: Checkpoint) -> FineTuned:
    """Load encoder and heads of a fine-tuned checkpoint, in evaluation mode, on the CPU."""
    from hbn_foundation.training.finetuning import model_making

    return model_making.load_finetuned(checkpoint)


def predict(
    checkpoint: Checkpoint, store: SignalStore, windows: pd.DataFrame, batch_size: int = 256
) -> np.ndarray:
    """Predict the main target of windows.

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
    return predict_targets(checkpoint, store, windows, batch_size).answers[MAIN]


class Predictions(NamedTuple):
    """What a model says of windows.

    Attributes
    ----------
    answers
        By target: (n, classes) log-probabilities, or (n,) values in their own units.
    shares
        By target that is a distribution: (n, bins) shares.
    """

    answers: dict[str, np.ndarray]
    shares: dict[str, np.ndarray]


def predict_targets(
    checkpoint: Checkpoint, store: SignalStore, windows: pd.DataFrame, batch_size: int = 256
) -> Predictions:
    """Predict all targets of windows; parameters as for `predict`.

    Raises
    ------
    UserError
        When the store's channels are not those that the model takes volts of.
    """
    import torch

    from hbn_foundation.signals.batches import WindowBatches, WindowReader

    metadata = checkpoint.metadata
    n_samples = metadata["n_samples"]
    check_signals(checkpoint, float(store.sfreq), n_samples)
    model = load_finetuned(checkpoint)
    volts = model.input is not None
    if volts and list(store.channel_names) != metadata["channel_names"]:
        raise UserError(
            f"checkpoint: takes volts of {len(metadata['channel_names'])} channels in their "
            f"order, found {len(store.channel_names)} others"
        )
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    batches = WindowBatches(WindowReader(store, n_samples, volts), windows, batch_size)
    outputs: list[dict[str, torch.Tensor]] = []
    with torch.inference_mode():
        for batch in track(batches, "batches predicted"):
            signals, mask = model.prepare(batch.signals, batch.mask)
            outputs.append(model.split(model(signals, positions, mask)))
    answers, shares = {}, {}
    for name, head in model.head.parts.items():
        found = torch.cat([part[name] for part in outputs])
        described = metadata["targets"] if name == MAIN else metadata["more_targets"][name]
        if not described["is_regression"]:
            answers[name] = found.log_softmax(-1).numpy()
            continue
        with torch.inference_mode():
            answers[name] = head.value(found).numpy()
        if head.config.kind == "distribution":
            shares[name] = found.softmax(-1).numpy()
    return Predictions(answers, shares)
