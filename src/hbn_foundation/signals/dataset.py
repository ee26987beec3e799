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
            self.store.save(temporary / INDEX)
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
        return cls(SignalStore(folder / INDEX), **tables, window=window)


def dataset_statistics(dataset: EEGDataset) -> tuple[dict[str, Any], pd.DataFrame]:
    """Count people, hours, windows, ages and sexes split by split, and tasks.

    Returns
    -------
    tuple
        A dictionary that can be written as JSON, and a table with one row per split and one for
        all subjects that are in a split. Failed recordings are counted apart.
    """
    recordings, windows = dataset.store.table, dataset.windows
    people, split_of = dataset.participants, dataset.splits.set_index("subject")["split"]

    def part(table: pd.DataFrame, split: str) -> pd.DataFrame:
        inside = table["subject"].map(split_of)
        return table[inside.notna() if split == TOTAL else inside == split]

    is_usable = recordings["status"] == "ok"
    usable, failed = recordings[is_usable], recordings[~is_usable]
    tasks = sorted(windows["task"].dropna().unique())
    sexes = sorted(people.get("sex", pd.Series(dtype=object)).dropna().astype(str).unique())
    rows, balance = [], {}
    for split in (*SPLITS, TOTAL):
        n_subjects = int((split_of == split).sum()) if split != TOTAL else len(split_of)
        of_split, members = part(windows, split), part(people, split)
        rows.append(
            {
                "split": split,
                "subjects": n_subjects,
                "recordings": len(part(usable, split)),
                "failed": len(part(failed, split)),
                "hours": _hours(part(usable, split)),
                "windows": len(of_split),
                **(_ages(members["age"]) if "age" in people else {}),
                **(_sexes(members["sex"], sexes, n_subjects) if "sex" in people else {}),
            }
        )
        shares = of_split["task"].value_counts(normalize=True)
        balance[split] = {str(task): round(float(shares.get(task, 0)), 4) for task in tasks}
    n_channels = usable["n_channels"].dropna().astype(int)
    summary = {
        "subjects": len(split_of),
        "recordings": len(usable),
        "failed": {
            "count": len(failed),
            "of": len(recordings),
            "reasons": dict(zip(failed["recording"], failed["reason"].astype(str), strict=True)),
        },
        "channels": {
            "min": int(n_channels.min()) if len(n_channels) else None,
            "median": float(n_channels.median()) if len(n_channels) else None,
            "max": int(n_channels.max()) if len(n_channels) else None,
        },
        "splits": {row["split"]: {k: v for k, v in row.items() if k != "split"} for row in rows},
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
    return summary, pd.DataFrame(rows)


def _hours(recordings: pd.DataFrame) -> float:
    return round(float(recordings["duration"].sum()) / 3600, 3)


def _ages(values: pd.Series) -> dict[str, float | None]:
    ages = pd.to_numeric(values, errors="coerce")
    found = {"mean": ages.mean(), "sd": ages.std(ddof=1), "min": ages.min(), "max": ages.max()}
    return {
        f"age_{name}": None if pd.isna(value) else round(float(value), 2)
        for name, value in found.items()
    }


def _sexes(values: pd.Series, names: list[str], n_subjects: int) -> dict[str, int]:
    counts = {f"sex_{name}": int((values.astype(str) == name).sum()) for name in names}
    return {**counts, "sex_unknown": n_subjects - sum(counts.values())}
