"""Figures of a sweep: learning curves with bands, modes compared, time saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.finetuning_report import score_title
from hbn_foundation.evaluation.style import (
    ACCENT,
    INK,
    MUTED,
    PALE,
    heading,
    new_figure,
    note,
    styled,
)
from hbn_foundation.evaluation.sweep_scores import ALL_SHARES, MODE_NAMES, MODES, Savings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODE_COLOURS = {
    "full_fine_tuning": ACCENT,
    "target_only_fine_tuning": "#e0972f",
    "target_only": MUTED,
}
CHANCE = {"window_auroc": 0.5, "nrmse": 1.0}


def curves_figure(curves: pd.DataFrame, pairs: pd.DataFrame, score: str) -> Figure:
    """Draw the score against the share of the target's data, and how far modes are apart.

    Parameters
    ----------
    curves, pairs
        Of `learning_curves` and `compare_modes`.
    score
        The score they are of.
    """
    with styled():
        figure, axes = new_figure(1, 2, panel=(4.6, 3.5))
        n = int(curves["n_targets"].max()) if len(curves) else 0
        heading(figure, "How much of a new subject's own data is needed",
                f"{n} subjects left out in turn, tested on their last run; bands and bars: 95 % "
                "over subjects" if n >= 5 else f"{n} subjects left out in turn, tested on their "
                "last run; too few for intervals")  # fmt: skip
        if curves.empty:
            for panel in axes:
                note(panel, "no fine-tuning is finished")
            return figure
        _curves(axes[0], curves, score)
        _pairs(axes[1], pairs)
    return figure


def _curves(panel: Axes, curves: pd.DataFrame, score: str) -> None:
    panel.set_title(score_title(score))
    for mode in (m for m in MODES if m in set(curves["mode"])):
        part = curves[curves["mode"] == mode]
        x, colour = part["target_data_pct"].to_numpy(float) * 100, MODE_COLOURS[mode]
        low, high = part["low"].to_numpy(float), part["high"].to_numpy(float)
        if np.isfinite(low).any():
            panel.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
        panel.plot(x, part["score"], marker="o", ms=4.5, color=colour, label=MODE_NAMES[mode])
    if score in CHANCE:
        panel.axhline(CHANCE[score], color=PALE, lw=1, ls=":")
    _share_axis(panel, curves["target_data_pct"].unique() * 100)
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1)


def _share_axis(panel: Axes, shares: np.ndarray) -> None:
    ticks = sorted(shares)
    if len(ticks) > 1:
        panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("share of the subject's training windows (%)")


def _pairs(panel: Axes, pairs: pd.DataFrame) -> None:
    """One row per pair and share, from the top: how far the first is ahead."""
    panel.set_title("ahead by")
    known = pairs[pairs["ahead_by"].notna()]
    if known.empty:
        note(panel, "one mode only: nothing to compare")
        return
    labels: list[str] = []
    heights: list[float] = []
    rows: list[dict[Any, Any]] = known.iloc[::-1].to_dict("records")
    for place, row in enumerate(rows):
        share, ahead = row["target_data_pct"], float(row["ahead_by"])
        another = place and rows[place - 1]["second"] != row["second"]
        another = another or (place and rows[place - 1]["first"] != row["first"])
        height = heights[-1] + (1.7 if another else 1.0) if heights else 0.0
        heights.append(height)
        labels.append("all shares" if share == ALL_SHARES else f"{100 * float(share):g} %")
        ends = np.array([row["low"], row["high"]], dtype=float)
        if np.isfinite(ends).all():
            panel.plot(ends, [height, height], color=INK, lw=1.2, solid_capstyle="butt", zorder=2)
        panel.plot(ahead, height, "o", ms=8, color=MODE_COLOURS[row["first"]],
                   mec=MODE_COLOURS[row["second"]], mew=2.2, zorder=3)  # fmt: skip
        if float(row["p_holm"]) < 0.05:
            panel.annotate("*", (ahead, height), (0, 3), ha="center", fontsize=12,
                           textcoords="offset points")  # fmt: skip
    panel.axvline(0, color=MUTED, lw=1, ls=":")
    panel.set_yticks(heights, labels)
    panel.set_ylim(-0.7, heights[-1] + 0.7)
    panel.grid(True, axis="x")
    panel.grid(False, axis="y")
    panel.margins(x=0.15)
    panel.set_xlabel("fill: the first mode, edge: the one it is compared with;\n"
                     "* p < .05, Wilcoxon, Holm")  # fmt: skip


def savings_figure(savings: Savings) -> Figure:
    """Draw the time that the jobs took beside the time without shared bases.

    Parameters
    ----------
    savings
        Of `measured_savings`.
    """
    with styled():
        figure, axes = new_figure(1, 1, panel=(6.4, 2.2))
        panel = axes[0]
        if not savings.finetunings or not savings.alone_seconds:
            heading(figure, "Time saved by sharing bases")
            note(panel, "no fine-tuning is finished")
            return figure
        share = 1 - savings.ratio
        heading(figure, "Time saved by sharing bases",
                f"{savings.bases:,} bases serve {savings.finetunings:,} fine-tunings: {share:.0%} "
                "less computing, as measured")  # fmt: skip
        own = savings.alone_seconds - savings.finetune_seconds
        unit, name = _unit(savings.alone_seconds)
        for height, (bases, _) in enumerate(((own, "alone"), (savings.base_seconds, "shared"))):
            total = (bases + savings.finetune_seconds) / unit
            panel.barh(height, bases / unit, color=ACCENT, height=0.55,
                       label="bases" if height else None)  # fmt: skip
            panel.barh(height, savings.finetune_seconds / unit, left=bases / unit, height=0.55,
                       color=PALE, label="fine-tunings" if height else None)  # fmt: skip
            panel.annotate(f"{total:.3g}", (total, height), (4, 0), va="center",
                           textcoords="offset points", color=INK, fontsize=8)  # fmt: skip
        panel.set_yticks([0, 1], ["each its own base", "shared bases"])
        panel.set_xlabel(f"time of one worker ({name})")
        panel.grid(True, axis="x")
        panel.grid(False, axis="y")
        panel.margins(x=0.1)
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.32), ncols=2)
    return figure


def _unit(seconds: float) -> tuple[float, str]:
    if seconds > 2 * 3600:
        return 3600.0, "h"
    return (60.0, "min") if seconds > 120 else (1.0, "s")
