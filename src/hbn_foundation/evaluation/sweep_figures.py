"""Figures of a sweep: learning curves with intervals, modes compared, time saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.finetuning_report import score_title
from hbn_foundation.evaluation.statistics import FEWEST_SUBJECTS, SIGNIFICANT
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
NOTHING_LEARNED = {"window_auroc": (0.5, "chance"), "nrmse": (1.0, "the mean")}
DODGE = 1.06  # factor between the places of two modes on the axis of shares
ROW_INCHES, GAP = 0.19, 1.5  # of the panel of pairs: a row, and rows before the next pair


def curves_figure(curves: pd.DataFrame, pairs: pd.DataFrame, score: str) -> Figure:
    """Draw the score against the share of the target's data, and how far modes are apart.

    Parameters
    ----------
    curves, pairs
        Of `learning_curves` and `compare_modes`.
    score
        The score they are of.
    """
    known = pairs[pairs["ahead_by"].notna()]
    with styled():
        figure, axes = new_figure(1, 2, panel=(4.8, max(3.6, 1.2 + ROW_INCHES * _rows(known))))
        n = int(curves["n_targets"].max()) if len(curves) else 0
        few = n < FEWEST_SUBJECTS
        ends = "too few for intervals" if few else "bars: 95 % over subjects, models held fixed"
        heading(figure, "How much of a new subject's own data is needed",
                f"{n} subjects left out in turn, tested on their last run; {ends}")  # fmt: skip
        if curves.empty:
            for panel in axes:
                note(panel, "no fine-tuning is finished")
            return figure
        _curves(axes[0], curves, score)
        _pairs(axes[1], known)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def _curves(panel: Axes, curves: pd.DataFrame, score: str) -> None:
    panel.set_title(score_title(score))
    modes = [mode for mode in MODES if mode in set(curves["mode"])]
    for place, mode in enumerate(modes):
        part = curves[curves["mode"] == mode]
        # side by side, so that the intervals of the modes do not lie over one another
        beside = DODGE ** (place - (len(modes) - 1) / 2)
        x, colour = part["target_data_pct"].to_numpy(float) * 100 * beside, MODE_COLOURS[mode]
        panel.vlines(x, part["low"], part["high"], color=colour, lw=1.4)
        panel.plot(x, part["score"], marker="o", ms=4.5, color=colour, label=MODE_NAMES[mode])
    low, high = panel.get_ylim()
    level, name = NOTHING_LEARNED.get(score, (np.inf, ""))
    if low - (high - low) / 2 < level < high + (high - low) / 2:  # else the rest would be flat
        panel.axhline(level, color=MUTED, lw=1, ls=":")
        panel.annotate(name, (1, level), (-2, 2), xycoords=("axes fraction", "data"),
                       textcoords="offset points", ha="right", fontsize=8, color=MUTED)  # fmt: skip
    _share_axis(panel, curves["target_data_pct"].unique() * 100)


def _share_axis(panel: Axes, shares: np.ndarray) -> None:
    ticks = sorted(shares)
    if len(ticks) > 1:
        panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("share of the subject's training windows (%)")


def _rows(pairs: pd.DataFrame) -> float:
    """Height of the panel of pairs, in rows."""
    return len(pairs) + GAP * len(pairs.drop_duplicates(["first", "second"]))


def _pairs(panel: Axes, pairs: pd.DataFrame) -> None:
    """Draw a group per pair of modes and a row per share: how far the first is ahead."""
    panel.set_title("ahead by")
    if pairs.empty:
        note(panel, "no two modes on the same subjects: nothing to compare")
        return
    ticks: dict[float, str] = {}
    height = 0.0
    behind = {"fc": "white", "ec": "none", "pad": 1}
    for (first, second), group in pairs.groupby(["first", "second"], sort=False):
        names = f"{MODE_NAMES[str(first)]} against {MODE_NAMES[str(second)]}"
        panel.annotate(names, (0.01, height), xycoords=("axes fraction", "data"), va="center",
                       fontsize=8, color=MUTED, bbox=behind)  # fmt: skip
        rows: list[dict[Any, Any]] = group.to_dict("records")
        for row in rows:
            height -= 1
            share = row["target_data_pct"]
            ticks[height] = "all shares" if share == ALL_SHARES else f"{100 * float(share):g} %"
            _pair(panel, row, height)
        height -= GAP
    panel.axvline(0, color=MUTED, lw=1, ls=":")
    panel.set_yticks(list(ticks), list(ticks.values()))
    panel.set_ylim(height + GAP - 0.7, 0.7)
    panel.grid(True, axis="x")
    panel.grid(False, axis="y")
    panel.margins(x=0.15)
    starred = (pairs["p_holm"] < SIGNIFICANT).any()
    panel.set_xlabel(
        "difference; colour: the mode that is ahead"
        + ("\n* p < .05, Wilcoxon, Holm" if starred else "\nno p < .05, Wilcoxon, Holm")
    )


def _pair(panel: Axes, row: dict[Any, Any], height: float) -> None:
    ahead = float(row["ahead_by"])
    colour = MODE_COLOURS[row["first"] if ahead > 0 else row["second"]] if ahead else INK
    ends = np.array([row["low"], row["high"]], dtype=float)
    if np.isfinite(ends).all():
        panel.plot(ends, [height, height], color=colour, lw=1.4, solid_capstyle="butt", zorder=2)
    panel.plot(ahead, height, "o", ms=6, color=colour, zorder=3)
    if float(row["p_holm"]) < SIGNIFICANT:
        right = np.nanmax([ahead, *ends])
        panel.annotate("*", (right, height), (4, -6), fontsize=12, textcoords="offset points")


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
        saved = f"{100 * (1 - savings.ratio):.0f} % less computing, as measured"
        jobs = f"{savings.bases:,} bases serve {savings.finetunings:,} fine-tunings"
        heading(figure, "Time saved by sharing bases", f"{jobs}: {saved}")
        own = savings.alone_seconds - savings.finetune_seconds
        unit, name = _unit(savings.alone_seconds)
        for height, (bases, _) in enumerate(((own, "alone"), (savings.base_seconds, "shared"))):
            total = (bases + savings.finetune_seconds) / unit
            panel.barh(height, bases / unit, color=ACCENT, height=0.55,
                       label="bases" if height else None)  # fmt: skip
            panel.barh(height, savings.finetune_seconds / unit, left=bases / unit, height=0.55,
                       color=PALE, label="fine-tunings" if height else None)  # fmt: skip
            panel.annotate(f"{total:.1f} {name}", (total, height), (4, 0), va="center",
                           textcoords="offset points", color=INK, fontsize=8)  # fmt: skip
        panel.set_yticks([0, 1], ["each its own base", "shared bases"])
        panel.set_xlabel(f"time of one worker ({name})")
        panel.grid(True, axis="x")
        panel.grid(False, axis="y")
        panel.margins(x=0.1)
        panel.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure


def _unit(seconds: float) -> tuple[float, str]:
    if seconds > 2 * 3600:
        return 3600.0, "h"
    return (60.0, "min") if seconds > 120 else (1.0, "s")
