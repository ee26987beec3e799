"""Cut recordings into windows: tables of recordings and starts; no signal is copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, count_of, first_few
from hbn_foundation.labels.participants import is_excluded
from hbn_foundation.labels.trials import usable_trials
from hbn_foundation.progress import say
from hbn_foundation.signals.params import CropWindowParams, TrialWindowParams, WindowParams

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

COLUMNS = ("recording", "subject", "task", "run")
TRIAL_WINDOW_COLUMNS = ("trial", "stimulus", "rt", "correct", "side", "response_side")
"""Columns that a window takes over from its trial."""


def window_length(seconds: float, sfreq: float) -> int:
    """Count the samples of a window; fewer than two are a UserError."""
    n_samples = round(seconds * sfreq)
    if n_samples < 2:
        raise UserError(
            f"windows: seconds is {seconds:g}; expected at least two samples at {sfreq:g} Hz"
        )
    return n_samples


def tiled(ranges: pd.DataFrame, n_samples: int, stride: int, sfreq: float) -> pd.DataFrame:
    """Fill ranges with windows, one every `stride` samples.

    Ranges have `start` and `stop` (samples), `onset` (s) and an index without repetition; each
    becomes as many rows as it has windows, `start` and `onset` being those of the window.
    """
    counts = np.maximum((ranges["stop"] - ranges["start"] - n_samples) // stride + 1, 0)
    windows = ranges.loc[ranges.index.repeat(counts)]
    later = windows.groupby(level=0).cumcount().to_numpy() * stride
    return windows.assign(start=windows["start"] + later, onset=windows["onset"] + later / sfreq)


def cut_windows(store: SignalStore, params: WindowParams) -> pd.DataFrame:
    """Cut every usable recording into windows that lie wholly inside it.

    No window lies across a gap or touches a segment that is marked bad. Recordings that are too
    short for a window are logged; if all are, that is a UserError.

    Returns
    -------
    pandas.DataFrame
        `row` (of `store.recordings`), `recording`, `subject`, `task`, `run`, `start` (samples),
        `onset` (s of real time from the recording's first sample), one row per window, in the
        order of the recordings.
    """
    recordings = store.recordings
    n_samples = window_length(params.seconds, store.sfreq)
    stride = max(1, round(params.stride * store.sfreq))
    ranges = store.ranges
    found = tiled(ranges, n_samples, stride, store.sfreq)
    short = recordings["recording"][~recordings.index.isin(found["row"])]
    if len(short) == len(recordings):
        longest = (ranges["stop"] - ranges["start"]).to_numpy().max(initial=0) / store.sfreq
        raise UserError(
            f"windows: seconds is {params.seconds:g}, but the longest of {len(recordings)} "
            f"usable recordings lasts {longest:.1f} s without a gap or a bad segment"
        )
    if len(short):
        say(f"no window of {count_of(len(short), 'recording')} without {params.seconds:g} s free "
            f"of gaps and bad segments: {first_few(short)}")  # fmt: skip
    windows = recordings.loc[found["row"], list(COLUMNS)].reset_index(drop=True)
    windows.insert(0, "row", found["row"].to_numpy())
    windows["start"], windows["onset"] = found["start"].to_numpy(), found["onset"].to_numpy()
    return windows


def cut_trial_windows(
    store: SignalStore, trials: pd.DataFrame, params: TrialWindowParams | None = None
) -> pd.DataFrame:
    """Cut a window for each usable trial of the store's usable recordings, locked to its stimulus.

    A window begins at the sample nearest to the stimulus plus the offset, as the challenge
    counts it: each of the two is rounded to whole samples. A window does not touch a gap or a
    segment that is marked bad, and no gap lies between its stimulus and the response. Trials that
    are excluded, or whose subject the challenge excludes, get no window.

    Returns
    -------
    pandas.DataFrame
        `row` (of `store.recordings`), `recording`, `subject`, `task`, `run`, `start` (samples),
        `trial`, `stimulus` (s), `rt` (s), `correct` (1, 0, NaN), `side`, `response_side`; in the
        order of the recordings and of their trials. May be empty. Trials without a window are
        logged with the reason.
    """
    params = params or TrialWindowParams()
    names = store.recordings["recording"]
    usable = usable_trials(trials)
    row = usable["recording"].map(pd.Series(np.arange(len(names)), index=names))
    usable = usable[row.notna()].assign(row=row.dropna().astype(np.int64))
    usable = _without(usable, is_excluded(usable["subject"]), "excluded")
    usable = usable.sort_values(["row", "trial"], kind="stable")
    times = usable[["stimulus", "response"]].to_numpy(dtype=float)
    start, reason = locked(store, usable["row"].to_numpy(), times, params.offset, params.seconds)
    if without := Counter(reason[reason != ""]):
        words = "; ".join(f"{count}: {why}" for why, count in without.most_common())
        say(f"{without.total()} trials give no window ({words})")
    windows = usable.assign(start=start)[reason == ""]
    return windows[["row", *COLUMNS, "start", *TRIAL_WINDOW_COLUMNS]].reset_index(drop=True)


def locked(
    store: SignalStore, rows: np.ndarray, times: np.ndarray, offset: float, seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Place a window some time after each event.

    Parameters
    ----------
    store, rows
        The signals, and the row of the recording of each event (N,).
    times
        (N, 2) of each event and of the response to it, NaN without one; s.
    offset, seconds
        From an event to its window, and length of the window.

    Returns
    -------
    starts, reasons : numpy.ndarray
        (N,) in samples, and why there is no window, "" where there is one.
    """
    moved, length = round(offset * store.sfreq), window_length(seconds, store.sfreq)
    starts, reasons = np.zeros(len(rows), np.int64), np.full(len(rows), "", object)
    for row in np.unique(rows).tolist():
        own, timeline = rows == row, store.timeline(row)
        starts[own], reasons[own] = timeline.trial_windows(times[own], moved, length)
    return starts, reasons


def cut_crop_windows(
    store: SignalStore,
    people: pd.DataFrame,
    columns: Iterable[str],
    params: CropWindowParams,
    *,
    seconds: float,
    jitter: float,
) -> pd.DataFrame:
    """Cut windows longer than what a model takes, and name the crop in the middle of each.

    A training that shifts each start by up to `jitter` seconds to either side sees any crop of the
    window; an evaluation, which shifts none, sees the one in the middle. The encoder takes crops of
    `seconds`. Subjects for whom none of the columns of `people` is known are left out, and so are
    those that the challenge excludes.

    Returns
    -------
    pandas.DataFrame
        As of `cut_windows`, with start and onset of the crop; then the columns.

    Raises
    ------
    UserError
        When a shifted crop would reach beyond its window, a task or a column does not exist, or
        no window is left.
    """
    names = list(columns)
    longest = seconds + 2 * jitter
    if params.seconds < longest - 1e-9:
        raise UserError(
            f"windows.seconds={params.seconds:g}: a crop of {seconds:g} s that is shifted by up to "
            f"{jitter:g} s (regularisation.jitter_seconds) needs {longest:g} s"
        )
    if missing := [name for name in names if name not in people]:
        found = first_few((column for column in people if column != "subject"), 20)
        raise UserError(f"labels: {first_few(missing)} not in participants.tsv, which has {found}")
    windows = cut_windows(store, WindowParams(seconds=params.seconds, stride=params.stride))
    if params.tasks is not None:
        there = sorted(set(store.recordings["task"].dropna().astype(str)))
        if absent := sorted(set(params.tasks).difference(there)):
            raise UserError(
                f"windows.tasks: {first_few(absent)} not among the recordings, which are of "
                f"{first_few(there, 20)}"
            )
        windows = windows[windows["task"].isin(params.tasks)]
    numbers = people[names].apply(pd.to_numeric, errors="coerce").astype(float)
    numbers.index = pd.Index(people["subject"].astype(str))
    windows = _without(windows, is_excluded(windows["subject"]), "excluded")
    known = windows["subject"].astype(str).isin(numbers.index[numbers.notna().any(axis=1)])
    windows = _without(windows, ~known, f"without {' and '.join(names)}").reset_index(drop=True)
    if windows.empty:
        raise UserError(f"windows: no subject with a window has a known {' or '.join(names)}")
    rest = window_length(params.seconds, store.sfreq) - window_length(seconds, store.sfreq)
    windows["start"] += rest // 2
    windows["onset"] += rest // 2 / store.sfreq
    values = numbers.reindex(windows["subject"].astype(str)).reset_index(drop=True)
    return pd.concat([windows, values], axis=1)


def _without(table: pd.DataFrame, left_out: pd.Series, why: str) -> pd.DataFrame:
    """Leave out the rows of some subjects, and say whose."""
    if left_out.any():
        say(f"left out, {why}: {first_few(sorted(table['subject'][left_out].unique()))}")
    return table[~left_out]


def subsample(n: int, most: int, seed: int) -> np.ndarray:
    """Positions of at most `most` of `n` items, evenly spaced from a random beginning."""
    if n <= most:
        return np.arange(n)
    offset = np.random.default_rng(seed).random()
    return np.floor((np.arange(most) + offset) * n / most).astype(np.int64)
