"""Tables of repeated splits of the frozen probe: what a fold gives, and the summary over folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from hbn_foundation.evaluation.finetuning_comparison import comparison_table
from hbn_foundation.evaluation.methods import PRETRAINED, display_name
from hbn_foundation.scores import WITHIN

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
            **{name: scores[name] for name in (WITHIN,) if name in scores},
            **(pretraining if method == PRETRAINED else {}),
            **counts,
        }
        for method, scores in metrics["probe"].items()
    ]


def fold_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Folds as one tidy table with the same columns whether or not there are any."""
    within = [WITHIN] if any(WITHIN in row for row in rows) else []
    numbers = [*within, *SCORES, "pretext_improvement", "windows_per_second"]
    columns = [*FOLD_COLUMNS[:3], *within, *FOLD_COLUMNS[3:]]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(numbers, float))


def summarise_folds(folds: pd.DataFrame) -> pd.DataFrame:
    """One row per method, best first: scores, and how the pretrained encoder compares.

    As `comparison_table`, with the pretrained encoder as the reference and mean and standard
    deviation (ddof 1) of each score; for the pretrained encoder mean and range of the pretext
    improvement, and the mean speed of its training. `folds` is as `cross_validate` returns it.
    """
    if folds.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    ours = PRETRAINED if PRETRAINED in set(folds["method"]) else None
    shown = [*([WITHIN] if WITHIN in folds else []), *SCORES[:3]]
    table = comparison_table(folds.assign(seed=0), shown[0], reference=ours).set_index("method")
    of_method = folds.groupby("method")
    for score in shown:
        table[score], table[f"{score}_sd"] = of_method[score].mean(), of_method[score].std(ddof=1)
    gain = of_method["pretext_improvement"].agg(["mean", "min", "max"])
    for end, values in zip(("", "_low", "_high"), gain, strict=True):
        table[f"pretext_improvement{end}"] = gain[values]
    table["windows_per_second"] = of_method["windows_per_second"].mean()
    table["is_baseline"] = table.index != PRETRAINED
    table["name"] = [display_name(str(method)) for method in table.index]
    within = [f"{WITHIN}{end}" for end in ("", "_sd")] if WITHIN in folds else []
    return table.reset_index()[[*SUMMARY_COLUMNS[:4], *within, *SUMMARY_COLUMNS[4:]]]
