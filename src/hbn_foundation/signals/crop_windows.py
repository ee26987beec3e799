"""Cut recordings into windows longer than what a model takes, of which it sees a crop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.labels.participants import EXCLUDED_SUBJECTS
from hbn_foundation.progress import say
from hbn_foundation.signals.params import CropWindowParams, WindowParams
from hbn_foundation.signals.windows import cut_windows, window_length

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore


def cut_crop_windows(
    store: SignalStore,
    people: pd.DataFrame,
    columns: Iterable[str],
    params: CropWindowParams,
    *,
    seconds: float,
    jitter: float,
) -> pd.DataFrame:
    """Cut windows of the chosen tasks, and name the crop in the middle of each.

    A training that shifts each start by up to `jitter` seconds to either side sees any crop of the
    window; whoever does not sees the one in the middle.

    Parameters
    ----------
    store
        The signal store.
    people
        One row per subject: `subject`, and what is to be learned about it.
    columns
        Of `people`, numbers, which the windows are given; a subject of whom none is known is left
        out, and so are those that the challenge excludes.
    params
        Tasks, length and stride in seconds.
    seconds
        Length of a crop, which the encoder takes.
    jitter
        Largest shift in training.

    Returns
    -------
    pandas.DataFrame
        `row` (of `store.recordings`), `recording`, `subject`, `task`, `run`, `start` (samples, of
        the crop), `onset` (s of real time), then the columns; in the order of the recordings.

    Raises
    ------
    UserError
        When a shifted crop would reach beyond its window, a task or a column is not there, or no
        window is left.
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
    windows = _of_tasks(windows, store, params.tasks)
    numbers = people[names].apply(pd.to_numeric, errors="coerce").astype(float)
    numbers.index = pd.Index(people["subject"].astype(str))
    windows = _of_known(windows, numbers)
    rest = window_length(params.seconds, store.sfreq) - window_length(seconds, store.sfreq)
    windows["start"] += rest // 2
    windows["onset"] += rest // 2 / store.sfreq
    values = numbers.reindex(windows["subject"].astype(str)).reset_index(drop=True)
    return pd.concat([windows, values], axis=1)


def _of_known(windows: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    """Keep the windows of subjects of whom some number is known, unless they are excluded."""
    names = [str(name) for name in numbers]
    subjects = windows["subject"].astype(str)
    excluded = subjects.isin(EXCLUDED_SUBJECTS)
    unknown = ~excluded & ~subjects.isin(numbers.index[numbers.notna().any(axis=1)])
    for which, why in ((excluded, "excluded"), (unknown, f"without {' and '.join(names)}")):
        if which.any():
            dropped = sorted(subjects[which].unique())
            say(f"left out, {why}: {first_few(dropped)}")
    known = windows[~excluded & ~unknown].reset_index(drop=True)
    if known.empty:
        raise UserError(f"windows: no subject with a window has a known {' or '.join(names)}")
    return known


def _of_tasks(
    windows: pd.DataFrame, store: SignalStore, tasks: tuple[str, ...] | None
) -> pd.DataFrame:
    """Keep the windows of some tasks, each of which must be there."""
    if tasks is None:
        return windows
    there = sorted(set(store.recordings["task"].dropna().astype(str)))
    if missing := sorted(set(tasks).difference(there)):
        raise UserError(
            f"windows.tasks: {first_few(missing)} not among the recordings, which are of "
            f"{first_few(there, 20)}"
        )
    return windows[windows["task"].isin(tasks)]
