"""Scores of all methods as dots with intervals, one row per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.figures.style import (
    ACCENT,
    INK,
    MUTED,
    PALE,
    heading,
    new_figure,
    note,
    sideways,
    styled,
)
from hbn_foundation.evaluation.methods import MODEL, REFERENCE
from hbn_foundation.evaluation.wording import number, p_is

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANCE = ("majority", "constant")
"""Methods whose score is drawn as a dotted line."""


class Dot(NamedTuple):
    """A value with the ends of its interval, NaN without one, and what is written above it."""

    value: float
    low: float
    high: float
    colour: str
    text: str = ""


def scores_figure(scores: pd.DataFrame, titles: Mapping[str, str], title: str) -> Figure:
    """Draw the scores of all methods on one split.

    Parameters
    ----------
    scores
        One row per method, best first, see `by_method`.
    titles
        Its columns that are drawn with their titles, a panel each.
    title
        Over the figure.
    """
    found = pd.concat([scores[f"{name}_{end}"] for name in titles for end in ("low", "high")
                       if f"{name}_{end}" in scores] or [pd.Series(dtype=float)])  # fmt: skip
    lines = "lines: 95 % over test subjects, the model held fixed; " if found.notna().any() else ""
    subtitle = f"One split; {lines}dotted: chance"
    if scores[list(titles)].isna().all(axis=None):
        subtitle = "One split, no score: its test subjects have one class only"
    bold = (scores["kind"] == MODEL).tolist()
    colours = [{MODEL: ACCENT, REFERENCE: PALE}.get(kind, MUTED) for kind in scores["kind"]]
    with styled():
        figure, axes = _named_rows(scores["name"].tolist(), bold, len(titles))
        heading(figure, title, subtitle)
        for panel, (name, words) in zip(axes, titles.items(), strict=True):
            panel.set_title(words)
            ends = scores.reindex(columns=[f"{name}_low", f"{name}_high"]).to_numpy(float)
            values = scores[name].to_numpy(float)
            texts = [number(value) for value in values]
            rows = zip(values, *ends.T, colours, texts, strict=True)
            interval_rows(panel, [Dot(*row) for row in rows])
            for chance in scores.loc[scores["method"].isin(CHANCE), name].dropna():
                panel.axvline(chance, color=MUTED, lw=1, ls=":")
    return figure


def folds_figure(
    folds: pd.DataFrame, summary: pd.DataFrame, titles: Mapping[str, str], title: str
) -> Figure:
    """Draw the folds and the mean of every method, and how far the reference is ahead of it.

    Parameters
    ----------
    folds
        One row per fold, seed and method.
    summary
        Of `comparison_table` or `summarise_folds`.
    titles
        Scores of the folds with their titles, a panel each.
    title
        Over the figure.
    """
    with styled():
        bold = summary["reference"].tolist()
        figure, axes = _named_rows(summary["name"].tolist(), bold, len(titles) + 1)
        if summary.empty:
            heading(figure, title)
            for panel in axes:
                note(panel, "no fold was finished")
            return figure
        seeds, ours = int(summary["seeds"].max()), summary.loc[summary["reference"], "name"]
        each = "" if seeds == 1 else f", mean of {seeds} seeds each"
        who = f"; ahead by: {ours.iloc[0]}, 95 % corrected t" if len(ours) else ""
        dots = "large dot: mean, line: ± 1 sd (ddof 1)"
        heading(figure, title, f"{summary['folds'].max()} folds{each}; {dots}{who}")
        colours = np.where(summary["is_baseline"], MUTED, ACCENT).tolist()
        for panel, (score, words) in zip(axes, titles.items(), strict=False):
            panel.set_title(words)
            parts = [folds[folds["method"] == method].groupby(["repeat", "fold"])[score].mean()
                     for method in summary["method"]]  # fmt: skip
            _folds(panel, [part.dropna().to_numpy(float) for part in parts], colours)
        axes[-1].set_title("ahead by")
        axes[-1].axvline(0, color=MUTED, lw=1, ls=":")
        ahead = summary[["ahead_by", "ahead_low", "ahead_high"]].to_numpy(float)
        texts = [number(gap, signed=True) + ("" if pd.isna(p) else f" ({p_is(p)})")
                 for gap, p in zip(ahead[:, 0], summary["p_holm"], strict=True)]  # fmt: skip
        interval_rows(axes[-1], [Dot(*of) for of in zip(*ahead.T, colours, texts, strict=True)])
        axes[-1].margins(x=0.25)  # room for what is written above a point
    return figure


def interval_rows(panel: Axes, dots: Sequence[Dot]) -> None:
    """Draw a row per dot, the first at the top."""
    for height, dot in zip(range(len(dots) - 1, -1, -1), dots, strict=True):
        if not np.isfinite(dot.value):
            continue
        if np.isfinite([dot.low, dot.high]).all():
            ends = [dot.low, dot.high]
            panel.plot(ends, [height] * 2, color=INK, lw=1.2, solid_capstyle="butt", zorder=3)
        panel.plot(dot.value, height, "o", ms=8, color=dot.colour, mec=INK, mew=0.9, zorder=4)
        panel.annotate(dot.text, (dot.value, height), (0, 7), textcoords="offset points",
                       ha="center", fontsize=7.5, color=INK, zorder=5)  # fmt: skip
    panel.set_ylim(-0.7, max(len(dots), 1) - 0.3)
    sideways(panel)
    panel.margins(x=0.12)


def _named_rows(
    names: Sequence[str], bold: Sequence[bool], n_panels: int
) -> tuple[Figure, list[Axes]]:
    """Make panels side by side that share rows, named from the top."""
    size = (4.2, 1.4 + 0.36 * max(len(names), 2))
    figure, axes = new_figure(1, n_panels, panel=size, sharey=True)
    axes[0].set_yticks(range(len(names)), names[::-1])
    for label, is_bold in zip(axes[0].get_yticklabels(), bold[::-1], strict=True):
        label.set_fontweight("bold" if is_bold else "normal")
    return figure, axes


def _folds(panel: Axes, parts: Sequence[np.ndarray], colours: Sequence[str]) -> None:
    """Draw pale dots of the folds behind their means with one standard deviation."""
    dots = []
    for height, (of_fold, colour) in enumerate(zip(parts, colours, strict=True)):
        places = len(parts) - 1 - height + np.linspace(-0.22, 0.22, len(of_fold) + 2)[1:-1]
        panel.plot(of_fold, places, "o", ms=4, mew=0, color=colour, alpha=0.4)
        mean = of_fold.mean() if len(of_fold) else np.nan
        sd = of_fold.std(ddof=1) if len(of_fold) > 1 else 0.0
        dots.append(Dot(mean, mean - sd, mean + sd, colour, number(mean)))
    interval_rows(panel, dots)
