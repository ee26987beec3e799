"""Figures of response times: predictions, and errors of trials and of subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation import scores
from hbn_foundation.evaluation.challenge.drawing import binned, diagonal, points
from hbn_foundation.evaluation.statistics import count_of
from hbn_foundation.evaluation.style import (
    ACCENT,
    INK,
    MUTED,
    WARNING,
    new_figure,
    note,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_BINS = 10


def answers_figure(table: pd.DataFrame) -> Figure:
    """Draw predicted against true response times, the error over the true time, and over subjects.

    Parameters
    ----------
    table
        One row per test trial: `subject`, `rt` and `predicted_rt` in s.
    """
    times, predicted = table["rt"].to_numpy(float), table["predicted_rt"].to_numpy(float)
    with styled():
        figure, axes = new_figure(1, 3, panel=(3.7, 3.4))
        panel = axes[0]
        panel.set_title("Predicted against true")
        points(panel, times, predicted)
        diagonal(panel, times, predicted)
        panel.axhline(times.mean(), color=MUTED, lw=1, ls=":")
        panel.set_xlabel("true response time (s)")
        panel.set_ylabel("predicted (s)")
        _error_over_time(axes[1], times, predicted)
        _subject_errors(axes[2], table)
    return figure


def _error_over_time(panel: Axes, times: np.ndarray, predicted: np.ndarray) -> None:
    """Median error with its quartiles in tenths of the trials, beside that of a constant."""
    panel.set_title("Error over response time")
    centres, middle, low, high = binned(times, predicted - times, N_BINS)
    panel.fill_between(centres, low, high, color=ACCENT, alpha=0.18, lw=0)
    panel.plot(centres, middle, color=ACCENT, marker="o", ms=3.5, label="model (median, quartiles)")
    ends = np.array([centres[0], centres[-1]])
    panel.plot(ends, times.mean() - ends, color=MUTED, lw=1.2, ls=":", label="always the mean")
    panel.axhline(0, color=INK, lw=0.8)
    panel.set_xlabel("true response time (s)")
    panel.set_ylabel("predicted − true (s)")
    panel.legend(loc="upper right")
    panel.margins(y=0.15)


def _subject_errors(panel: Axes, table: pd.DataFrame) -> None:
    """Root mean square error of each subject, the model's and that of the overall mean."""
    panel.set_title("Error of each subject")
    squares = pd.DataFrame(
        {
            "model": (table["predicted_rt"] - table["rt"]) ** 2,
            "mean": (table["rt"].mean() - table["rt"]) ** 2,
        }
    )
    errors = squares.groupby(table["subject"].to_numpy()).mean() ** 0.5
    better = errors["model"] < errors["mean"]
    for chosen, colour in ((better, ACCENT), (~better, WARNING)):
        panel.plot(errors["mean"][chosen], errors["model"][chosen], "o", ms=4.5, mew=0,
                   color=colour, alpha=0.7)  # fmt: skip
    diagonal(panel, errors["mean"].to_numpy(), errors["model"].to_numpy())
    share = f"better than the mean in {int(better.sum())} of {len(better)} subjects"
    panel.text(0.04, 0.97, share, transform=panel.transAxes, va="top", fontsize=8, color=INK)
    panel.margins(y=0.14)
    panel.set_xlabel("RMSE of always the mean (s)")
    panel.set_ylabel("RMSE of the model (s)")


def within_subject_figure(table: pd.DataFrame) -> Figure:
    """Draw each subject's own correlation of predicted and true times, widest data first.

    Parameters
    ----------
    table
        One row per test trial: `subject`, `rt` and `predicted_rt`.
    """
    groups = table["subject"].to_numpy()
    times, predicted = table["rt"].to_numpy(float), table["predicted_rt"].to_numpy(float)
    z, weights = scores.group_fisher_z(times, predicted, groups)
    known = weights > 0
    with styled():
        figure, axes = new_figure(1, 1, panel=(11.1, 2.6))
        panel = axes[0]
        panel.set_title("Correlation inside each subject")
        if not known.any():
            note(panel, "no subject with four trials or more")
            return figure
        order = np.argsort(z[known])
        middle = np.tanh(z[known][order])
        panel.plot(np.arange(len(middle)), middle, "o", ms=4, mew=0, color=ACCENT)
        panel.axhline(0, color=INK, lw=0.8)
        mean = scores.mean_r(z, weights)
        panel.axhline(mean, color=ACCENT, lw=1.2, ls=(0, (4, 2)))
        panel.annotate(
            f"mean {mean:.2f}", (1, mean), (4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", color=ACCENT, fontsize=8,
        )  # fmt: skip
        panel.set_xlim(-1, len(middle))
        panel.set_xticks([])
        panel.set_xlabel(f"{count_of(int(known.sum()), 'test subject')}, sorted")
        panel.set_ylabel("Pearson r")
    return figure
