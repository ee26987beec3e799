"""Sentences that compare the model with the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.methods import BASELINE, MODEL, SCRATCH, TRIVIAL
from hbn_foundation.evaluation.statistics import CORRECTED_T, FIXED_MODEL, SIGNIFICANT, level
from hbn_foundation.evaluation.wording import channels_text, interval, interval_of, number, p_is


def about_intervals(missing: str | None) -> str:
    """Describe the intervals, or say why there are none."""
    return f"No intervals: {missing}." if missing else FIXED_MODEL


def best_baseline(scores: pd.DataFrame) -> pd.Series | None:
    """Find the best baseline, trivial or not, in a table sorted best first; None without any."""
    baselines = scores[scores["kind"].isin([BASELINE, TRIVIAL])]
    return None if baselines.empty else baselines.iloc[0]


def model_row(scores: pd.DataFrame) -> pd.Series:
    """Return the model's row."""
    return scores[scores["kind"] == MODEL].iloc[0]


def with_interval(row: pd.Series, name: str) -> str:
    """Write a score and its interval for a sentence: `0.912 (95 % 0.881 to 0.940)`."""
    ends = interval_of(row, name)
    return (number(row[name]) or "–") + (f" (95 % {ends})" if ends else "")


def split_verdict(scores: pd.DataFrame, name: str, subject: str = "It") -> str:
    """Compare the model with the best baseline on one split.

    Parameters
    ----------
    scores
        One row per method, sorted best first by this score, see `by_method`.
    name, subject
        Of the score, and of the model.
    """
    best = best_baseline(scores)
    if best is None:
        return "There is no baseline to compare it with."
    gap = best[f"{name}_ahead"]
    against = f"the best baseline, {best['name']} ({number(best[name]) or '–'})"
    if pd.isna(gap):
        return f"{subject} cannot be compared with {against}."
    ends = best.reindex([f"{name}_ahead_low", f"{name}_ahead_high"]).to_numpy(float)
    low, high = np.sort(-ends if gap < 0 else ends)
    sure = ", without an interval"
    if not np.isnan(low):
        zero = "; the interval includes zero" if low <= 0 <= high else ""
        sure = f" (95 % {interval(low, high)}){zero}"
    return _verdict(subject, gap, against, sure)


def _verdict(subject: str, gap: float, against: str, sure: str) -> str:
    if level(gap):
        return f"{subject} is level with {against}."
    if gap > 0:
        return f"{subject} is ahead of {against}, by {number(gap)}{sure}."
    return f"{subject} is not ahead of {against}: behind by {number(-gap)}{sure}."


def folds_notes(summary: pd.DataFrame, reference: str) -> list[str]:
    """Describe the folds and the columns of a table over repeated splits."""
    names = ["n_train", "n_test", "train_windows", "fitted_windows", "n_windows", "n_channels"]
    means = summary.reindex(columns=names).mean()
    train, channels = f"{means['n_train']:.3g} training subjects", ""
    test = f"{means['n_test']:.3g} test subjects"
    if pd.notna(means["train_windows"]):
        train += f" with {means['train_windows']:,.0f} windows"
        if means["fitted_windows"] < means["train_windows"] - 0.5:
            train += f" (the baselines' are subsampled evenly to {means['fitted_windows']:,.0f})"
        test += f" with {means['n_windows']:,.0f}"
        methods = summary.loc[summary["is_baseline"], "method"]
        channels = f" {channels_text(methods, int(means['n_channels']))}"
    missing = summary[summary["missing"].fillna("") != ""].groupby("missing")["name"]
    return [
        f"Mean ± sd over folds, each of {train} and {test}.{channels}",
        f"* {reference[0].lower()}{reference[1:]}; ahead by: how far it is ahead of the method, "
        f"and in how many folds. 95 % and p: {CORRECTED_T}",
        *(f"No interval and no p for {', '.join(of)}: {reason}." for reason, of in missing),
    ]


def folds_verdict(summary: pd.DataFrame, reference: str) -> str:
    """Compare the reference with the best baseline and with training from scratch.

    Differences with a corrected p above .05 are called not significant.

    Parameters
    ----------
    summary
        Best first: `method`, `name`, `reference`, `is_baseline`, `ahead_by`, its ends and p.
    reference
        Name of the reference.
    """
    if not summary["reference"].any():
        return ""
    lines = []
    others = summary[summary["ahead_by"].notna()]
    scratch = others[others["method"] == SCRATCH]
    for _, row in pd.concat([others[others["is_baseline"]].head(1), scratch]).iterrows():
        against = (
            f"the best baseline, {row['name']}" if row["is_baseline"] else "training from scratch"
        )
        sure = "significant" if row["p_holm"] < SIGNIFICANT else "not significant"
        ends = interval(row["ahead_low"], row["ahead_high"], signed=True)
        sure += f"; 95 % {ends}" if ends else ""
        won = f", ahead in {row['ahead_in']:.0f} of {row['folds']} folds"
        sure = f"{won} ({p_is(row['p_holm'])}, {sure})"
        lines.append(_verdict(reference, row["ahead_by"], against, sure))
    ahead = others[(others["p_holm"] < SIGNIFICANT) & (others["ahead_by"] > 0)]["name"]
    lines.append(f"Significantly worse: {', '.join(ahead) or 'none'}.")
    not_behind = others[others["ahead_by"] < 5e-4]["name"]
    if len(not_behind):
        lines.append(f"Equal or better: {', '.join(not_behind)}.")
    return " ".join(lines)


def about_model(metadata: Mapping[str, Any]) -> str:
    """Identify the fine-tuned model in a sentence."""
    n_subjects = len(metadata.get("training_subjects") or ())
    text = f"Model of run {metadata.get('run_id', 'unknown')}, fine-tuned on {n_subjects} subjects"
    epoch = metadata.get("best_epoch")
    return f"{text}." if epoch is None else f"{text}, best epoch {int(epoch)}."
