"""Scores as one tidy table, and the same with one row per method."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hbn_foundation.evaluation.methods import display_name

COLUMNS = (
    "target", "metric", "method", "split", "seed", "value", "ci_low", "ci_high", "n_subjects",
    "n_windows", "kind",
)  # fmt: skip
ENDS = {"value": "", "ci_low": "_low", "ci_high": "_high"}


def by_method(scores: pd.DataFrame, target: str | None = None) -> pd.DataFrame:
    """Lay scores out with one row per method, in their order.

    Of a tidy table with `COLUMNS`, and of one target where there are several. The columns are
    `method`, `name`, `kind`, and each metric as `<metric>`, `<metric>_low`, `<metric>_high`.
    """
    part = scores if target is None else scores[scores["target"] == target]
    parts = [
        part.pivot(index="method", columns="metric", values=column).add_suffix(end)
        for column, end in ENDS.items()
    ]
    kinds = part.drop_duplicates("method").set_index("method")["kind"]
    numbers = bool(part["metric"].str.endswith("nrmse").any())
    names = pd.Series({name: display_name(str(name), numbers) for name in kinds.index}, name="name")
    return pd.concat([names, kinds, *parts], axis=1).loc[kinds.index].reset_index(names="method")


def nested_scores(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By method: each metric of one target with its ends, `<metric>_low` and `<metric>_high`."""
    found: dict[str, dict[str, Any]] = {}
    for _, row in table.iterrows():
        ends = {f"{row['metric']}{end}": row[column] for column, end in ENDS.items()}
        found.setdefault(row["method"], {}).update(ends)
    return found


def scores_of(table: pd.DataFrame, metric: str) -> dict[str, float]:
    """Values of a metric of one target, by method."""
    part = table[table["metric"] == metric]
    return dict(zip(part["method"], part["value"], strict=True))
