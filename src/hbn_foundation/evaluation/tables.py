"""Tables of repeated splits: what a fold gives, and the summary over folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.methods import PRETRAINED, ordered, written
from hbn_foundation.evaluation.statistics import compare, holm

SCORES = ("window_auroc", "recording_auroc", "balanced_accuracy", "validation_auroc")
FOLD_COLUMNS = (
    "repeat",
    "fold",
    "method",
    *SCORES,
    "pretext_improvement",
    "windows_per_second",
    "n_train",
    "n_test",
)
SUMMARY_COLUMNS = (
    "method",
    "name",
    "window_auroc",
    "window_auroc_sd",
    "recording_auroc",
    "recording_auroc_sd",
    "balanced_accuracy",
    "balanced_accuracy_sd",
    "pretrained_ahead_by",
    "pretrained_ahead_low",
    "pretrained_ahead_high",
    "pretrained_ahead_in",
    "p",
    "p_holm",
    "missing",
    "folds",
    "n_train",
    "n_test",
    "best_baseline",
    "pretext_improvement",
    "pretext_improvement_low",
    "pretext_improvement_high",
    "windows_per_second",
)


def fold_rows(repeat: int, fold: int, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of one fold, one per method, from the metrics of its evaluation."""
    subjects = metrics["subjects"]
    rows = []
    for method in ordered(metrics["probe"]):
        scores = metrics["probe"][method]
        ours = method == PRETRAINED
        improvement = metrics["pretext"]["test"].get("improvement")
        speed = metrics.get("training", {}).get("windows_per_second")
        rows.append(
            {
                "repeat": repeat,
                "fold": fold,
                "method": method,
                **{name: _number(scores.get(name)) for name in SCORES},
                "pretext_improvement": _number(improvement) if ours else np.nan,
                "windows_per_second": _number(speed) if ours else np.nan,
                "n_train": subjects["train"],
                "n_test": subjects["test"],
            }
        )
    return rows


def fold_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Folds as one tidy table with the same columns whether or not there are any."""
    return pd.DataFrame(rows, columns=list(FOLD_COLUMNS))


def summarise_folds(folds: pd.DataFrame) -> pd.DataFrame:
    """One row per method: scores over the folds, and how the pretrained encoder compares.

    Parameters
    ----------
    folds
        As `cross_validate` returns it.

    Returns
    -------
    pandas.DataFrame
        Mean and standard deviation (ddof 1) of each score; `pretrained_ahead_by` (negative where
        the method is better) with the ends of its 95 % interval, in how many folds, the p value of
        the corrected resampled t-test and `p_holm`, corrected over the rows; `missing`, why there
        is none; `n_train` and `n_test`, mean subjects of a fold; `best_baseline` marks the best of
        the others; for the pretrained encoder mean and range of the pretext improvement, and the
        mean speed of its training. Empty when there are no folds.
    """
    if folds.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    by_fold = folds.pivot(index=["repeat", "fold"], columns="method", values="window_auroc")
    ratio = float((folds["n_test"] / folds["n_train"]).mean())
    baselines = by_fold.drop(columns=PRETRAINED, errors="ignore").mean()
    best = baselines.idxmax() if baselines.notna().any() else None
    rows = []
    for method in ordered(by_fold.columns):
        part = folds[folds["method"] == method]
        row: dict[str, Any] = {"method": method, "name": written(method)}
        for score in SCORES[:3]:
            row[score] = part[score].mean()
            row[f"{score}_sd"] = part[score].std(ddof=1)
        if PRETRAINED in by_fold and method != PRETRAINED:
            result = compare(by_fold[PRETRAINED].to_numpy(), by_fold[method].to_numpy(), ratio)
            low, high, missing = result.interval
            row |= {"pretrained_ahead_by": result.difference, "pretrained_ahead_low": low,
                    "pretrained_ahead_high": high, "pretrained_ahead_in": result.wins,
                    "p": result.p, "missing": missing}  # fmt: skip
        row |= {"folds": len(by_fold), "best_baseline": method == best,
                "n_train": part["n_train"].mean(), "n_test": part["n_test"].mean()}  # fmt: skip
        gain = part["pretext_improvement"]
        row |= {
            "pretext_improvement": gain.mean(),
            "pretext_improvement_low": gain.min(),
            "pretext_improvement_high": gain.max(),
            "windows_per_second": part["windows_per_second"].mean(),
        }
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    return table.assign(p_holm=holm(table["p"].to_numpy(dtype=float)))


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
