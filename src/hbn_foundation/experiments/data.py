"""The dataset of an experiment on disk, for jobs in other processes and on other machines."""

from __future__ import annotations

import socket
from pathlib import Path

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.hashing import canonical_hash
from hbn_foundation.signals.dataset import TABLES, EEGDataset
from hbn_foundation.training.job import digest


def put_dataset(dataset: EEGDataset, work: Path) -> Path:
    """Write a dataset where jobs find it, under a hash of its content; one that is there stays."""
    store = dataset.store
    tables = [digest(getattr(dataset, name)) for name in TABLES]
    window = dataset.window.model_dump(mode="json")
    name = canonical_hash([store.fingerprint, str(store.path.absolute()), tables, window])
    folder = (work / f"data-{name}").absolute()
    if not folder.is_dir():
        dataset.save(folder)
    return folder


def load_dataset(folder: Path) -> EEGDataset:
    """Open the signals and read the tables.

    Raises
    ------
    UserError
        When they are not on this machine.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: the tables of the experiment are not on {socket.gethostname()}; expected "
            "there and the signals at the same paths as on the machine that plans"
        )
    return EEGDataset.load(folder)
