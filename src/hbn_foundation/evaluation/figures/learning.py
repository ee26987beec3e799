"""Figures of scores over the amount of labelled data: subjects, or shares of one subject's data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.figures import style
from hbn_foundation.evaluation.figures.scores import Dot, interval_rows
from hbn_foundation.evaluation.methods import (
    ALL_SHARES,
    FINE_TUNED,
    MODE_NAMES,
    SCRATCH,
)
from hbn_foundation.evaluation.scorers import display_metric
from hbn_foundation.evaluation.statistics import FEWEST_SUBJECTS, SIGNIFICANT
from hbn_foundation.evaluation.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODE_COLOURS = dict(zip(MODE_NAMES, (style.ACCENT, "#e0972f", style.MUTED), strict=True))


def learning_curve_figure(summary: pd.DataFrame, title: str) -> Figure:
    """Draw the score of each method over the labelled subjects, with intervals.

    Parameters
    ----------
    summary
        Of `curve_summary`.
    title
        Over the figure.
    """
    metric = str(summary["metric"].iloc[0])
    known = summary["low"].notna().any()
    about = "lines: 95 % over test subjects, the models held fixed" if known else "no intervals"
    with style.styled():
        figure, (panel,) = style.new_figure(1, 1, panel=(7.5, 4.6))
        folds, draws, tested = (int(summary[f"n_{of}"].max()) for of in ("folds", "draws", "test"))
        size = f"{count_of(folds, 'fold')}, up to {count_of(draws, 'draw')}"
        style.heading(figure, title, f"{size}, {count_of(tested, 'test subject')}; {about}")
        amounts = sorted(summary["n_subjects"].unique())
        methods = summary["method"].unique()
        for place, method in enumerate(methods):
            of = summary[summary["method"] == method].set_index("n_subjects")
            shift = 1 + 0.025 * (place - (len(methods) - 1) / 2)  # so that no line hides another
            below, above = of["score"] - of["low"], of["high"] - of["score"]
            panel.errorbar(
                of.index.to_numpy() * shift, of["score"], [below.fillna(0), above.fillna(0)],
                marker="o", ms=4, lw=1.5, elinewidth=1, capsize=2, label=of["name"].iloc[0],
                color=style.CYCLE[place % len(style.CYCLE)],
                ls="-" if method in (FINE_TUNED, SCRATCH) else "--",
            )  # fmt: skip
        panel.set_xscale("log")
        panel.set_xticks(amounts, [f"{amount}" for amount in amounts])
        panel.minorticks_off()
        panel.set_xlabel("labelled subjects")
        panel.set_ylabel(display_metric(metric))
        figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _line(
    panel: Axes, score: pd.Series, low: pd.Series, high: pd.Series, label: str, colour: str
) -> None:
    """Draw scores over amounts, their index, with a band."""
    panel.plot(score.index, score, marker="o", ms=4, color=colour, label=label)
    panel.fill_between(score.index, low, high, color=colour, alpha=0.12, lw=0)
    panel.margins(y=0.12)


def sweep_figure(curves: pd.DataFrame, pairs: pd.DataFrame, title: str) -> Figure:
    """Draw the score against the share of the target's data, and how far modes are apart.

    Parameters
    ----------
    curves, pairs
        Of `learning_curves` and `compare_modes`.
    title
        Name of the score that they are of.
    """
    known = pairs[pairs["ahead_by"].notna()]
    with style.styled():
        figure, axes = style.new_figure(1, 2, panel=(5.4, max(3.6, 1.6 + 0.3 * len(known))))
        n = int(curves["n_targets"].max()) if len(curves) else 0
        few = n < FEWEST_SUBJECTS
        ends = "too few for intervals" if few else "95 % over subjects, models held fixed"
        subtitle = f"{n} subjects left out in turn, tested on their last run; {ends}"
        style.heading(figure, "Scores over the share of a new subject's own data", subtitle)
        if curves.empty:
            for panel in axes:
                style.note(panel, "no fine-tuning is finished")
            return figure
        axes[0].set_title(title)
        for mode, of_mode in curves.groupby("mode"):
            part = of_mode.set_index(of_mode["target_data_pct"] * 100)
            _line(axes[0], part["score"], part["low"], part["high"], MODE_NAMES[str(mode)],
                  MODE_COLOURS[str(mode)])  # fmt: skip
        ticks = np.unique(curves["target_data_pct"] * 100)
        if len(ticks) > 1:
            axes[0].set_xscale("log")
        axes[0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes[0].minorticks_off()
        axes[0].set_xlabel("share of the subject's training windows (%)")
        _pairs(axes[1], known)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def _pairs(panel: Axes, pairs: pd.DataFrame) -> None:
    """Draw a row per pair of modes and share: how far the first is ahead, in its colour."""
    panel.set_title("ahead by")
    if pairs.empty:
        return style.note(panel, "no two modes on the same subjects: nothing to compare")
    dots, names = [], []
    rows: list[dict[Any, Any]] = pairs.to_dict("records")
    for row in rows:
        ahead, share = float(row["ahead_by"]), row["target_data_pct"]
        of = "all shares" if share == ALL_SHARES else f"{100 * float(share):g} %"
        names.append(f"{MODE_NAMES[row['first']]} −\n{MODE_NAMES[row['second']]}, {of}")
        star = " *" if row["p_holm"] < SIGNIFICANT else ""
        colour = MODE_COLOURS[row["first"] if ahead > 0 else row["second"]]
        dots.append(Dot(ahead, row["low"], row["high"], colour, number(ahead, signed=True) + star))
    panel.axvline(0, color=style.MUTED, lw=1, ls=":")
    panel.set_yticks(range(len(names)), names[::-1], fontsize=6)
    interval_rows(panel, dots)
    starred = "*" if (pairs["p_holm"] < SIGNIFICANT).any() else "no"
    panel.set_xlabel(
        f"difference; colour: the mode that is ahead\n{starred} p < .05, Wilcoxon, Holm"
    )
    return None
