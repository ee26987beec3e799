"""The table of ways to fine-tune, in plain text, and in words who wins."""

from __future__ import annotations

from textwrap import fill

import pandas as pd

from hbn_foundation.evaluation.finetuning_comparison import SAMPLE, SCRATCH
from hbn_foundation.evaluation.report import (
    WIDTH,
    ends_text,
    missing_folds,
    p_is,
    p_text,
    signed,
    table,
)
from hbn_foundation.evaluation.sample import channels_text
from hbn_foundation.evaluation.statistics import CORRECTED_T, SIGNIFICANT, level

LEGEND = (
    "* best plan on validation subjects; ahead by: how far it is better than the method, and in "
    f"how many folds. 95 % and p: {CORRECTED_T}"
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
            ends_text(row["ahead_low"], row["ahead_high"]),
            "" if pd.isna(row["ahead_in"]) else f"{int(row['ahead_in'])}/{row['folds']}",
            p_text(row["p_holm"]),
            "" if pd.isna(row["epochs"]) else f"{row['epochs']:.1f}",
            "" if pd.isna(row["seconds"]) else f"{row['seconds']:,.0f}",
            count(row["trainable"]),
        ]
        for _, row in summary.iterrows()
    ]
    header = ["method", score_title(score), "ahead by", "95 %", "folds", "p (Holm)", "epochs", "s",
              "trained"]  # fmt: skip
    n_folds, n_seeds = int(summary["folds"].max()), int(summary["seeds"].max())
    seeds = f", {n_seeds} seeds" if n_seeds > 1 else ""
    title = f"Fine-tuning{f' for {about}' if about else ''} over {n_folds} folds{seeds}"
    text = [table(title, header, rows), _sample(summary), fill(LEGEND, WIDTH),
            *missing_folds(summary), "", verdict(summary)]  # fmt: skip
    return "\n".join(text)


def _sample(summary: pd.DataFrame) -> str:
    """Say on what the folds were trained and scored."""
    means = summary[list(SAMPLE)].mean()
    methods = summary.loc[summary["is_baseline"], "method"]
    thinned = "" if means["fitted_windows"] >= means["train_windows"] - 0.5 else (
        f" (the baselines' are thinned evenly to {means['fitted_windows']:,.0f})"
    )  # fmt: skip
    text = (
        f"Mean ± sd over folds, each of {means['n_train']:.3g} training subjects with "
        f"{means['train_windows']:,.0f} windows{thinned} and {means['n_test']:.3g} test subjects "
        f"with {means['n_windows']:,.0f}. {channels_text(methods, int(means['n_channels']))}"
    )
    return fill(text, WIDTH)


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
    ahead = summary[(summary["p_holm"] < SIGNIFICANT) & (summary["ahead_by"] > 0)]["name"]
    lines.append(f"Significantly behind the best plan: {', '.join(ahead) or 'none'}.")
    return "\n".join(lines)


def _against(name: str, other: pd.Series, what: str) -> str:
    gap, folds = other["ahead_by"], other["folds"]
    sure = "significant" if other["p_holm"] < SIGNIFICANT else "not significant"
    interval = ends_text(other["ahead_low"], other["ahead_high"])
    interval = f"; 95 % {interval}" if interval else ""
    words = f"{int(other['ahead_in'])} of {folds} folds ({p_is(other['p_holm'])}, {sure}{interval})"
    against = f"{what}{other['name']}"
    if level(gap):
        return f"The best plan ({name}) is level with {against}."
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
