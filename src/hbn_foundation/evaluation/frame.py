"""Scores as one tidy table, and the same with one row per method."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.methods import BASELINE, MODEL, PRETRAINED, written

COLUMNS = (
    "target", "metric", "method", "split", "seed", "value", "ci_low", "ci_high", "n_subjects",
    "n_windows", "kind",
)  # fmt: skip
ENDS = {"value": "", "ci_low": "_low", "ci_high": "_high"}


def by_method(scores: pd.DataFrame, target: str | None = None) -> pd.DataFrame:
    """Lay scores out with one row per method, in their order.

    Parameters
    ----------
    scores
        Tidy, with the columns `COLUMNS`; how far the model is ahead of a method by a metric is
        the metric `<metric>_ahead`.
    target
        Of which target; None where there is one only.

    Returns
    -------
    pandas.DataFrame
        `method`, `name`, `kind`; each metric as `<metric>`, `<metric>_low`, `<metric>_high`.
    """
    if "metric" not in scores:
        return _from_columns(scores)
    part = scores if target is None else scores[scores["target"] == target]
    parts = [
        part.pivot(index="method", columns="metric", values=column).add_suffix(end)
        for column, end in ENDS.items()
    ]
    kinds = part.drop_duplicates("method").set_index("method")["kind"]
    names = pd.Series({name: written(str(name)) for name in kinds.index}, name="name")
    return pd.concat([names, kinds, *parts], axis=1).loc[kinds.index].reset_index(names="method")


def _from_columns(scores: pd.DataFrame) -> pd.DataFrame:
    """Rename what a table with one row per method calls otherwise."""
    if "ahead_by" in scores:
        main = "nrmse" if "nrmse" in scores else "window_auroc"
        ends = {"ahead_by": "", "ahead_low": "_low", "ahead_high": "_high"}
        scores = scores.rename(columns={old: f"{main}_ahead{end}" for old, end in ends.items()})
    if "kind" not in scores:
        ours = scores["method"].isin([PRETRAINED, "fine_tuned"])
        scores = scores.assign(kind=np.where(ours, MODEL, BASELINE))
    return scores
