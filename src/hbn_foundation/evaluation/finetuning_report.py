"""The table of ways to fine-tune, in plain text, and in words who wins."""

from __future__ import annotations

import pandas as pd

from hbn_foundation.evaluation.comparison import SIGNIFICANT
from hbn_foundation.evaluation.finetuning_comparison import SCRATCH
from hbn_foundation.evaluation.report import p_is, p_text, signed, table

LEGEND = (
    "Mean ± sd over folds. * best plan on validation subjects. Ahead by: how far that plan is\n"
    "better than the method (95 % interval over resampled subjects), and in how many folds."
)
TITLES = {
    "window_auroc": "window AUROC",
    "recording_auroc": "recording AUROC",
    "balanced_accuracy": "balanced acc.",
    "f1": "F1",
    "nrmse": "NRMSE",
    "mae": "MAE",
    "r2": "R²",
}


def score_title(score: str) -> str:
    """Write the name of a score."""
    return TITLES.get(score, score.replace("_", " "))


def comparison_text(summary: pd.DataFrame, score: str, about: str = "") -> str:
    """Write the comparison.

    Parameters
    ----------
    summary
        Of `comparison_table`.
    score
        The score that was compared.
    about
        What was learned from how many, for the title.

    Returns
    -------
    str
        A table of at most 110 columns and a few sentences.
    """
    if summary.empty:
        return "Fine-tuning: no fold was finished."
    rows = [
        [
            row["name"] + (" *" if row["reference"] else ""),
            _mean_sd(row["score"], row["score_sd"]),
            "" if row["reference"] else signed(row["ahead_by"]),
            _range(row["ahead_low"], row["ahead_high"]),
            "" if pd.isna(row["ahead_in"]) else f"{int(row['ahead_in'])}/{row['folds']}",
            p_text(row["p"]),
            "" if pd.isna(row["epochs"]) else f"{row['epochs']:.1f}",
            "" if pd.isna(row["seconds"]) else f"{row['seconds']:,.0f}",
            count(row["trainable"]),
        ]
        for _, row in summary.iterrows()
    ]
    header = ["method", score_title(score), "ahead by", "95 %", "folds", "p", "epochs", "s",
              "trained"]  # fmt: skip
    n_folds, n_seeds = int(summary["folds"].max()), int(summary["seeds"].max())
    seeds = f", {n_seeds} seeds" if n_seeds > 1 else ""
    title = f"Fine-tuning{f' for {about}' if about else ''} over {n_folds} folds{seeds}"
    return "\n".join([table(title, header, rows), LEGEND, "", verdict(summary)])


def verdict(summary: pd.DataFrame) -> str:
    """Say who wins: the best plan against the best baseline, and against training from scratch."""
    if not summary["reference"].any():
        return ""
    best = summary[summary["reference"]].iloc[0]
    lines = []
    baselines = summary[summary["is_baseline"] & summary["ahead_by"].notna()]
    if len(baselines):
        lines.append(_against(best["name"], baselines.iloc[0], "the best baseline, "))
    scratch = summary[(summary["method"] == SCRATCH) & summary["ahead_by"].notna()]
    if len(scratch):
        lines.append(_against(best["name"], scratch.iloc[0], "training "))
    ahead = summary[(summary["p"] < SIGNIFICANT) & (summary["ahead_by"] > 0)]["name"]
    lines.append(f"Significantly behind the best plan: {', '.join(ahead) or 'none'}.")
    return "\n".join(lines)


def _against(name: str, other: pd.Series, what: str) -> str:
    gap, folds = other["ahead_by"], other["folds"]
    sure = "significant" if other["p"] < SIGNIFICANT else "not significant"
    interval = _range(other["ahead_low"], other["ahead_high"])
    interval = f"; over subjects {interval}" if interval else ""
    words = f"{int(other['ahead_in'])} of {folds} folds ({p_is(other['p'])}, {sure}{interval})"
    against = f"{what}{other['name']}"
    if gap > 0:
        return f"The best plan ({name}) is ahead of {against},\n  by {gap:.3f}, in {words}."
    return (
        f"The best plan ({name}) is NOT ahead of {against}:\n  behind by {-gap:.3f}, "
        f"ahead in {words}."
    )


def count(value: float) -> str:
    """Write a number of parameters shortly: 812, 4.1 k, 3.2 M."""
    if pd.isna(value):
        return ""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def _mean_sd(mean: float, sd: float) -> str:
    if pd.isna(mean):
        return ""
    return f"{mean:.3f}" + ("" if pd.isna(sd) else f" ± {sd:.3f}")


def _range(low: float, high: float) -> str:
    return "" if pd.isna(low) or pd.isna(high) else f"{low:+.3f} to {high:+.3f}"
