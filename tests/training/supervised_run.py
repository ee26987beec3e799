"""Supervised pretraining of a small encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams
from hbn_foundation.training.pretrain import PretrainingJob
from hbn_foundation.training.recipes import PretrainingRecipe
from hbn_foundation.training.supervision.params import SupervisionParams

#: Wide, as a step takes long where others compute too; a test of silence narrows them.
LIMITS = {"start": 120.0, "first_step": 60.0, "step_least": 60.0, "grace": 30.0}
TRAINER: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 32,
    "warmup_steps": 2,
    "precision": "32",
}


def supervised(data: tuple[Any, Any, Any], work_dir: Path, run_id: str = "run", **options: Any):
    """Pretrain a small encoder; `trainer`, `limits`, `device` and `fault` may differ."""
    recipe = PretrainingRecipe(
        encoder=EncoderParams(hidden_dim=32, n_heads=4, n_layers=2, tokens=("band",)),
        objective=ObjectiveParams(name="band_completion"),
        trainer=TrainerParams(**{**TRAINER, **options.get("trainer", {})}),
        supervision=SupervisionParams(**{**LIMITS, **options.get("limits", {})}),
        fault=options.get("fault"),
    )
    plan = {"chosen": options.get("device", "simulated")}
    job = PretrainingJob(EEGDataset(*data, pd.DataFrame()), recipe, plan)
    return job.supervise(work_dir, run_id=run_id)
