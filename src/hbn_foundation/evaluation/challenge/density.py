"""A predicted distribution of the response time, held against the time that came."""

from __future__ import annotations

import numpy as np
import pandas as pd

DENSITY = "density_"
RANGE = (0.5, 2.5)
"""First and last end of the bins, in s after the stimulus."""


def density_of(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """Return ends (n + 1,) in s and shares (N, n) of the time bins; None without any."""
    columns = sorted(name for name in map(str, table) if name.startswith(DENSITY))
    edges = np.linspace(*RANGE, len(columns) + 1)
    if not columns:
        return edges, None
    shares = table[columns].to_numpy(float)
    return edges, shares / shares.sum(1, keepdims=True)


def probability_transform(times: np.ndarray, edges: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Predicted probability (N,) of a press before the one that came (Dawid 1984).

    Spread evenly over 0 to 1 when the distributions are right. Probability inside a bin is taken
    as even; times outside all bins get 0 or 1.

    Parameters
    ----------
    times
        In s (N,).
    edges
        Ends of the bins (n + 1,), evenly spaced.
    shares
        Share of each bin (N, n), summing to one.
    """
    width = (edges[-1] - edges[0]) / shares.shape[1]
    place = np.clip((times - edges[0]) / width, 0, shares.shape[1])
    whole = np.minimum(place.astype(np.int64), shares.shape[1] - 1)
    below = np.concatenate([np.zeros((len(shares), 1)), shares.cumsum(1)], 1)
    rows = np.arange(len(times))
    return np.clip(below[rows, whole] + (place - whole) * shares[rows, whole], 0, 1)


def coverage(
    times: np.ndarray, edges: np.ndarray, shares: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Share of the times inside the central predicted intervals of these levels (L,)."""
    off = 2 * np.abs(probability_transform(times, edges, shares) - 0.5)
    return (off[:, None] <= np.asarray(levels)).mean(0)
