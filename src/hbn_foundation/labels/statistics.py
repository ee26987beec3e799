"""Count what a data set holds: people, hours, windows, ages, sexes, tasks, by split."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hbn_foundation.labels.params import SPLITS

TOTAL = "total"


def dataset_statistics(
    recordings: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    windows: pd.DataFrame,
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

    Returns
    -------
    tuple
        A dictionary that can be written as JSON, and a table with one row per split and one for
        all subjects that are in a split. Failed recordings are counted apart.
    """
    split_of = splits.set_index("subject")["split"]

    def part(table: pd.DataFrame, split: str) -> pd.DataFrame:
        inside = table["subject"].map(split_of)
        return table[inside.notna() if split == TOTAL else inside == split]

    is_usable = recordings["status"] == "ok"
    usable, failed = recordings[is_usable], recordings[~is_usable]
    tasks = sorted(windows["task"].dropna().unique())
    sexes = sorted(participants.get("sex", pd.Series(dtype=object)).dropna().astype(str).unique())
    rows, balance = [], {}
    for split in (*SPLITS, TOTAL):
        n_subjects = int((split_of == split).sum()) if split != TOTAL else len(split_of)
        of_split, people = part(windows, split), part(participants, split)
        rows.append(
            {
                "split": split,
                "subjects": n_subjects,
                "recordings": len(part(usable, split)),
                "failed": len(part(failed, split)),
                "hours": _hours(part(usable, split)),
                "windows": len(of_split),
                **(_ages(people["age"]) if "age" in people else {}),
                **(_sexes(people["sex"], sexes, n_subjects) if "sex" in people else {}),
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
