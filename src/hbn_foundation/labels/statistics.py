"""Count what a data set holds: people, hours, windows, ages, sexes, tasks, by split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.labels.params import SPLITS
from hbn_foundation.labels.targets import UNKNOWN, WindowLabels

TOTAL = "total"


def dataset_statistics(
    recordings: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    windows: pd.DataFrame,
    labels: WindowLabels | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Describe a data set split by split.

    Parameters
    ----------
    recordings
        Table of the signal store: `subject`, `task`, `duration` (s), `n_channels`, `status`,
        `reason`; failed recordings included.
    splits
        Columns `subject` and `split`.
    participants
        Column `subject`, and `age` and `sex` where known.
    windows
        Windows table with `subject` and `task`.
    labels
        Classes of the windows, for the balance of the classes.

    Returns
    -------
    tuple
        A dictionary that can be written as JSON, and a table with one row per split and one for
        all subjects that are in a split. Failed recordings are counted apart.
    """
    split_of = splits.set_index("subject")["split"]
    usable = recordings[recordings["status"] == "ok"]
    rows = []
    for split in [*SPLITS, TOTAL]:
        chosen = split_of.index if split == TOTAL else split_of.index[split_of == split]
        rows.append(
            _row(
                split,
                set(chosen),
                recordings,
                participants,
                windows,
            )
        )
    table = pd.DataFrame(rows)
    summary: dict[str, Any] = {
        "subjects": len(split_of),
        "recordings": len(usable),
        "failed": _failed(recordings),
        "channels": _channels(usable),
        "splits": {row["split"]: _plain(row) for row in rows},
        "tasks": _tasks(usable, windows),
    }
    if labels is not None:
        summary["balance"] = _balance(labels, windows["subject"].map(split_of))
    return summary, table


def _row(
    split: str,
    subjects: set[str],
    recordings: pd.DataFrame,
    participants: pd.DataFrame,
    windows: pd.DataFrame,
) -> dict[str, Any]:
    of_split = recordings[recordings["subject"].isin(subjects)]
    usable = of_split[of_split["status"] == "ok"]
    people = participants[participants["subject"].isin(subjects)]
    return {
        "split": split,
        "subjects": len(subjects),
        "recordings": len(usable),
        "failed": int((of_split["status"] != "ok").sum()),
        "hours": round(float(usable["duration"].sum()) / 3600, 3),
        "windows": int(windows["subject"].isin(subjects).sum()),
        **_ages(people),
        **_sexes(people, participants, len(subjects)),
    }


def _ages(people: pd.DataFrame) -> dict[str, Any]:
    if "age" not in people:
        return {}
    ages = pd.to_numeric(people["age"], errors="coerce").dropna()
    return {
        "age_mean": _rounded(ages.mean()),
        "age_sd": _rounded(ages.std(ddof=1)),
        "age_min": _rounded(ages.min()),
        "age_max": _rounded(ages.max()),
    }


def _sexes(people: pd.DataFrame, everybody: pd.DataFrame, n_subjects: int) -> dict[str, int]:
    if "sex" not in people:
        return {}
    sexes = people["sex"].dropna().astype(str)
    names = sorted(set(everybody["sex"].dropna().astype(str)))
    counts = {f"sex_{name}": int((sexes == name).sum()) for name in names}
    return {**counts, "sex_unknown": n_subjects - int(sum(counts.values()))}


def _failed(recordings: pd.DataFrame) -> dict[str, Any]:
    failed = recordings[recordings["status"] != "ok"]
    reasons = dict(zip(failed["recording"], failed["reason"].astype(str), strict=True))
    return {"count": len(failed), "of": len(recordings), "reasons": reasons}


def _channels(usable: pd.DataFrame) -> dict[str, Any]:
    counts = usable["n_channels"].dropna().astype(int)
    if counts.empty:
        return {"min": None, "median": None, "max": None}
    return {"min": int(counts.min()), "median": float(counts.median()), "max": int(counts.max())}


def _tasks(usable: pd.DataFrame, windows: pd.DataFrame) -> dict[str, Any]:
    n_windows = windows["task"].value_counts()
    return {
        str(task): {
            "recordings": len(group),
            "subjects": int(group["subject"].nunique()),
            "hours": round(float(group["duration"].sum()) / 3600, 3),
            "windows": int(n_windows.get(task, 0)),
        }
        for task, group in usable.groupby("task", sort=True)
    }


def _balance(labels: WindowLabels, split: pd.Series) -> dict[str, dict[str, float]]:
    """Share of each class among the labelled windows of each split."""
    known = labels.values != UNKNOWN
    shares: dict[str, dict[str, float]] = {}
    for name in [*SPLITS, TOTAL]:
        chosen = known & (split.notna() if name == TOTAL else split == name).to_numpy()
        counts = np.bincount(labels.values[chosen], minlength=len(labels.names))
        total = max(int(counts.sum()), 1)
        shares[name] = {
            label: round(int(count) / total, 4)
            for label, count in zip(labels.names, counts, strict=True)
        }
    return shares


def _rounded(value: float) -> float | None:
    return None if pd.isna(value) else round(float(value), 2)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "split"}
