"""A small model that was pretrained on simulated files of 129 channels, as a folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from embedding.as_pipeline import store_of
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import SignalStore
from hbn_foundation.signals.windows import cut_windows
from runs import run


@pytest.fixture(scope="session")
def tiny_store(tiny_bids, tmp_path_factory) -> SignalStore:
    folder = tmp_path_factory.mktemp("tiny_store")
    return store_of(tiny_bids, folder, CleaningParams())


@pytest.fixture(scope="session")
def tiny_data(tiny_store) -> tuple[SignalStore, pd.DataFrame, pd.DataFrame]:
    """Store, windows and splits."""
    windows = cut_windows(tiny_store, WindowParams())
    subjects = sorted(windows["subject"].unique())
    split = ["train", "train", "train", "validation", "validation", "test"]
    return tiny_store, windows, pd.DataFrame({"subject": subjects, "split": split})


@pytest.fixture(scope="session")
def foundation(tiny_data, tmp_path_factory) -> Path:
    """An entry of the catalog with one version of a pretrained encoder."""
    folder = tmp_path_factory.mktemp("models")
    trainer = {"epochs": 1, "batch_size": 64, "warmup_steps": 1, "precision": "32"}
    checkpoint, _ = run(*tiny_data, folder / "work", trainer=trainer)
    entry = folder / "foundation_checkpoint"
    checkpoint.save(entry / "2026-01-01T00.00.00.000Z" / "foundation_checkpoint")
    return entry


@pytest.fixture(scope="session")
def version(foundation) -> Path:
    """The folder of that version itself."""
    return foundation / "2026-01-01T00.00.00.000Z" / "foundation_checkpoint"
