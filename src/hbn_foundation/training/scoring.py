"""Score an objective on windows, beside its trivial predictors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hbn_foundation.training import seeding

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.objectives.base import Objective, Outcome


class Average:
    """Mean of the scores of batches, weighted by their size."""

    def __init__(self) -> None:
        self.size = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, outcome: Outcome) -> None:
        """Add one batch, without waiting for the device."""
        self.size += outcome.size
        for name, value in {"loss": outcome.loss.detach(), **outcome.scores}.items():
            total = value.float() * outcome.size
            self.sums[name] = self.sums[name] + total if name in self.sums else total

    def values(self) -> dict[str, float]:
        """Mean of each score."""
        return {name: float(total) / self.size for name, total in self.sums.items()}


def score_batches(
    encoder: Encoder, objective: Objective, batches: Iterable[Any], positions: Tensor, seed: int
) -> dict[str, float]:
    """Score batches in evaluation mode, with the same masks in each call.

    Parameters
    ----------
    encoder, objective
        On the device of `positions`; their mode is restored.
    batches
        What the objective takes.
    positions
        (C, 3).
    seed
        Of the hidden channels and masks.

    Returns
    -------
    dict
        `loss` and the objective's scores.
    """
    import torch
    from lightning.fabric.utilities import move_data_to_device

    modes = encoder.training, objective.training
    encoder.eval()
    objective.eval()
    average = Average()
    with torch.no_grad(), seeding.seeded(seed, seeding.VALIDATION):
        for batch in batches:
            average.add(objective(encoder, move_data_to_device(batch, positions.device), positions))
    encoder.train(modes[0])
    objective.train(modes[1])
    return average.values()


def pretext_scores(
    checkpoint: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    subjects: Iterable[str],
    participants: pd.DataFrame | None = None,
    device: str = "cpu",
    most: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Score a checkpoint's own objective on the windows of some subjects.

    Parameters
    ----------
    checkpoint
        A foundation checkpoint.
    store, windows
        Of any montage, at the checkpoint's sampling rate and window length. The whole table: an
        objective may need the training subjects' labels or a recording's other windows.
    subjects
        Whom to score.
    participants
        Where the labels come from participants.tsv.
    device
        `cpu`, `cuda` or `mps`.
    most, seed
        Score at most so many of the windows that the objective can use, thinned evenly.

    Returns
    -------
    dict
        `loss`, the objective's scores and `n_windows`; only the last where no window can be used.
    """
    import torch

    from hbn_foundation.signals.windows import subsample
    from hbn_foundation.training.checkpoint import check_signals, fill, load_encoder
    from hbn_foundation.training.data import WindowsOfSubjects
    from hbn_foundation.training.objectives.make import make_objective
    from hbn_foundation.training.params import ObjectiveParams

    metadata = checkpoint.metadata
    check_signals(checkpoint, store.sfreq, metadata["n_samples"])
    encoder = load_encoder(checkpoint)
    objective = make_objective(ObjectiveParams(**metadata["parameters"]["objective"]), encoder)
    own_seed = metadata["parameters"]["trainer"]["seed"]
    prepared = objective.prepare(
        windows,
        participants,
        metadata["training_subjects"],
        store.sfreq,
        own_seed,
        metadata["validation_subjects"],
    )
    fill(objective, checkpoint, "objective.")
    data = WindowsOfSubjects(store, prepared, subjects, encoder.n_samples, objective, own_seed)
    positions = torch.as_tensor(store.positions, dtype=torch.float32, device=device)
    encoder, objective = encoder.to(device), objective.to(device)
    objective.begin(encoder, data.whole(), positions)
    if most is not None:
        kept = subsample(len(data.windows), most, seed)
        data.windows = data.windows.iloc[kept].reset_index(drop=True)
    scores = score_batches(encoder, objective, data.validation(), positions, own_seed)
    return {**scores, "n_windows": float(len(data.windows))}
