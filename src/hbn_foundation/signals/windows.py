"""Cut recordings into windows: a window is a recording and a start, and copies nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.progress import say
from hbn_foundation.signals.params import WindowParams

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

COLUMNS = ("recording", "subject", "task", "run")


def window_length(seconds: float, sfreq: float) -> int:
    """Count the samples of a window.

    Raises
    ------
    UserError
        When the window is shorter than two samples.
    """
    n_samples = round(seconds * sfreq)
    if n_samples < 2:
        raise UserError(
            f"windows: seconds is {seconds:g}; expected at least two samples at {sfreq:g} Hz"
        )
    return n_samples


def cut_windows(store: SignalStore, params: WindowParams) -> pd.DataFrame:
    """Cut every usable recording into windows that lie wholly inside it.

    No window lies across a gap or touches a segment that is marked bad.

    Parameters
    ----------
    store
        The signal store.
    params
        Length and stride in seconds.

    Returns
    -------
    pandas.DataFrame
        `row` (of `store.recordings`), `recording`, `subject`, `task`, `run`, `start` (samples),
        `onset` (s of real time from the recording's first sample), one row per window, in the
        order of the recordings. Recordings without room for a window give none and are told.

    Raises
    ------
    UserError
        When no recording is as long as a window.
    """
    recordings = store.recordings
    n_samples = window_length(params.seconds, store.sfreq)
    stride = max(1, round(params.stride * store.sfreq))
    names = ("row", "start", "stop", "onset")
    rows, starts, stops, onsets = (store.ranges[name].to_numpy() for name in names)
    room = stops - starts - n_samples
    counts = np.where(room >= 0, room // stride + 1, 0)
    short = recordings["recording"][~np.isin(np.arange(len(recordings)), rows[counts > 0])]
    if len(short) == len(recordings):
        longest = float((stops - starts).max()) / store.sfreq if len(rows) else 0
        raise UserError(
            f"windows: seconds is {params.seconds:g}, but the longest of {len(recordings)} "
            f"usable recordings lasts {longest:.1f} s without a gap or a bad segment"
        )
    if len(short):
        say(f"{len(short)} recordings have no {params.seconds:g} s without a gap or a bad segment "
            f"and give no window: {first_few(short)}")  # fmt: skip
    row = np.repeat(rows, counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    later = (np.arange(len(row)) - first) * stride
    windows = recordings.loc[:, list(COLUMNS)].iloc[row].reset_index(drop=True)
    windows.insert(0, "row", row)
    windows["start"] = np.repeat(starts, counts) + later
    windows["onset"] = np.repeat(onsets, counts) + later / store.sfreq
    return windows


def subsample(n: int, most: int, seed: int) -> np.ndarray:
    """Positions of at most `most` of `n` items, evenly spaced from a random beginning."""
    if n <= most:
        return np.arange(n)
    offset = np.random.default_rng(seed).random()
    return np.floor((np.arange(most) + offset) * n / most).astype(np.int64)
