"""What surrounds a window: features relative to its recording, and averaged over its neighbours.

No label is used, and no gap in a recording is bridged other than by real time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, count_of
from hbn_foundation.signals.windows import tiled

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.signals.params import ContextParams
    from hbn_foundation.signals.store import SignalStore

PLACE = ["row", "start"]
SEQUENCE, WINDOW = "sequence", "window"
PLACES = (SEQUENCE, "part", "onset", "tile")
"""Columns that say where in a sequence a window is."""
EPSILON = 1e-6  # s
MIN_WINDOWS = 3  # of a recording that features are relative to


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


def too_short(windows_of: pd.Series, context: ContextParams) -> str:
    """Say how many recordings have too few windows to be relative to their own mean, if any have.

    The numbers of windows are by recording.
    """
    n = int((windows_of < MIN_WINDOWS).sum())
    if not n or context.of != "recording" or not context.recentre:
        return ""
    return (
        f"context.of=recording: {count_of(n, 'recording')} of {len(windows_of)} with fewer than "
        "three windows; relative to their own mean little or nothing is left of them"
    )


def check_context(dataset: EEGDataset, context: ContextParams) -> list[str]:
    """Make sure that recordings are long enough; return what is to be said about the context.

    Raises
    ------
    UserError
        When no recording is longer than what is averaged over.
    """
    recordings = dataset.store.recordings
    longest = float(recordings["duration"].max())
    if context.is_used and context.seconds >= longest:
        raise UserError(
            f"context.seconds={context.seconds:g}: the longest recording lasts {longest:.0f} s, so "
            "that an average would be over all of it; expected less"
        )
    if context.of == "subject" and recordings["subject"].is_unique:
        return ["context.of=subject: each subject has one recording, as with of: recording"]
    ranges = dataset.store.ranges
    tiles = (ranges["stop"] - ranges["start"]) // dataset.n_samples
    of_each = tiles.groupby(ranges["row"]).sum()
    short = too_short(of_each[of_each > 0], context)
    return [short] if short else []


def sequences(
    store: SignalStore,
    windows: pd.DataFrame,
    n_samples: int,
    context: ContextParams,
    most: int,
) -> pd.DataFrame:
    """Put windows and the tiles of their recordings into the order of time, in pieces.

    Returns
    -------
    pandas.DataFrame
        The columns of the windows; `window`, the row of each in `windows`, −1 of further tiles;
        `sequence`, a number for each recording, or subject, or piece of it with about `most`
        tiles, which know nothing of each other; `part`, a number for each recording in a sequence;
        `onset` (s) and `tile` (1 or 0).
    """
    around = surroundings(store, windows, n_samples, context)
    table, n = around.table, around.n_windows
    of = "subject" if context.of == "subject" else "row"
    table[WINDOW] = np.where(table.index < n, table.index, -1)
    table["tile"] = table.index.isin(around.tiles).astype(int)
    table = table.sort_values([of, "row", "onset"], kind="stable", ignore_index=True)
    # by the tiles alone, so that an answer does not depend on what else is asked
    n_pieces = -(-table.groupby(of)["tile"].transform("sum") // most)
    within = table.groupby("row")["tile"]  # each piece has a stretch of each recording
    piece = (within.cumsum() - 1).clip(lower=0) * n_pieces // within.transform("sum")
    table[SEQUENCE] = table.groupby([table[of], piece]).ngroup()
    table = table.sort_values([SEQUENCE, "row", "onset"], kind="stable", ignore_index=True)
    table["part"] = table.groupby([SEQUENCE, "row"]).ngroup()
    for name in ("recording", "task", "run"):
        if name in table:
            table[name] = store.recordings[name].to_numpy()[table["row"]]
    return table


def pieces(windows: pd.DataFrame) -> list[np.ndarray]:
    """Give the rows of each sequence of a table, in the order of their numbers; [] of none."""
    if SEQUENCE not in windows:
        return []
    return [np.asarray(rows) for rows in windows.groupby(SEQUENCE).indices.values()]


def per_batch(sequences: Sequence[np.ndarray], batch_size: int) -> int:
    """Count the sequences of a batch."""
    return max(1, batch_size // max(map(len, sequences)))


def count_batches(sequences: Sequence[np.ndarray], batch_size: int, drop_last: bool) -> int:
    """Count the batches of a pass over sequences; a pass has one at least."""
    count = len(sequences) / per_batch(sequences, batch_size)
    return max(1, math.floor(count) if drop_last else math.ceil(count))


def most_at_once(sequences: Sequence[np.ndarray], batch_size: int) -> int:
    """Count the windows of the largest batch that there may be."""
    if not sequences:
        return batch_size
    return per_batch(sequences, batch_size) * max(map(len, sequences))


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
