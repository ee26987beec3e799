"""True and predicted classes over the time of a recording, such as the hypnogram of a night."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation import scores
from hbn_foundation.evaluation.evaluate import PREDICTED
from hbn_foundation.evaluation.figures import style
from hbn_foundation.evaluation.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 4  # recordings
FEWEST = 4  # windows of a recording


def timeline_figure(predictions: pd.DataFrame, order: Sequence[str] = ()) -> Figure:
    """Draw the classes over time in recordings of some test subjects.

    Parameters
    ----------
    predictions
        One row per test window: `recording`, `subject`, `label`, `predicted` and `onset` (s).
        Without these, and where no class changes within a recording, the figure says so.
    order
        Names of the classes from above to below; others come last, in alphabetical order.
    """
    chosen = _recordings(predictions)
    with style.styled():
        figure, axes = style.new_figure(max(len(chosen), 1), panel=(9.0, 1.75))
        if not chosen:
            style.note(axes[0], "No class that changes over the time of a recording is predicted.")
            return figure
        rest = sorted({*predictions["label"], *predictions[PREDICTED]}.difference(order))
        for panel, (name, part) in zip(axes, chosen.items(), strict=True):
            names = part["label"].to_numpy(), part[PREDICTED].to_numpy()
            found = scores.accuracy(*names), scores.kappa(*names)
            panel.set_title("{}: accuracy {}, kappa {}".format(name, *map(number, found)))
            _draw(panel, part, [*order, *rest])
        axes[-1].set_xlabel("minutes")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=3)
    return figure


def _recordings(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Windows in the order of time of the longest recording of each of the first subjects."""
    if not {"label", "onset"} <= set(predictions):
        return {}
    found = {}
    for subject, own in predictions.groupby("subject"):
        longest = own["recording"].value_counts().index[0]
        part = own[own["recording"] == longest].sort_values("onset")
        if len(part) >= FEWEST and part["label"].nunique() > 1:
            found[str(subject)] = part
    return dict(list(found.items())[:SHOWN])


def _draw(panel: Axes, part: pd.DataFrame, classes: list[str]) -> None:
    """Draw steps that are interrupted where windows are missing, and mark the wrong windows."""
    place = {name: number for number, name in enumerate(classes)}
    begin = part["onset"].to_numpy(float)
    length = np.diff(begin).min()
    ends = np.append(np.diff(begin) > 1.5 * length, True)  # where nothing follows
    # after each end the class goes on to the end of the window; then the line is lifted
    after = np.flatnonzero(ends)
    time = np.insert(begin, np.repeat(after + 1, 2), np.repeat(begin[after] + length, 2)) / 60
    for name, column, colour, width in (
        ("true", "label", style.PALE, 4.0),
        ("predicted", PREDICTED, style.ACCENT, 1.1),
    ):
        level = part[column].map(place).to_numpy(float)
        lifted = np.column_stack([level[after], np.full(len(after), np.nan)]).ravel()
        course = np.insert(level, np.repeat(after + 1, 2), lifted)
        panel.plot(time, course, drawstyle="steps-post", label=name, color=colour, lw=width)
    wrong = (part["label"] != part[PREDICTED]).to_numpy()
    below = np.full(int(wrong.sum()), len(classes) - 0.35)
    panel.plot(
        (begin[wrong] + length / 2) / 60, below, "|", color=style.WARNING, ms=5, label="wrong"
    )
    panel.set_yticks(range(len(classes)), classes)
    panel.set_ylim(len(classes), -0.6)
