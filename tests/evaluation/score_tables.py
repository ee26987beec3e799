"""Tables of scores as the evaluations give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.frame import COLUMNS
from hbn_foundation.evaluation.methods import MODEL

SAMPLE: dict[str, Any] = {
    "sample": {
        "train": {"windows": 100, "of": 300, "subjects": 20},
        "validation": {"windows": 50, "of": 50, "subjects": 10},
        "test": {"windows": 80, "of": 80, "subjects": 12},
    },
    "n_channels": 129,
    "n_windows": 80,
    "n_subjects": 12,
    "n_recordings": 12,
}
TIMES = {**SAMPLE, "rt_mean": 1.6, "rt_sd": 0.4, "n_wrong": 16, "n_success_known": 80,
         "interval_missing": ""}  # fmt: skip
FACTORS = {**SAMPLE, "aggregation": "mean", "interval_missing": ""}
PROBE = {
    **SAMPLE,
    "label": {"classes": ["rest", "film"], "shuffled": False},
    "objective": {"shuffled": False},
    "subjects": {"train": 20, "validation": 10, "test": 12},
    "missing": {},
    "pretext": {"test": {"loss": 0.6, "trivial_loss": 0.8, "improvement_loss": 0.25,
                         "accuracy": 0.7, "trivial_accuracy": 0.5}},
}  # fmt: skip
FINE_TUNED = {
    **SAMPLE,
    "label": {"kind": "task", "column": None},
    "classes": ["a", "b"],
    "interval_missing": "",
}


def tidy(
    methods: dict[str, str],
    metrics: dict[str, float],
    main: str,
    target: str = "all",
    intervals: bool = True,
) -> pd.DataFrame:
    """Make scores of methods with their kinds, each worse by .01 than the one before."""
    lower = "nrmse" in main
    rows = []
    for place, (method, kind) in enumerate(methods.items()):
        off = 0.01 * place * (1 if lower else -1)
        found = {name: value + off for name, value in metrics.items()}
        if kind != MODEL:
            found[f"{main}_ahead"] = 0.01 * place
        for name, value in found.items():
            reach = 0.02 if intervals else np.nan
            rows.append((target, name, method, "test", 0, value, value - reach, value + reach, 12,
                         80, kind))  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def probe_scores(**options: Any) -> pd.DataFrame:
    """Scores of a frozen probe."""
    methods = {"pretrained": "model", "riemann": "baseline", "majority": "trivial"}
    metrics = {"window_auroc": 0.8, "recording_auroc": 0.9, "balanced_accuracy": 0.7}
    return tidy(methods, metrics, "window_auroc", **options)


def time_scores() -> pd.DataFrame:
    """Scores of response times and success, a method that knows the answers among them."""
    methods = {"fine_tuned": "model", "band_power": "baseline", "constant": "trivial",
               "subject_mean": "reference"}  # fmt: skip
    metrics = {"nrmse": 0.9, "r": 0.35, "within_r": 0.2, "mae": 0.25, "r2": 0.19, "auroc": 0.65,
               "balanced_accuracy": 0.6}  # fmt: skip
    table = tidy(methods, metrics, "nrmse")
    success = table[table["metric"] == "nrmse_ahead"].assign(metric="auroc_ahead")
    return pd.concat([table, success], ignore_index=True)


def factor_scores() -> pd.DataFrame:
    """Scores of two factors and of their mean."""
    methods = {"fine_tuned": "model", "age_sex": "baseline", "constant": "trivial"}
    metrics = {"window_nrmse": 0.95, "subject_nrmse": 0.9, "subject_r": 0.25, "partial_r": 0.2,
               "calibration_slope": 0.9}  # fmt: skip
    parts = [tidy(methods, metrics, "window_nrmse", target=name)
             for name in ("attention", "externalizing", "mean")]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def fold_table(scores: dict[str, list[float]]) -> pd.DataFrame:
    """Scores of each method in each fold, and of the pretext task."""
    rows = []
    for method, values in scores.items():
        for fold, value in enumerate(values):
            ours = method == "pretrained"
            rows.append(
                {"repeat": 0, "fold": fold, "seed": 0, "method": method, "window_auroc": value,
                 "recording_auroc": value, "balanced_accuracy": value, "validation_auroc": value,
                 "pretext_improvement": 0.1 * fold + 0.1 if ours else np.nan,
                 "windows_per_second": 200.0 + 100 * fold if ours else np.nan,
                 "n_train": 12, "n_test": 4}
            )  # fmt: skip
    return pd.DataFrame(rows)


def history(losses: list[float], **columns: Any) -> pd.DataFrame:
    """One row per epoch."""
    table = {"epoch": range(1, len(losses) + 1), "train_loss": losses, "validation_loss": losses,
             "learning_rate": 1e-3, "seconds": 60.0}  # fmt: skip
    return pd.DataFrame({**table, **columns})
