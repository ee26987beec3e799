"""Run ingestion on data sets as people have them, and read what it made."""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.store import SignalStore
from kedro_project import PROJECT, KedroProject

CASES = PROJECT.parent / "shared" / "cases"
SUBJECTS = ("01", "02", "03", "04", "05", "06")


@dataclass
class Ingested:
    """What `kedro run --pipeline ingestion` made of a data set, read from its newest version."""

    project: KedroProject
    returncode: int
    text: str

    def _newest(self, name: str) -> Path:
        return max(self.project.root.glob(f"data/**/{name}/*/{name}"), key=lambda p: p.parts[-2])

    @cached_property
    def store(self) -> SignalStore:
        assert self.returncode == 0, self.text
        return SignalStore(self._newest("signal_index.parquet"))

    @cached_property
    def quality(self) -> pd.DataFrame:
        assert self.returncode == 0, self.text
        table = pd.read_csv(self._newest("quality.csv"), dtype={"subject": str})
        return table.assign(note=table["note"].fillna("")).set_index("subject")

    @cached_property
    def splits(self) -> pd.DataFrame:
        return pd.read_csv(self._newest("splits.csv"), dtype={"subject": str})

    @cached_property
    def participants(self) -> pd.DataFrame:
        return pd.read_parquet(self._newest("participants.parquet")).set_index("subject")

    @cached_property
    def trials(self) -> pd.DataFrame:
        return pd.read_parquet(self._newest("trials.parquet"))

    @cached_property
    def windows(self) -> pd.DataFrame:
        return EEGDataset.load(self._newest("dataset")).windows

    def row(self, subject: str) -> int:
        """Row of a subject's only recording."""
        return int(np.flatnonzero(self.store.recordings["subject"] == subject).item())

    def names(self, subject: str) -> list[str]:
        """Channels of a subject's signal, in its order."""
        places = self.store.channel_index(self.row(subject))
        return [self.store.channel_names[place] for place in places]

    def bad(self, subject: str) -> set[str]:
        usable = self.store.usable(self.row(subject))
        present = set(self.names(subject))
        names = self.store.channel_names
        return {name for name, good in zip(names, usable, strict=True) if not good} & present

    def signal(self, subject: str) -> pd.DataFrame:
        """(T, C) in stored units, a column per channel."""
        signal = np.asarray(self.store.signal(self.row(subject)), float)
        return pd.DataFrame(signal, columns=self.names(subject))

    def angles(self, truth: dict[str, np.ndarray]) -> np.ndarray:
        """Degrees between the stored positions of some channels and the true ones."""
        place = {name: at for at, name in enumerate(self.store.channel_names)}
        found = np.array([self.store.positions[place[name]] for name in truth], float)
        true = np.array(list(truth.values()))
        return np.degrees(np.arccos(np.clip((found * true).sum(axis=1), -1, 1)))


def write_case(script: str, root: Path, *arguments: str) -> dict[str, Any]:
    """Run the script of a case; return its names, so that its helpers make the reference."""
    if not (CASES / script).exists():
        pytest.skip(f"{CASES / script} is not here")
    before, sys.argv = sys.argv, [script, str(root), *arguments]
    try:
        return runpy.run_path(str(CASES / script), run_name="__main__")
    finally:
        sys.argv = before
