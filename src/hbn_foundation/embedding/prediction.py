"""What a fine-tuned checkpoint predicts for the windows of recordings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.embedding.embedder import find_checkpoint
from hbn_foundation.embedding.recordings import CleanedRecordings, SignalWay, recordings_given
from hbn_foundation.errors import UserError
from hbn_foundation.models.config import MAIN

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint


def predict_recordings(
    checkpoint: str,
    recordings: Any,
    *,
    skip: bool = False,
    n_jobs: int = 0,
) -> pd.DataFrame:
    """Predict the targets of a fine-tuned checkpoint for all windows of recordings.

    Parameters
    ----------
    checkpoint, recordings
        As of `Embedder` and its `embed`.
    skip, n_jobs
        Leave out recordings that cannot be used; processes that clean files.

    Returns
    -------
    pandas.DataFrame
        `subject`, `recording`, `start` (s), then `p(<class>)` of each class of the label, or its
        `predicted` value; those of further targets have the target's name before them.

    Raises
    ------
    UserError
        The checkpoint has no head, its label is of trials, or a recording cannot be used.
    """
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.finetuned import predict_targets, recipe_of, target_descriptions

    model = Checkpoint.load(find_checkpoint(checkpoint))
    _check_windows(model)
    recipe = recipe_of(model)
    way = SignalWay.of(model, recipe.input.unit == "volts", recipe.context.of)

    def measure(store: SignalStore, windows: pd.DataFrame) -> dict[str, np.ndarray]:
        found, columns = predict_targets(model, store, windows), dict[str, np.ndarray]()
        for name, described in target_descriptions(model.metadata).items():
            before = "" if name == MAIN else f"{name}: "
            columns |= _columns(found.answers[name], described, before)
        return columns

    cleaned = CleanedRecordings(recordings_given(recordings), way, n_jobs)
    table, predicted = cleaned.measured(measure, skip)
    return pd.concat([table.drop(columns="unit"), predicted], axis=1)


def _columns(
    answers: np.ndarray, described: Mapping[str, Any], before: str
) -> dict[str, np.ndarray]:
    """Name the probability (N,) of each class, or the value, of a target."""
    if described["is_regression"]:
        return {f"{before}predicted": answers}
    names = described["names"]
    return {f"{before}p({name})": np.exp(answers[:, k]) for k, name in enumerate(names)}


def _check_windows(checkpoint: Checkpoint) -> None:
    """Make sure that the checkpoint predicts something of windows anywhere in a recording."""
    if "targets" not in checkpoint.metadata:
        raise UserError(
            "checkpoint: it was pretrained and predicts nothing; expected that of a fine-tuning, "
            "or use hbn-foundation embed"
        )
    label = checkpoint.metadata["parameters"].get("label", {})
    if label.get("kind") == "trial" or label.get("windows") == "locked":
        raise UserError(
            f"checkpoint: its label ({label.get('column')}) is of windows at a fixed time from "
            "an event, and means nothing elsewhere in a recording; expected a label of tasks, "
            "participants or blocks"
        )
