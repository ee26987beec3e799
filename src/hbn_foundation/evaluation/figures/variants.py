"""What variants of a model gain in latency and lose in their metric."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.figures import style
from hbn_foundation.evaluation.scorers import display_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTER = 0.016  # width of a letter, as a share of the distance between the outer points
ROW_HEIGHT = 0.14  # of a row of names, as a share of half the axis of changes


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
    known = table.dropna(subset=["decides_ms", "change_share"]).sort_values("decides_ms")
    ends = known[["change_share_low", "change_share_high"]].to_numpy(float) * 100
    values = known["change_share"].to_numpy(float) * 100
    latency = known["decides_ms"].to_numpy(float)
    metric, has_ends = display_metric(known["metric"].iloc[0]), bool(np.isfinite(ends).any())
    subtitle = "Above 0 is better" + "; lines: 95 %, paired over test subjects" * has_ends
    span = 1.3 * np.nanmax(np.abs([*ends.ravel(), *values, 100 * largest_loss]))
    with style.styled():
        figure, (panel,) = style.new_figure(panel=(6.6, 3.9))
        style.heading(figure, f"Variants: latency and change of {metric}", subtitle)
        _latency_axis(panel, latency)
        panel.axhline(0, color=style.MUTED, lw=1)
        panel.axhline(-100 * largest_loss, color=style.WARNING, lw=1, ls="--")
        panel.annotate("largest loss allowed", (0.995, -100 * largest_loss), (0, -3),
                       xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
                       va="top", fontsize=7.5, color=style.WARNING)  # fmt: skip
        rows = _rows(known["variant"], latency)
        for place, name in enumerate(known["variant"]):
            colour, weight = style.MUTED, "normal"
            if name == chosen:
                colour, weight = style.ACCENT, "bold"
            panel.plot([latency[place]] * 2, ends[place], color=style.INK, lw=1.2, zorder=3)
            panel.plot(latency[place], values[place], "o", ms=8, color=colour, mec=style.INK,
                       mew=0.9, zorder=4)  # fmt: skip
            top = span * (1.1 + ROW_HEIGHT * rows[place])
            panel.plot([latency[place]] * 2, [values[place], top], color=style.PALE, lw=0.8,
                       zorder=1)  # fmt: skip
            panel.text(
                latency[place], top, name, ha="center", va="center", fontsize=8, fontweight=weight,
                bbox={"facecolor": "white", "lw": 0, "pad": 1},
            )  # fmt: skip
        panel.set_ylim(-span, span * (1.2 + ROW_HEIGHT * max(rows)))
        panel.set_ylabel("change in %")
    return figure


def _latency_axis(panel: Axes, latency: np.ndarray) -> None:
    """Scale the axis by ratios, with plain numbers also where they lie close together."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    panel.set_xscale("log")
    low, high = latency.min(), latency.max()
    room = (high / low) ** 0.12 * 1.05
    panel.set_xlim(low / room, high * room)
    panel.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5)) if high > 8 * low else MaxNLocator(6, steps=[1, 2, 5, 10])
    )
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("")
    panel.set_xlabel("median latency in ms, one call, the faster number of threads")


def _rows(names: Iterable[str], latency: np.ndarray) -> list[int]:
    """Give each name, from left to right, the lowest row where it touches none before it."""
    places = np.log(latency)
    places = (places - places.min()) / max(float(np.ptp(places)), np.log(1.05))
    ends: list[float] = []  # of the last name in each row
    rows = []
    for name, place in zip(names, places, strict=True):
        half = LETTER * (len(name) + 1) / 2
        row = next((row for row, end in enumerate(ends) if end < place - half), len(ends))
        ends[row:] = [place + half, *ends[row + 1 :]]
        rows.append(row)
    return rows
