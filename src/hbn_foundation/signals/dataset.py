"""The one object that trainings and evaluations take their data from, and what it holds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.files import renamed_when_done
from hbn_foundation.labels.params import SPLITS
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import SignalStore

INDEX, WINDOW = "signal_index.parquet", "window.json"
TOTAL = "total"
TABLES = ("windows", "splits", "participants", "events")


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
    events
        One row per event of the recordings, which labels of events are made of.
    """

    store: SignalStore
    windows: pd.DataFrame
    splits: pd.DataFrame
    participants: pd.DataFrame
    window: WindowParams = field(default_factory=WindowParams)
    events: pd.DataFrame = field(default_factory=pd.DataFrame)

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
        """Write tables and index into a folder, which appears whole or not at all."""
        with renamed_when_done(folder) as temporary:
            temporary.mkdir(parents=True)
            for name in TABLES:
                getattr(self, name).to_parquet(temporary / f"{name}.parquet", index=False)
            self.store.save(temporary / INDEX)
            (temporary / WINDOW).write_text(self.window.model_dump_json(indent=1))

    @classmethod
    def load(cls, folder: Path) -> EEGDataset:
        """Read what `save` wrote, but no signal; a missing dataset or store is a UserError."""
        if not (folder / WINDOW).is_file():
            raise UserError(f"{folder}: expected a dataset with {WINDOW}; cut the windows again")
        present = [name for name in TABLES if (folder / f"{name}.parquet").is_file()]
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in present}
        window = WindowParams.model_validate(json.loads((folder / WINDOW).read_text()))
        return cls(SignalStore(folder / INDEX), **tables, window=window)


def dataset_statistics(dataset: EEGDataset) -> tuple[dict[str, Any], pd.DataFrame]:
    """Count people, hours, windows, ages and sexes split by split, and tasks.

    Returns
    -------
    tuple
        A dictionary that can be written as JSON, and a table with one row per split and one for
        all subjects that are in a split. Failed recordings are counted apart.
    """
    recordings, windows, splits = dataset.store.table, dataset.windows, dataset.splits
    is_usable = recordings["status"] == "ok"
    usable, failed = recordings[is_usable], recordings[~is_usable]
    tasks = sorted(windows["task"].dropna().unique())
    rows, balance = {}, {}
    for name in (*SPLITS, TOTAL):
        members = splits["subject"][splits["split"].eq(name) | (name == TOTAL)]
        rows[name] = _counts(dataset, members, usable, failed)
        own = windows.loc[windows["subject"].isin(members), "task"].value_counts(normalize=True)
        balance[name] = {str(task): round(float(own.get(task, 0)), 4) for task in tasks}
    n_channels = usable["n_channels"].dropna().astype(int)
    measures = {"min": int, "median": float, "max": int}
    summary = {
        "subjects": len(splits),
        "recordings": len(usable),
        "failed": {
            "count": len(failed),
            "of": len(recordings),
            "reasons": dict(zip(failed["recording"], failed["reason"].astype(str), strict=True)),
        },
        "channels": {
            name: kind(n_channels.agg(name)) if len(n_channels) else None
            for name, kind in measures.items()
        },
        "splits": rows,
        "tasks": {
            str(task): {
                "recordings": len(group),
                "subjects": int(group["subject"].nunique()),
                "hours": _hours(group),
                "windows": int((windows["task"] == task).sum()),
            }
            for task, group in usable.groupby("task")
        },
        "balance": balance,
    }
    return summary, pd.DataFrame([{"split": name, **row} for name, row in rows.items()])


def _counts(
    dataset: EEGDataset, members: pd.Series, usable: pd.DataFrame, failed: pd.DataFrame
) -> dict[str, Any]:
    """Count what belongs to some subjects."""
    counted, broken, windows, people = (
        table[table["subject"].isin(members)]
        for table in (usable, failed, dataset.windows, dataset.participants)
    )
    row: dict[str, Any] = {
        "subjects": len(members),
        "recordings": len(counted),
        "failed": len(broken),
        "hours": _hours(counted),
        "windows": len(windows),
    }
    if "age" in people:
        ages = pd.to_numeric(people["age"], errors="coerce")
        found = {"mean": ages.mean(), "sd": ages.std(ddof=1), "min": ages.min(), "max": ages.max()}
        for name, value in found.items():
            row[f"age_{name}"] = None if pd.isna(value) else round(float(value), 2)
    if "sex" in people:
        names = sorted(dataset.participants["sex"].dropna().astype(str).unique())
        sexes = people["sex"].astype(str)
        row |= {f"sex_{name}": int((sexes == name).sum()) for name in names}
        row["sex_unknown"] = len(members) - int(sexes.isin(names).sum())
    return row


def _hours(recordings: pd.DataFrame) -> float:
    return round(float(recordings["duration"].sum()) / 3600, 3)
