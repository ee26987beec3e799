"""Sentences that compare the model with the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from hbn_foundation.evaluation.methods import BASELINE, MODEL, TRIVIAL
from hbn_foundation.evaluation.statistics import FIXED_MODEL, SIGNIFICANT, level
from hbn_foundation.evaluation.wording import interval, interval_of, number, p_is


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


def split_verdict(scores: pd.DataFrame, name: str) -> str:
    """Compare the model with the best baseline on one split.

    Parameters
    ----------
    scores
        One row per method, sorted best first by this score, see `by_method`.
    name
        Of the score.
    """
    best = best_baseline(scores)
    if best is None:
        return "There is no baseline to compare it with."
    gap = best[f"{name}_ahead"]
    sign = -1 if gap < 0 else 1
    ends = [sign * best.get(f"{name}_ahead_{end}", float("nan")) for end in ("low", "high")]
    low, high = sorted(ends)
    against = f"the best baseline, {best['name']} ({number(best[name]) or '–'})"
    if pd.isna(gap):
        return f"It cannot be compared with {against}."
    by, sure = number(abs(gap)), ", without an interval"
    if not pd.isna(low):
        by += f" (95 % {interval(low, high)})"
        sure = "; the interval includes zero" if low <= 0 <= high else ""
    if level(gap):
        return f"It is level with {against}."
    if gap > 0:
        return f"It is ahead of {against}, by {by}{sure}."
    return f"It is not ahead of {against}: behind by {by}{sure}."


def folds_verdict(summary: pd.DataFrame, reference: str, beside: Mapping[str, str]) -> str:
    """Compare the reference with others over repeated splits.

    Differences with a corrected p above .05 are called not significant.

    Parameters
    ----------
    summary
        Best first: `method`, `name`, `reference`, `is_baseline`, `ahead_by`, its ends and p.
    reference
        Name of the reference.
    beside
        Further methods to compare it with, each with its words.
    """
    if not summary["reference"].any():
        return ""
    others = summary[summary["ahead_by"].notna()]
    baselines = others[others["is_baseline"]].head(1)
    found = [(row, f"the best baseline, {row['name']}") for _, row in baselines.iterrows()]
    found += [(row, beside[row["method"]]) for _, row in others.iterrows()
              if row["method"] in beside]  # fmt: skip
    lines = [_against(reference, row, words) for row, words in found]
    ahead = others[(others["p_holm"] < SIGNIFICANT) & (others["ahead_by"] > 0)]["name"]
    lines.append(f"Significantly worse: {', '.join(ahead) or 'none'}.")
    not_behind = others[others["ahead_by"] < 5e-4]["name"]
    if len(not_behind):
        lines.append(f"Equal or better: {', '.join(not_behind)}.")
    return " ".join(lines)


def _against(reference: str, other: pd.Series, against: str) -> str:
    gap = other["ahead_by"]
    if level(gap):
        return f"{reference} is level with {against}."
    sure = "significant" if other["p_holm"] < SIGNIFICANT else "not significant"
    ends = interval(other["ahead_low"], other["ahead_high"], signed=True)
    sure += f"; 95 % {ends}" if ends else ""
    won = f"{int(other['ahead_in'])} of {other['folds']} folds"
    folds = f"in {won} ({p_is(other['p_holm'])}, {sure})"
    if gap > 0:
        return f"{reference} is ahead of {against}, by {number(gap)}, {folds}."
    return f"{reference} is not ahead of {against}: behind by {number(-gap)}, ahead {folds}."


def missing_intervals(summary: pd.DataFrame) -> list[str]:
    """Say why rows have no interval, one sentence per reason."""
    reasons = summary.loc[summary["missing"].fillna("") != "", ["missing", "name"]]
    return [
        f"No interval and no p for {', '.join(names)}: {reason}."
        for reason, names in reasons.groupby("missing")["name"]
    ]


def about_model(metadata: Mapping[str, Any]) -> str:
    """Identify the fine-tuned model in a sentence."""
    n_subjects = len(metadata.get("training_subjects") or ())
    text = f"Model of run {metadata.get('run_id', 'unknown')}, fine-tuned on {n_subjects} subjects"
    epoch = metadata.get("best_epoch")
    return f"{text}." if epoch is None else f"{text}, best epoch {int(epoch)}."
