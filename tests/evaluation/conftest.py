"""A small store whose tasks differ in alpha power, and an encoder pretrained on it shortly."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.features import FrozenEncoders
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import SignalStore, store_from_arrays
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams
from hbn_foundation.training.recipes import PretrainingRecipe
from planted_trials import (
    N_SAMPLES,
    Planted,
    dataset_of,
    plant,
    pretrained_on,
    tuned_for_times,
)

N_SUBJECTS = 15


RECIPE = PretrainingRecipe(
    encoder=EncoderParams(hidden_dim=32, n_heads=4, n_layers=1),
    objective=ObjectiveParams(name="band_completion"),
    trainer=TrainerParams(epochs=1, batch_size=32, warmup_steps=2, precision="32"),
)


class Toy(NamedTuple):
    """Data that all evaluation functions take."""

    store: SignalStore
    windows: pd.DataFrame
    splits: pd.DataFrame
    participants: pd.DataFrame


def toy_signal(random: np.random.Generator, alpha: float, n_samples: int, n: int) -> np.ndarray:
    """Noise (T, C) with a 10 Hz rhythm in the last half of the channels."""
    time = np.arange(n_samples) / 100
    rhythm = np.sin(2 * np.pi * 10 * time + random.uniform(0, 6))
    signal = random.normal(size=(n_samples, n))
    signal[:, n // 2 :] += alpha * rhythm[:, None]
    return signal


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Keep torch to one thread: on a busy machine small matrices wait for the second for ages."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    random = np.random.default_rng(0)
    names = tuple(DIRECTIONS_10_20)
    recordings = []
    for number in range(N_SUBJECTS):
        own = random.uniform(0.4, 0.9)
        for task, gain in (("rest", 1.0), ("count", 0.4)):
            row = {"recording": f"sub-{number:02}_task-{task}", "subject": f"{number:02}",
                   "task": task}  # fmt: skip
            if number == 3:
                row["bad"] = {"Cz": "flat", "O1": "noisy"}
            recordings.append((row, toy_signal(random, own * gain + 0.1, 1600, len(names))))
    store = store_from_arrays(
        tmp_path_factory.mktemp("toy") / "store",
        recordings,
        names,
        np.array(list(DIRECTIONS_10_20.values())),
    )
    subjects = [f"{number:02}" for number in range(N_SUBJECTS)]
    splits = pd.DataFrame(
        {"subject": subjects, "split": ["train"] * 9 + ["validation"] * 3 + ["test"] * 3}
    )
    participants = pd.DataFrame(
        {"subject": subjects, "sex": ["F", "M", "M"] * 5, "age": np.arange(N_SUBJECTS) + 5.0}
    )
    return Toy(store, cut_windows(store, WindowParams()), splits, participants)


@pytest.fixture(scope="session")
def recipe() -> PretrainingRecipe:
    return RECIPE


@pytest.fixture(scope="session")
def pretrained(toy: Toy, recipe: PretrainingRecipe, tmp_path_factory: pytest.TempPathFactory):
    """Checkpoint and history of one epoch."""
    from hbn_foundation.training.pretrain import pretrain

    return pretrain(EEGDataset(*toy), recipe, {"chosen": "cpu"}, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="session")
def quick() -> EvaluationParams:
    """Parameters for a fast evaluation."""
    return EvaluationParams(bootstraps=20, map_method="pca", strengths=(1e-3, 1e-1))


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Trials whose signals tell response time and success, and subjects with traits."""
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def trials(planted: Planted) -> EEGDataset:
    """The same as a dataset, the sex of participants a letter as ingestion has it."""
    letters = planted.people["sex"].map({0.0: "F", 1.0: "M"})
    return dataset_of(planted._replace(people=planted.people.assign(sex=letters)))


@pytest.fixture(scope="session")
def tuned(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, pd.DataFrame]:
    """Checkpoint and history of a model of response times and success."""
    foundation = pretrained_on(planted, tmp_path_factory.mktemp("pretrained"))
    return tuned_for_times(planted, foundation, tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="session")
def random_encoder() -> FrozenEncoders:
    """A small encoder with both families of tokens and random weights."""
    import torch

    torch.manual_seed(0)
    params = EncoderParams(tokens=("band", "time"), hidden_dim=32, n_heads=4, n_layers=1)
    return FrozenEncoders({"random_weights": build_encoder(params, 100.0, N_SAMPLES).eval()})
