"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def _data(variable: str, folder: str) -> Path:
    root = Path(os.environ.get(variable) or PROJECT.parent / "shared" / "data" / folder)
    if not root.is_dir():
        pytest.skip(f"{folder} is not here: set {variable} to its folder")
    return root


@pytest.fixture(scope="session")
def eegmat_root() -> Path:
    """Real EEG in BIDS: 20 subjects, rest and mental arithmetic, EDF."""
    return _data("EEGMAT_ROOT", "eegmat")


@pytest.fixture(scope="session")
def hbn_metadata_root() -> Path:
    """The real text files of five HBN-EEG releases, without signals."""
    return _data("HBN_METADATA_ROOT", "hbn-metadata")
