"""Data and parameters of small cross-validations and comparisons."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hbn_foundation.evaluation.params import EvaluationParams, FineTuningEvaluationParams
from hbn_foundation.evaluation.recipes import FoundationRecipe, LabelRecipe
from hbn_foundation.experiments.folds import stores_in
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.finetuning_params import FineTuningParams, PlanParams, RateParams
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import TrainerParams
from hbn_foundation.training.recipes import PretrainingRecipe
from sweep_data import make_data

CPU = {"chosen": "cpu"}
INLINE = ExperimentParams(engine="inline")
PRETRAINING = PretrainingRecipe(
    encoder=EncoderParams(hidden_dim=16, n_heads=2, n_layers=1),
    trainer=TrainerParams(epochs=1, batch_size=32, warmup_steps=2, precision="32"),
)
EVALUATION = EvaluationParams(
    bootstraps=20, map_method="pca", strengths=(1e-3, 1e-1), baselines=("band_power", "majority")
)


def make_dataset(folder: Path) -> EEGDataset:
    """Twelve subjects of two tasks."""
    data = make_data(folder, n_subjects=12, seconds=20).dataset
    people = data.participants.assign(sex=["F", "M", "M"] * 4)
    return data.replace(participants=people)


def label_recipe(**changes) -> LabelRecipe:
    """A fine-tuning of two epochs."""
    recipe = LabelRecipe(
        plan=PlanParams(phase1_epochs=1),
        rates=RateParams(head_lr=1e-2),
        trainer=FineTuningParams(epochs=2, batch_size=32, precision="32"),
        evaluation=FineTuningEvaluationParams(
            strengths=(1e-3, 1e-1), max_windows=40, baselines=("frozen_probe", "majority")
        ),
    )
    return recipe.model_copy(update=changes)


def encoders(folder: Path) -> set[str]:
    """Keys of the encoders that are kept."""
    return {path.name for path in folder.glob("encoders/??/*")}


def results(folder: Path) -> set[str]:
    """Keys of the results that are kept."""
    return {path.name for path in folder.glob("results/??/*")}


def without_clock(table: pd.DataFrame) -> pd.DataFrame:
    """A table without what differs from run to run."""
    return table.drop(columns=["windows_per_second", "seconds"], errors="ignore")


def pretraining_in(folder: Path) -> FoundationRecipe:
    """A small pretraining that keeps its encoders in a folder."""
    trainer = PRETRAINING.trainer.model_copy(update={"work_dir": str(folder)})
    return FoundationRecipe(encoder=PRETRAINING.encoder, trainer=trainer)


def curve_stores(folder: Path) -> Stores:
    """Where a learning curve keeps encoders and results."""
    kept = {kind: folder / "curve" / kind for kind in ("frozen", "trained")}
    return stores_in(folder / "folds", INLINE, kept)


def curve_results(folder: Path) -> set[str]:
    """Keys of the results of a learning curve that are kept."""
    return {path.name for path in folder.glob("curve/*/??/*")}
