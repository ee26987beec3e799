"""What surrounds a window: features relative to its recording, and averaged over its neighbours.

No label is used, and no gap in a recording is bridged other than by real time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.signals.windows import tiled

if TYPE_CHECKING:
    from hbn_foundation.signals.params import ContextParams
    from hbn_foundation.signals.store import SignalStore

PLACE = ["row", "start"]
EPSILON = 1e-6  # s


class Surroundings(NamedTuple):
    """Windows, and the clean windows that tile their recordings."""

    table: pd.DataFrame  # (M rows) the windows, then the tiles that are none of them; with `onset`
    n_windows: int  # that the table begins with
    tiles: np.ndarray  # (T,) rows of the table that are tiles, in the order of recordings and time


def surroundings(
    store: SignalStore, windows: pd.DataFrame, n_samples: int, context: ContextParams
) -> Surroundings:
    """Find the tiles of the windows' recordings, or of all recordings of their subjects.

    Windows (N rows) have `row`, `subject` and `start`.
    """
    subjects = store.recordings["subject"]
    if context.of == "subject":
        rows = np.flatnonzero(subjects.isin(windows["subject"].unique()))
    else:
        rows = windows["row"].unique()
    ranges = store.ranges
    tiles = tiled(ranges[ranges["row"].isin(rows)], n_samples, n_samples, store.sfreq)
    tiles["subject"] = subjects.to_numpy()[tiles["row"]]
    onsets = store.onset_of(windows["row"].to_numpy(), windows["start"].to_numpy())
    both = pd.concat([windows.assign(onset=onsets), tiles], ignore_index=True)
    known = both.duplicated(PLACE) & (both.index >= len(windows))
    table = both[~known].reset_index(drop=True)
    place = table.reset_index().drop_duplicates(PLACE).set_index(PLACE)["index"]
    rows = place.loc[pd.MultiIndex.from_frame(tiles[PLACE])].to_numpy()
    return Surroundings(table, len(windows), rows)


def in_context(features: np.ndarray, around: Surroundings, context: ContextParams) -> np.ndarray:
    """Put features into their context.

    Parameters
    ----------
    features
        (M, D) of all windows of `around`; NaN is left out of means.
    around
        The windows, and the tiles of their recordings.
    context
        What is subtracted and averaged. Running, a window's own tile and those before count.

    Returns
    -------
    numpy.ndarray
        (N, D) of the windows that were asked for.
    """
    table, n = around.table, around.n_windows
    group = pd.factorize(table["subject" if context.of == "subject" else "row"])[0]
    row, onset = (table[name].to_numpy() for name in ("row", "onset"))
    # recordings of a subject follow each other in the order of the store
    tiles = around.tiles[np.lexsort([part[around.tiles] for part in (onset, row, group)])]
    recording = pd.Index(row[tiles]).unique().get_indexer(row)
    # rises over the tiles; recordings are further apart than they and the average are long
    time = recording * (onset.max() + context.seconds + 1.0) + onset

    def until(seconds: float) -> np.ndarray:
        return np.searchsorted(time[tiles], time[:n] + seconds + EPSILON)

    mean = _means(features[tiles])
    result = features[:n]
    if context.seconds:
        begin = np.searchsorted(time[tiles], time[:n] - context.seconds - EPSILON)
        end = until(0.0 if context.running else context.seconds)
        result = np.where((end > begin)[:, None], mean(begin, end), result)
    if context.recentre:
        first, last = (np.searchsorted(group[tiles], group[:n], side) for side in ("left", "right"))
        result = result - mean(first, until(0.0) if context.running else last)
    return result.astype(np.float32)


def _means(values: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Give a function from begins and ends (N,) of rows of (T, D) to their means (N, D)."""
    known = ~np.isnan(values)
    sums, counts = (
        np.concatenate([np.zeros_like(part[:1]), part]).cumsum(0)
        for part in (np.where(known, values, 0.0).astype(np.float64), known.astype(np.float32))
    )

    def mean(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # 0 / 0: no value is known
            return (sums[end] - sums[begin]) / (counts[end] - counts[begin])

    return mean
