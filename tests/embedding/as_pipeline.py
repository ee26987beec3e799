"""What the pipelines make of a BIDS root with a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import CleaningParams, SelectionParams
from hbn_foundation.signals.build import build_store
from hbn_foundation.signals.params import BuildParams, WindowParams
from hbn_foundation.signals.store import SignalStore
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.checkpoint import Checkpoint, load_encoder


def store_of(root: Path, folder: Path, cleaning: CleaningParams, **selection: Any) -> SignalStore:
    """The signal store that ingestion makes of a BIDS root."""
    recordings = find_recordings(root, SelectionParams(**selection))
    return build_store(recordings, BuildParams(path=str(folder), n_jobs=0), cleaning)


def pipeline_features(
    checkpoint: Path, root: Path, folder: Path, **selection: Any
) -> tuple[pd.DataFrame, np.ndarray]:
    """Windows of a BIDS root, and their features as the pipelines measure them."""
    model = Checkpoint.load(checkpoint)
    store = store_of(root, folder, CleaningParams(**model.metadata["cleaning"]), **selection)
    windows = cut_windows(store, WindowParams())
    return windows, encoder_features({"x": load_encoder(model)}, store, windows, 64)["x"]


def changed(version: Path, folder: Path, **metadata: Any) -> Path:
    """A copy of a checkpoint whose metadata differ; None leaves a key out."""
    checkpoint = Checkpoint.load(version)
    both = {**checkpoint.metadata, **metadata}
    checkpoint.metadata = {key: value for key, value in both.items() if value is not None}
    return checkpoint.save(folder)


def first_subject(root: Path) -> list[Path]:
    """The files of the first subject, in the order of ingestion."""
    return sorted(min(root.glob("sub-*")).glob("eeg/*_eeg.bdf"))
