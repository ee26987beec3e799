"""Scores of all methods as dots with intervals, one row per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.figures import style
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
    lows = scores.reindex(columns=[f"{name}_low" for name in titles])
    lines = "lines: 95 % over test subjects, the model held fixed; " if lows.size else ""
    subtitle = f"One split; {lines if lows.notna().any(axis=None) else ''}dotted: chance"
    if scores[list(titles)].isna().all(axis=None):
        subtitle = "One split, no score: its test subjects have one class only"
    colours = scores["kind"].map({MODEL: style.ACCENT, REFERENCE: style.PALE}).fillna(style.MUTED)
    with style.styled():
        figure, axes = _named_rows(scores["name"], scores["kind"] == MODEL, len(titles))
        style.heading(figure, title, subtitle)
        for panel, (name, words) in zip(axes, titles.items(), strict=True):
            panel.set_title(words)
            found = scores.reindex(columns=[name, f"{name}_low", f"{name}_high"]).to_numpy(float)
            rows = zip(*found.T, colours, map(number, found[:, 0]), strict=True)
            interval_rows(panel, [Dot(*row) for row in rows])
            for chance in scores.loc[scores["method"].isin(CHANCE), name].dropna():
                panel.axvline(chance, color=style.MUTED, lw=1, ls=":")
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
    with style.styled():
        figure, axes = _named_rows(summary["name"], summary["reference"], len(titles) + 1)
        if summary.empty:
            style.heading(figure, title)
            for panel in axes:
                style.note(panel, "no fold was finished")
            return figure
        reference = ", ".join(summary.loc[summary["reference"], "name"])
        style.heading(figure, title, f"{summary['folds'].max()} folds; large dot: mean, line: ± 1 "
                      f"sd (ddof 1); ahead by: {reference}, 95 % corrected t")  # fmt: skip
        colours = np.where(summary["is_baseline"], style.MUTED, style.ACCENT).tolist()
        for panel, (score, words) in zip(axes, titles.items(), strict=False):
            panel.set_title(words)
            of_fold = folds.groupby(["method", "repeat", "fold"])[score].mean().dropna()
            _folds(panel, [of_fold[of_fold.index.get_level_values(0) == method].to_numpy()
                           for method in summary["method"]], colours)  # fmt: skip
        axes[-1].set_title("ahead by")
        axes[-1].axvline(0, color=style.MUTED, lw=1, ls=":")
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
        panel.plot([dot.low, dot.high], [height] * 2, color=style.INK, lw=1.2, zorder=3)
        panel.plot(dot.value, height, "o", ms=8, color=dot.colour, mec=style.INK, mew=0.9, zorder=4)
        panel.annotate(dot.text, (dot.value, height), (0, 7), textcoords="offset points",
                       ha="center", fontsize=7.5, zorder=5)  # fmt: skip
    panel.set_ylim(-0.7, max(len(dots), 1) - 0.3)
    style.sideways(panel)
    panel.margins(x=0.12)


def _named_rows(names: pd.Series, bold: pd.Series, n_panels: int) -> tuple[Figure, list[Axes]]:
    """Make panels side by side that share rows, named from the top."""
    size = (4.2, 1.4 + 0.36 * max(len(names), 2))
    figure, axes = style.new_figure(1, n_panels, panel=size, sharey=True)
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
