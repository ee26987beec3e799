"""A small data set with something to learn, and a short run on it: fixtures of several folders."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import store_from_arrays
from hbn_foundation.signals.windows import cut_windows
from runs import SHORT, run

N_SUBJECTS, SECONDS = 8, 40


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Eight subjects, two tasks that differ in alpha and beta power, 19 channels."""
    random = np.random.default_rng(0)
    names = tuple(DIRECTIONS_10_20)
    positions = np.array(list(DIRECTIONS_10_20.values()))
    recordings = []
    for subject in range(N_SUBJECTS):
        for task, alpha in (("arithmetic", 0.5), ("rest", 2.0)):
            signal = simulate(random, positions, alpha * random.uniform(0.8, 1.2))
            row = {"recording": f"sub-{subject}_task-{task}", "subject": str(subject), "task": task}
            recordings.append((row, signal))
    return store_from_arrays(tmp_path_factory.mktemp("store"), recordings, names, positions)


def simulate(random: np.random.Generator, positions: np.ndarray, alpha: float) -> np.ndarray:
    """Smooth fields of a few sources, one of them a 10 Hz rhythm at the back of the head."""
    n_samples, time = SECONDS * 100, np.arange(SECONDS * 100) / 100
    places = np.random.default_rng(1).standard_normal((12, 3))  # the same in every head, nearly
    places += 0.1 * random.standard_normal((12, 3))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    places[0] = [0, -0.9, 0.4]
    fields = np.exp(3 * (positions @ places.T - 1))  # (C, sources)
    sources = np.cumsum(random.standard_normal((12, n_samples)), axis=1)
    sources -= sources.mean(1, keepdims=True)
    sources /= 5 * sources.std(1, keepdims=True)
    sources += 0.5 * random.standard_normal((12, n_samples))
    envelope = np.abs(np.interp(time, np.arange(0, SECONDS + 1, 2), random.uniform(
        0.5, 1.5, SECONDS // 2 + 1)))  # fmt: skip
    sources[0] += alpha * envelope * np.sin(2 * np.pi * 10 * time)
    return (fields @ sources).T + 0.1 * random.standard_normal((n_samples, len(positions)))


@pytest.fixture(scope="session")
def windows(store):
    return cut_windows(store, WindowParams())


@pytest.fixture(scope="session")
def splits():
    names = ["train"] * 5 + ["validation"] * 2 + ["test"]
    return pd.DataFrame({"subject": [str(i) for i in range(N_SUBJECTS)], "split": names})


@pytest.fixture(scope="session")
def short_run(store, windows, splits, tmp_path_factory):
    """One run with both families of tokens: checkpoint, history, folder."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint, history = run(store, windows, splits, folder, trainer=SHORT)
    return checkpoint, history, folder


@pytest.fixture(scope="session")
def data(store, windows, splits):
    """Store, every fourth window, splits: 50 training windows, of both tasks, three steps."""
    return store, windows.iloc[::4].reset_index(drop=True), splits
