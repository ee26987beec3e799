"""What a model predicts along recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 8  # recordings
LONG = 600.0  # s, from where on time is in minutes


def over_time_figure(predictions: pd.DataFrame) -> Figure:
    """Draw the probability of each class, or the value, over the time of each recording.

    Parameters
    ----------
    predictions
        A row per window: `recording`, `start` (s), then `p(<class>)` of each class, or
        `predicted`. Of two classes the second is drawn; lines end where no window follows. The
        first eight recordings have a panel.
    """
    columns = [n for n in map(str, predictions) if n.startswith("p(")] or ["predicted"]
    if len(columns) == 2:
        columns = columns[1:]
    names = predictions["recording"].drop_duplicates()
    unit, seconds = ("min", 60.0) if predictions["start"].max() > LONG else ("s", 1.0)
    predictions = predictions.assign(start=predictions["start"] / seconds)
    left_out = "" if len(names) <= MOST else f"the first {MOST} of {len(names)} recordings"
    with style.styled():
        rows = min(len(names), MOST)
        figure, axes = style.new_figure(rows, panel=(7.2, 1.9 if rows > 1 else 2.6))
        for panel, name in zip(axes, names, strict=False):
            _draw(panel, predictions[predictions["recording"] == name], columns)
            panel.set_title(style.shorten(str(name), 60))
        axes[-1].set_xlabel(f"time in the recording ({unit})")
        if len(columns) > 1:
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
        title = "Predicted value over time" if columns == ["predicted"] else "Probability over time"
        style.heading(figure, title, left_out or count_of(len(predictions), "window"))
    return figure


def _draw(panel: Axes, windows: pd.DataFrame, columns: list[str]) -> None:
    start = windows["start"].to_numpy()
    steps = np.diff(start)
    step = float(np.median(steps)) if len(steps) else 1.0
    gaps = np.flatnonzero(steps > 1.5 * step) + 1
    time = np.insert(start + step / 2, gaps, np.nan)
    for column in columns:
        values = np.insert(windows[column].to_numpy(float), gaps, np.nan)
        panel.plot(time, values, marker=".", markersize=3, lw=1.2, label=column)
    if columns != ["predicted"]:
        panel.set_ylim(-0.03, 1.03)
    panel.set_ylabel(style.shorten(columns[0], 24) if len(columns) == 1 else "probability")
