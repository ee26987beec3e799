"""Fine-tuning that survives: `train_supervised` with the identity of a fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.training.recipes import FineTuningRecipe
from hbn_foundation.training.supervised import digest, identify_data, train_supervised

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

TARGET = "hbn_foundation.training.finetuning.finetuning:finetune_in"


def finetune_supervised(
    checkpoint: Checkpoint,
    dataset: EEGDataset,
    recipe: FineTuningRecipe,
    device_plan: dict[str, Any],
    work_dir: Path,
    *,
    run_id: str,
) -> tuple[Checkpoint, pd.DataFrame, str]:
    """Fine-tune under supervision.

    Parameters
    ----------
    checkpoint, dataset, recipe, device_plan
        As for `finetuning.finetune`.
    work_dir, run_id
        As for `train_supervised`.

    Returns
    -------
    tuple
        As of `train_supervised`.
    """
    data = identify_data(dataset, with_participants="participant" in recipe.label_kinds)
    if "trial" in recipe.label_kinds:
        data["trials"] = digest(dataset.windows)
    identity = {
        **recipe.identity(),
        "checkpoint": {
            "run_id": checkpoint.metadata.get("run_id"),
            "weights": checkpoint.metadata.get("weights_sha256"),
        },
        "data": data,
    }
    arguments = {
        "checkpoint": checkpoint,
        "dataset": dataset,
        "recipe": recipe,
        "device_plan": device_plan,
    }
    return train_supervised(TARGET, arguments, identity, work_dir, run_id=run_id)
