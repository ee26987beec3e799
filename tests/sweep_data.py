"""A few subjects with two runs of a task and one of rest, and what a sweep over them needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.experiments.grid import Defaults
from hbn_foundation.experiments.planner import Data
from hbn_foundation.experiments.specs import BaseSpec, FinetuneSpec, Tuning
from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import store_from_arrays
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams

SFREQ, SAMPLES = 100.0, 200
NO_SPLITS = pd.DataFrame({"subject": pd.Series(dtype=str), "split": pd.Series(dtype=str)})
RUNS = (("rest", "1", 0.8), ("count", "1", 0.1), ("count", "2", 0.1))


def make_data(folder: Path, n_subjects: int = 7, seconds: int = 40, n_channels: int = 19) -> Data:
    """Subjects S1, S2, …; their tasks differ in the strength of a 10 Hz rhythm."""
    random = np.random.default_rng(0)
    names = tuple(DIRECTIONS_10_20)[:n_channels]
    time = np.arange(seconds * 100) / SFREQ
    recordings = []
    for number in range(1, n_subjects + 1):
        for task, run, alpha in RUNS:
            signal = random.normal(size=(len(time), len(names)))
            rhythm = np.sin(2 * np.pi * 10 * time + random.uniform(0, 6))
            signal[:, len(names) // 2 :] += alpha * rhythm[:, None]
            name = f"sub-S{number}_task-{task}_run-{run}"
            row = {"recording": name, "subject": f"S{number}", "task": task, "run": run}
            recordings.append((row, signal))
    positions = np.array(list(DIRECTIONS_10_20.values()))[:n_channels]
    store = store_from_arrays(folder, recordings, names, positions)
    people = pd.DataFrame({"subject": [f"S{i + 1}" for i in range(n_subjects)]})
    people["age"] = np.arange(n_subjects) + 6.0
    dataset = EEGDataset(store, cut_windows(store, WindowParams()), NO_SPLITS, people)
    return Data(dataset, dataset)


def defaults(**changes: Any) -> Defaults:
    """Small parameters."""
    tuning = {
        "trainer": {"epochs": 2, "batch_size": 8, "precision": "32"},
        "plan": {"strategy": "full"},
        **changes.pop("tuning", {}),
    }
    return Defaults(
        EncoderParams(hidden_dim=16, n_heads=2, n_layers=1),
        ObjectiveParams(),
        TrainerParams(epochs=1, batch_size=16, warmup_steps=2, precision="32"),
        WindowParams(),
        CleaningParams(),
        Tuning.model_validate(tuning),
    )


def a_base(**changes: Any) -> BaseSpec:
    """A base of three subjects."""
    content = {"train_subjects": ["S2", "S3"], "validation_subjects": ["S4"], "data": "d" * 32}
    return BaseSpec.model_validate({**content, **changes})


def a_finetuning(**changes: Any) -> FinetuneSpec:
    """A fine-tuning for S1."""
    content = {"target": "S1", "base_hash": a_base().hash, "data": "e" * 32}
    return FinetuneSpec.model_validate({**content, **changes})
