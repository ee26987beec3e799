"""Trials in which a bump marks the response and its size success; subjects with traits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from challenge_tables import FACTORS

from hbn_foundation.evaluation.challenge.features import Unlearned
from hbn_foundation.models.encoder import Encoder
from hbn_foundation.models.params import EncoderParams
from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.signals.store import SignalStore, store_from_arrays

N_SUBJECTS, N_TRIALS, SPACING = 24, 20, 300
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


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
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
                                 side="left", response_side="left"))  # fmt: skip
    positions = np.array(list(DIRECTIONS_10_20.values()))
    store = store_from_arrays(
        tmp_path_factory.mktemp("planted") / "store", recordings, tuple(DIRECTIONS_10_20), positions
    )
    splits = pd.DataFrame(
        {"subject": subjects, "split": ["train"] * 12 + ["validation"] * 4 + ["test"] * 8}
    )
    people = pd.DataFrame({"subject": subjects, "age": random.uniform(5, 21, N_SUBJECTS),
                           "sex": np.arange(N_SUBJECTS) % 2 * 1.0})  # fmt: skip
    for factor in FACTORS:
        people[factor] = 0.8 * traits + 0.2 * random.normal(size=N_SUBJECTS)
    return Planted(store, pd.concat(rows, ignore_index=True), splits, people)


@pytest.fixture(scope="session")
def random_encoder() -> Unlearned:
    """A small encoder with both families of tokens that has learned nothing."""
    import torch

    torch.manual_seed(0)
    params = EncoderParams(tokens=("band", "time"), hidden_dim=32, n_heads=4, n_layers=1)
    return Unlearned(Encoder(params, 100.0, N_SAMPLES).eval())
