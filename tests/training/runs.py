"""Short pretraining runs for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams
from hbn_foundation.training.pretrain import pretrain
from hbn_foundation.training.recipes import PretrainingRecipe

CPU = {"chosen": "cpu"}
SMALL: dict[str, Any] = {"hidden_dim": 32, "n_heads": 4, "n_layers": 2}
SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 32, "warmup_steps": 2, "precision": "32"}


def run(
    store: Any,
    windows: Any,
    splits: Any,
    folder: Path,
    tokens: tuple[str, ...] = ("band", "time"),
    objective: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    **encoder: Any,
):
    """Pretrain a small encoder."""
    recipe = PretrainingRecipe(
        encoder=EncoderParams(**{**SMALL, "tokens": tokens, **encoder}),
        objective=ObjectiveParams(**(objective or {"name": "masked"})),
        trainer=TrainerParams(**(trainer or SHORT)),
    )
    dataset = EEGDataset(store, windows, splits, pd.DataFrame())
    return pretrain(dataset, recipe, CPU, folder, run_id="run")
