"""Score a checkpoint's own objective on windows, beside its trivial predictors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.signals.windows import subsample
from hbn_foundation.training import seeding
from hbn_foundation.training.checkpoint import Checkpoint, check_signals
from hbn_foundation.training.data import WindowsOfSubjects
from hbn_foundation.training.params import ObjectiveParams

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore


def pretext_scores(
    checkpoint: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    subjects: Iterable[str],
    participants: pd.DataFrame | None = None,
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
    most, seed
        Score at most so many of the windows that the objective can use, thinned evenly.

    Returns
    -------
    dict
        `loss`, the objective's scores and `n_windows`; only the last where no window can be used.
    """
    import torch

    from hbn_foundation.training.checkpoint import fill, load_encoder
    from hbn_foundation.training.objectives.base import Average
    from hbn_foundation.training.objectives.make import make_objective

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
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    objective.begin(encoder, data.whole(), positions)
    if most is not None:
        kept = subsample(len(data.windows), most, seed)
        data.windows = data.windows.iloc[kept].reset_index(drop=True)
    average = Average()
    objective.eval()
    with torch.no_grad(), seeding.seeded(own_seed, seeding.VALIDATION):  # as in the training
        for batch in data.validation():
            average.add(objective(encoder, batch, positions))
    return {**average.values(), "n_windows": float(len(data.windows))}
