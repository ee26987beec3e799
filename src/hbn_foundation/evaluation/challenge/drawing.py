"""What several figures of the challenge's tasks draw alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hbn_foundation.evaluation.style import ACCENT, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 2000


def points(panel: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Draw points, as a density of hexagons where there are many."""
    if len(x) <= MOST_POINTS:
        alpha = float(np.clip(60 / max(len(x), 1) ** 0.75, 0.18, 0.8))
        panel.plot(x, y, "o", ms=4, mew=0, color=ACCENT, alpha=alpha)
    else:
        panel.hexbin(x, y, gridsize=45, mincnt=1, cmap="Blues", bins="log", linewidths=0.1)
    panel.grid(True, axis="both")


def diagonal(panel: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Draw the line on which both are equal, over the range of both."""
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    panel.plot([low, high], [low, high], color=MUTED, lw=1, ls="--", zorder=1)


def binned(
    x: np.ndarray, y: np.ndarray, n_bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean of x, median and quartiles of y in parts of as many items each, ordered by x."""
    parts = [part for part in np.array_split(np.argsort(x, kind="stable"), n_bins) if len(part)]
    quartiles = np.array([np.quantile(y[part], [0.5, 0.25, 0.75]) for part in parts])
    centres = np.array([x[part].mean() for part in parts])
    return centres, quartiles[:, 0], quartiles[:, 1], quartiles[:, 2]
