"""Tables of repeated splits of the frozen probe: what a fold gives, and the summary over folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from hbn_foundation.evaluation.finetuning_comparison import comparison_table
from hbn_foundation.evaluation.methods import PRETRAINED, display_name

SCORES = ("window_auroc", "recording_auroc", "balanced_accuracy", "validation_auroc")
FOLD_COLUMNS = (
    "repeat", "fold", "method", *SCORES, "pretext_improvement", "windows_per_second", "n_train",
    "n_test",
)  # fmt: skip
SUMMARY_COLUMNS = (
    "method", "name", "is_baseline", "reference",
    *(f"{score}{end}" for score in SCORES[:3] for end in ("", "_sd")),
    "ahead_by", "ahead_low", "ahead_high", "ahead_in", "p", "p_holm", "missing", "folds", "seeds",
    "n_train", "n_test", "pretext_improvement", "pretext_improvement_low",
    "pretext_improvement_high", "windows_per_second",
)  # fmt: skip


def fold_rows(repeat: int, fold: int, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of one fold, one per method, from the metrics of its evaluation."""
    pretraining = {
        "pretext_improvement": metrics["pretext"]["test"].get("improvement"),
        "windows_per_second": metrics.get("training", {}).get("windows_per_second"),
    }
    counts = {f"n_{split}": metrics["subjects"][split] for split in ("train", "test")}
    return [
        {
            "repeat": repeat,
            "fold": fold,
            "method": method,
            **{name: scores.get(name) for name in SCORES},
            **(pretraining if method == PRETRAINED else {}),
            **counts,
        }
        for method, scores in metrics["probe"].items()
    ]


def fold_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Folds as one tidy table with the same columns whether or not there are any."""
    numbers = dict.fromkeys([*SCORES, "pretext_improvement", "windows_per_second"], float)
    return pd.DataFrame(rows, columns=list(FOLD_COLUMNS)).astype(numbers)


def summarise_folds(folds: pd.DataFrame) -> pd.DataFrame:
    """One row per method, best first: scores, and how the pretrained encoder compares.

    As `comparison_table`, with the pretrained encoder as the reference and mean and standard
    deviation (ddof 1) of each score; for the pretrained encoder mean and range of the pretext
    improvement, and the mean speed of its training. `folds` is as `cross_validate` returns it.
    """
    if folds.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    ours = PRETRAINED if PRETRAINED in set(folds["method"]) else None
    table = comparison_table(folds.assign(seed=0), SCORES[0], reference=ours).set_index("method")
    of_method = folds.groupby("method")
    for score in SCORES[:3]:
        table[score], table[f"{score}_sd"] = of_method[score].mean(), of_method[score].std(ddof=1)
    gain = of_method["pretext_improvement"].agg(["mean", "min", "max"])
    for end, values in zip(("", "_low", "_high"), gain, strict=True):
        table[f"pretext_improvement{end}"] = gain[values]
    table["windows_per_second"] = of_method["windows_per_second"].mean()
    table["is_baseline"] = table.index != PRETRAINED
    table["name"] = [display_name(str(method)) for method in table.index]
    return table.reset_index()[list(SUMMARY_COLUMNS)]
