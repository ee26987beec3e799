"""Scores of all methods as dots, one row per method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.methods import PRETRAINED, ordered, written
from hbn_foundation.evaluation.report import p_is
from hbn_foundation.evaluation.style import (
    INK,
    MUTED,
    heading,
    method_colour,
    new_figure,
    styled,
)
from hbn_foundation.evaluation.tables import summarise_folds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {
    "window_auroc": "Window AUROC",
    "recording_auroc": "Recording AUROC",
    "balanced_accuracy": "Balanced accuracy of windows",
}


def score_figure(scores: pd.DataFrame, folds: pd.DataFrame | None = None) -> Figure:
    """Draw the scores of all methods.

    With folds: each fold a pale dot, the mean and one standard deviation in front. Without: one
    dot per method on the test subjects, with the interval from resampling these.

    Parameters
    ----------
    scores
        One row per method of a single split.
    folds
        One row per fold and method; may be empty.
    """
    repeated = folds is not None and not folds.empty
    table = folds if repeated and folds is not None else scores
    methods = ordered(table["method"].unique())[::-1]
    with styled():
        figure, axes = new_figure(1, 3, panel=(3.9, 1.4 + 0.34 * len(methods)), sharey=True)
        heading(figure, "Frozen probe on subjects never seen", _subtitle(scores, folds))
        for panel, (score, title) in zip(axes, PANELS.items(), strict=True):
            panel.set_title(title)
            panel.grid(True, axis="x")
            panel.grid(False, axis="y")
            for height, method in enumerate(methods):
                part = table[table["method"] == method]
                if repeated:
                    _fold_dots(panel, part, score, method, height)
                else:
                    _one_dot(panel, part, score, method, height)
            chance = _chance(table, score)
            panel.axvline(chance, color=MUTED, lw=1, ls=":")
            panel.margins(x=0.12)
        axes[0].set_yticks(range(len(methods)), [written(method) for method in methods])
        axes[0].set_ylim(-0.7, len(methods) - 0.3)
        for label, method in zip(axes[0].get_yticklabels(), methods, strict=True):
            label.set_fontweight("bold" if method == PRETRAINED else "normal")
    return figure


def _fold_dots(axes: Axes, part: pd.DataFrame, score: str, method: str, height: int) -> None:
    values = part[score].dropna().to_numpy(float)
    if not len(values):
        return
    colour = method_colour(method)
    spread = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(values, height + spread, "o", ms=4, mew=0, color=colour, alpha=0.45)
    sd = np.nanstd(values, ddof=1) if len(values) > 1 else 0.0
    _mean(axes, float(np.nanmean(values)), (sd, sd), method, height)


def _one_dot(axes: Axes, part: pd.DataFrame, score: str, method: str, height: int) -> None:
    value = float(part[score].iloc[0])
    ends = [part[f"{score}_{end}"].iloc[0] for end in ("low", "high") if f"{score}_{end}" in part]
    reach = (value - ends[0], ends[1] - value) if len(ends) == 2 else (np.nan, np.nan)
    _mean(axes, value, reach, method, height)


def _mean(axes: Axes, value: float, reach: tuple[float, float], method: str, height: int) -> None:
    if not np.isfinite(value):
        return
    colour = method_colour(method)
    if np.isfinite(reach).all():
        ends = [max(value - reach[0], 0.0), min(value + reach[1], 1.0)]  # no score lies beyond
        axes.plot(ends, [height, height], color=INK, lw=1.2, solid_capstyle="butt", zorder=3)
    axes.plot(value, height, "o", ms=8, color=colour, mec=INK, mew=0.9, zorder=4)
    axes.annotate(
        f"{value:.3f}", (value, height), (0, 7), textcoords="offset points", ha="center",
        fontsize=7.5, color=INK, fontweight="bold" if method == PRETRAINED else "normal", zorder=5,
    )  # fmt: skip


def _chance(table: pd.DataFrame, score: str) -> float:
    """Look up what the majority class scores; one half where it is not among the methods."""
    values = table.loc[table["method"] == "majority", score].dropna()
    return float(values.mean()) if len(values) else 0.5


def _subtitle(scores: pd.DataFrame, folds: pd.DataFrame | None) -> str:
    if folds is None or folds.empty:
        if scores[list(PANELS)].isna().all(axis=None):
            return "One split, no score: its test subjects have one class only"
        ends = (
            scores["window_auroc_low"] if "window_auroc_low" in scores else pd.Series(dtype=float)
        )
        lines = (
            "lines: 95 % over test subjects, the model held fixed; " if ends.notna().any() else ""
        )
        return f"One split; {lines}dotted: chance"
    summary = summarise_folds(folds)
    n_folds = int(summary["folds"].iloc[0])
    text = f"{n_folds} folds; large dot: mean; line: ± 1 sd (ddof 1); dotted: chance"
    best = summary[summary["best_baseline"]]
    if len(best) and PRETRAINED in set(summary["method"]):
        row = best.iloc[0]
        text += (
            f". Pretrained − {row['name']}: {row['pretrained_ahead_by']:+.3f}, ahead in "
            f"{int(row['pretrained_ahead_in'])} of {n_folds} ({p_is(row['p_holm'])}, Holm)"
        )
    return text
