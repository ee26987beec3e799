"""Trials in which a bump marks the response and its size success; subjects with traits.

And models of them, fine-tuned for a moment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.signals.store import SignalStore, store_from_arrays

FACTORS = ("p_factor", "attention", "internalizing", "externalizing")
N_SUBJECTS, N_TRIALS, SPACING = 28, 20, 300
N_SAMPLES = 200


class Planted(NamedTuple):
    """What the evaluation of both tasks takes."""

    store: SignalStore
    windows: pd.DataFrame
    splits: pd.DataFrame
    people: pd.DataFrame


def planted_signal(
    random: np.random.Generator, rts: np.ndarray, correct: np.ndarray, theta: float
) -> np.ndarray:
    """Noise (T, 19) with a bump at each response, larger in correct trials, and theta in front."""
    names = list(DIRECTIONS_10_20)
    time = np.arange(SPACING * len(rts)) / 100
    signal = random.normal(size=(len(time), 19))
    signal[:, names.index("Fz")] += theta * np.sin(2 * np.pi * 6 * time)
    for number, (rt, right) in enumerate(zip(rts, correct, strict=True)):
        bump = np.exp(-0.5 * ((time - 3 * number - rt) / 0.12) ** 2)
        signal[:, names.index("Pz")] += 2.5 * bump
        signal[:, names.index("Cz")] += (1.5 + 1.5 * right) * bump
    return signal


def plant(folder: Path) -> Planted:
    """Make the store and its tables in a folder."""
    random = np.random.default_rng(0)
    subjects = [f"s{number:02}" for number in range(N_SUBJECTS)]
    traits = random.normal(size=N_SUBJECTS)
    recordings, rows = [], []
    for number, subject in enumerate(subjects):
        name = f"sub-{subject}_task-contrastChangeDetection_run-1"
        rts = np.clip(random.normal(1.6, 0.35, N_TRIALS), 0.6, 2.4)
        correct = (random.random(N_TRIALS) < 0.8).astype(float)
        row = {"recording": name, "subject": subject, "task": "contrastChangeDetection",
               "run": "1"}  # fmt: skip
        theta = np.exp(0.5 * traits[number])
        recordings.append((row, planted_signal(random, rts, correct, theta)))
        table = pd.DataFrame({"rt": rts, "correct": correct, "trial": np.arange(N_TRIALS)})
        starts = SPACING * np.arange(N_TRIALS) + 50
        rows.append(table.assign(**row, row=number, start=starts, stimulus=starts / 100 - 0.5,
                                 response=starts / 100 - 0.5 + rts,
                                 side="left", response_side="left"))  # fmt: skip
    positions = np.array(list(DIRECTIONS_10_20.values()))
    store = store_from_arrays(folder / "store", recordings, tuple(DIRECTIONS_10_20), positions)
    of_subject = ["train"] * 12 + ["validation"] * 4 + ["test"] * (N_SUBJECTS - 16)
    splits = pd.DataFrame({"subject": subjects, "split": of_subject})
    people = pd.DataFrame({"subject": subjects, "age": random.uniform(5, 21, N_SUBJECTS),
                           "sex": np.arange(N_SUBJECTS) % 2 * 1.0})  # fmt: skip
    for factor in FACTORS:
        people[factor] = 0.8 * traits + 0.2 * random.normal(size=N_SUBJECTS)
    return Planted(store, pd.concat(rows, ignore_index=True), splits, people)


def pretrained_on(planted: Planted, folder: Path) -> Any:
    """Checkpoint of a small encoder after one epoch."""
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.signals.params import WindowParams
    from hbn_foundation.signals.windows import cut_windows
    from hbn_foundation.training.model_params import EncoderParams
    from hbn_foundation.training.params import ObjectiveParams, TrainerParams
    from hbn_foundation.training.pretrain import pretrain
    from hbn_foundation.training.recipes import PretrainingRecipe

    window = WindowParams(seconds=2.0, stride=4.0)
    recipe = PretrainingRecipe(
        encoder=EncoderParams(hidden_dim=32, n_heads=4, n_layers=1),
        objective=ObjectiveParams(name="band_completion"),
        trainer=TrainerParams(epochs=1, batch_size=32, warmup_steps=2, precision="32"),
    )
    windows = cut_windows(planted.store, window)
    dataset = EEGDataset(planted.store, windows, planted.splits, planted.people, window)
    return pretrain(dataset, recipe, {"chosen": "cpu"}, folder)[0]


def tuned_on(
    planted: Planted, foundation: Any, folder: Path, epochs: int, **groups: dict[str, Any]
) -> tuple[Any, pd.DataFrame]:
    """Checkpoint and history of a model that takes volts; its other parameters by their group."""
    from hbn_foundation.training.finetune import FineTuningJob
    from hbn_foundation.training.recipes import FineTuningRecipe

    recipe = FineTuningRecipe.model_validate(
        {
            "plan": {"strategy": "full"},
            "rates": {"head_lr": 5e-3},
            "regularisation": {"hide_probability": 0.0},
            "trainer": {"epochs": epochs, "batch_size": 16, "precision": "32", "monitor": "loss"},
            "input": {"unit": "volts"},
            **groups,
        }
    )
    job = FineTuningJob(dataset_of(planted), recipe, {"chosen": "cpu"}, foundation)
    return job.run(folder)


def dataset_of(planted: Planted) -> Any:
    """The windows of the trials as one dataset."""
    from hbn_foundation.signals.dataset import EEGDataset

    return EEGDataset(planted.store, planted.windows, planted.splits, planted.people)


def tuned_for_times(planted: Planted, foundation: Any, folder: Path) -> tuple[Any, pd.DataFrame]:
    """Response times as distributions, and success; from convolutions."""
    return tuned_on(
        planted, foundation, folder, epochs=3,
        label={"kind": "trial", "column": "rt", "type": "regression"},
        head={"kind": "distribution", "dropout": 0.0, "bins": 40},
        more_targets={
            "success": {"label": {"kind": "trial", "column": "correct", "type": "binary"}}
        },
        tokens={
            "tokens": ("time",), "time": {"kind": "conv", "width": 16, "kernel": 9, "depth": 0}
        },
    )  # fmt: skip


def tuned_for_factors(planted: Planted, foundation: Any, folder: Path) -> tuple[Any, pd.DataFrame]:
    """All factors, from the tokens that there are."""
    numbers = {
        name: {"kind": "participant", "column": name, "type": "regression"} for name in FACTORS
    }
    more = {name: {"label": numbers[name]} for name in FACTORS[:-1]}
    return tuned_on(
        planted, foundation, folder, epochs=2, label=numbers[FACTORS[-1]], more_targets=more
    )
