"""The one object that trainings and evaluations take their data from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.files import renamed_when_done
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import SignalStore

INDEX, WINDOW = "signal_index.parquet", "window.json"
TABLES = ("windows", "splits", "participants")


@dataclass(frozen=True)
class EEGDataset:
    """Signals, the windows cut from them, and what is known about the subjects.

    Attributes
    ----------
    store
        One clean signal per recording; read when it is asked for.
    windows
        One row per window: `recording`, `row`, `start`, `subject`, `task`, …
    splits
        `subject` and `split` (train, validation, test).
    participants
        One row per subject, as in participants.tsv.
    window
        The parameters that `windows` were cut with.
    """

    store: SignalStore
    windows: pd.DataFrame
    splits: pd.DataFrame
    participants: pd.DataFrame
    window: WindowParams = field(default_factory=WindowParams)

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz."""
        return float(self.store.sfreq)

    @property
    def n_samples(self) -> int:
        """Samples per window."""
        return round(self.window.seconds * self.sfreq)

    def replace(self, **changes: Any) -> EEGDataset:
        """Return a dataset with other windows, splits or participants."""
        return replace(self, **changes)

    def save(self, folder: Path) -> None:
        """Write tables and index into a folder, which appears whole or not at all.

        The signals stay in their store, to which the index refers.
        """
        with renamed_when_done(folder) as temporary:
            temporary.mkdir(parents=True)
            for name in TABLES:
                getattr(self, name).to_parquet(temporary / f"{name}.parquet", index=False)
            self.store.write_index(temporary / INDEX)
            (temporary / WINDOW).write_text(self.window.model_dump_json(indent=1))

    @classmethod
    def load(cls, folder: Path) -> EEGDataset:
        """Read what `save` wrote; no signal is read.

        Raises
        ------
        UserError
            The folder holds no dataset, or its store is gone.
        """
        if not (folder / WINDOW).is_file():
            raise UserError(f"{folder}: expected a dataset with {WINDOW}; cut the windows again")
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
        window = WindowParams.model_validate(json.loads((folder / WINDOW).read_text()))
        return cls(SignalStore.from_index(folder / INDEX), **tables, window=window)
