"""What variants of a model gain in latency and lose in their metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.figures import style
from hbn_foundation.evaluation.scorers import display_metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def variants_figure(table: pd.DataFrame, chosen: str, largest_loss: float) -> Figure:
    """Draw the change of the metric against the latency.

    Parameters
    ----------
    table
        Of `variants_table`: `variant`, `decides_ms`, `change_share` with its ends, `metric`.
    chosen
        The variant that is marked.
    largest_loss
        Share of the metric that an interval may reach below no change.
    """
    from matplotlib.ticker import LogLocator

    known = table.dropna(subset=["decides_ms", "change_share"]).sort_values("decides_ms")
    ends = known[["change_share_low", "change_share_high"]].to_numpy(float) * 100
    values = known["change_share"].to_numpy(float) * 100
    metric, has_ends = display_metric(known["metric"].iloc[0]), bool(np.isfinite(ends).any())
    subtitle = "Above 0 is better" + "; lines: 95 %, paired over test subjects" * has_ends
    tops = np.where(np.isfinite(ends[:, 1]), ends[:, 1], values)
    span = 1.6 * np.nanmax(np.abs([*ends.ravel(), *values, 100 * largest_loss]))
    with style.styled():
        figure, (panel,) = style.new_figure(panel=(6.6, 3.9))
        style.heading(figure, f"Variants: latency and change of {metric}", subtitle)
        panel.set_xscale("log")
        panel.axhline(0, color=style.MUTED, lw=1)
        panel.axhline(-100 * largest_loss, color=style.WARNING, lw=1, ls="--")
        panel.annotate("largest loss allowed", (0.995, -100 * largest_loss), (0, -3),
                       xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
                       va="top", fontsize=7.5, color=style.WARNING)  # fmt: skip
        for place, (name, latency) in enumerate(known[["variant", "decides_ms"]].to_numpy()):
            colour, weight = style.MUTED, "normal"
            if name == chosen:
                colour, weight = style.ACCENT, "bold"
            panel.plot([latency] * 2, ends[place], color=style.INK, lw=1.2, zorder=3)
            panel.plot(latency, values[place], "o", ms=8, color=colour, mec=style.INK, mew=0.9,
                       zorder=4)  # fmt: skip
            height = 8 + 12 * (place % 4)  # names of neighbours stand above each other
            panel.annotate(name, (latency, tops[place]), (0, height), textcoords="offset points",
                           ha="center", fontsize=8, fontweight=weight)  # fmt: skip
        panel.set_ylim(-span, span)
        panel.set_xlabel("median latency in ms, one call, the faster number of threads")
        panel.set_ylabel("change in %")
        panel.margins(x=0.12)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
    return figure
