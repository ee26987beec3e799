"""Figures of response times: what is answered, where it errs, and how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.challenge.density import (
    coverage,
    density_of,
    probability_transform,
)
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
from hbn_foundation.labels import scores

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


def reliability_figure(table: pd.DataFrame) -> Figure:
    """Draw how far the probability of success and the distribution of the response time hold.

    Parameters
    ----------
    table
        One row per test trial: `rt` in s; `correct` and `p_correct`; `density_00`, … the shares
        of the time bins from .5 to 2.5 s. What is missing is left out.
    """
    with styled():
        figure, axes = new_figure(1, 3, panel=(3.7, 3.4))
        _success(axes[0], table)
        edges, shares = density_of(table)
        axes[1].set_title("Response time: where the truth falls")
        axes[2].set_title("Response time: intervals")
        if shares is None:
            for panel in axes[1:]:
                note(panel, "the model predicts\nno distribution")
            return figure
        times = table["rt"].to_numpy(float)
        _transform(axes[1], probability_transform(times, edges, shares))
        _coverage(axes[2], times, edges, shares)
    return figure


def _success(panel: Axes, table: pd.DataFrame) -> None:
    panel.set_title("Success: predicted and observed")
    known = table[[c for c in ("correct", "p_correct") if c in table]].dropna()
    if known.shape[1] < 2 or known["correct"].nunique() < 2:
        return note(panel, "success is not predicted,\nor always the same")
    p_correct, correct = known["p_correct"].to_numpy(float), known["correct"].to_numpy(float)
    if np.ptp(p_correct) < 1e-9:
        return note(panel, "the same probability\nfor every trial")
    order = np.array_split(np.argsort(p_correct, kind="stable"), N_BINS)
    groups = [group for group in order if len(group)]
    x = np.array([p_correct[group].mean() for group in groups])
    y = np.array([correct[group].mean() for group in groups])
    diagonal(panel, x, y)
    panel.plot(x, y, "o-", ms=4.5, color=ACCENT, lw=1.2)
    off = float(np.mean((p_correct - correct) ** 2))
    shares = correct.mean()
    text = f"Brier {off:.3f} (always {shares:.0%}: {shares * (1 - shares):.3f})"
    panel.text(0.04, 0.97, text, transform=panel.transAxes, va="top", fontsize=8)
    panel.margins(y=0.14)
    panel.set_xlabel("predicted probability, tenths of the trials")
    panel.set_ylabel("share correct")
    return None


def _transform(panel: Axes, places: np.ndarray) -> None:
    """Histogram of the predicted probability of an earlier press: flat when all is right."""
    counts, edges = np.histogram(places, np.linspace(0, 1, 21))
    panel.bar(edges[:-1], counts / len(places) * 100, width=np.diff(edges) * 0.92, align="edge",
              color=ACCENT)  # fmt: skip
    panel.axhline(5, color=INK, lw=1, ls=(0, (4, 2)))
    panel.set_xlim(0, 1)
    panel.set_xlabel("predicted probability of an earlier press")
    panel.set_ylabel("% of the trials (dashed: all right)")


def _coverage(panel: Axes, times: np.ndarray, edges: np.ndarray, shares: np.ndarray) -> None:
    levels = np.linspace(0.05, 0.95, 19)
    seen = coverage(times, edges, shares, levels)
    panel.plot([0, 100], [0, 100], color=MUTED, lw=1, ls="--")
    panel.plot(levels * 100, seen * 100, color=ACCENT, marker="o", ms=3.5)
    at = int(np.argmin(np.abs(levels - 0.8)))
    words = "too narrow" if seen[at] < 0.77 else "too wide" if seen[at] > 0.83 else "about right"
    text = f"80 % intervals hold {seen[at]:.0%}: {words}"
    panel.text(0.04, 0.97, text, transform=panel.transAxes, va="top", fontsize=8)
    panel.margins(y=0.1)
    panel.set_xlabel("central interval (%)")
    panel.set_ylabel("trials inside it (%)")


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
