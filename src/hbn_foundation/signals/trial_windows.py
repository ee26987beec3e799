"""Cut one window per trial, locked to its stimulus."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.participants import EXCLUDED_SUBJECTS
from hbn_foundation.labels.trials import usable_trials
from hbn_foundation.progress import say
from hbn_foundation.signals.params import TrialWindowParams
from hbn_foundation.signals.windows import COLUMNS, window_length

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore

OF_TRIAL = ("trial", "stimulus", "rt", "correct", "side", "response_side")
"""What a trial window tells of its trial."""


def cut_trial_windows(
    store: SignalStore, trials: pd.DataFrame, params: TrialWindowParams | None = None
) -> pd.DataFrame:
    """Cut a window for each usable trial of the store's usable recordings.

    A window begins at the sample nearest to the stimulus plus the offset, as the challenge
    counts it: each of the two is rounded to whole samples. Onsets are seconds of real time from
    the first sample of a recording. A window does not touch a gap or a segment that is marked bad,
    and no gap lies between its stimulus and the response.

    Parameters
    ----------
    store
        The signal store.
    trials
        As `recording_trials` gives them; excluded ones get no window, nor do those of subjects
        that the challenge excludes.
    params
        Offset and length in seconds.

    Returns
    -------
    pandas.DataFrame
        `row` (of `store.recordings`), `recording`, `subject`, `task`, `run`, `start` (samples),
        `trial`, `stimulus` (s), `rt` (s), `correct` (1, 0, NaN), `side`, `response_side`; in the
        order of the recordings and of their trials. May be empty. Trials that get none are told
        with the reason.
    """
    params = params or TrialWindowParams()
    recordings = store.recordings
    rows = pd.Series(np.arange(len(recordings)), index=recordings["recording"])
    usable = usable_trials(trials)
    row = usable["recording"].map(rows)
    usable = usable[row.notna()].assign(row=row.dropna().astype(np.int64))
    excluded = usable["subject"].isin(EXCLUDED_SUBJECTS)
    if excluded.any():
        say(f"left out, excluded: {first_few(sorted(usable['subject'][excluded].unique()))}")
    usable = usable[~excluded].sort_values(["row", "trial"], kind="stable")
    offset = round(params.offset * store.sfreq)
    length = window_length(params.seconds, store.sfreq)
    start = np.zeros(len(usable), np.int64)
    reason = np.full(len(usable), "", object)
    times = usable[["stimulus", "response"]].to_numpy(dtype=float)
    of_row = usable["row"].to_numpy()
    for number in np.unique(of_row).tolist():
        places = np.flatnonzero(of_row == number)
        start[places], reason[places] = store.timeline(number).trial_windows(
            times[places], offset, length
        )
    if without := Counter(reason[reason != ""]):
        words = "; ".join(f"{count}: {why}" for why, count in without.most_common())
        say(f"{without.total()} trials give no window ({words})")
    windows = usable.assign(start=start)[reason == ""]
    return windows[["row", *COLUMNS, "start", *OF_TRIAL]].reset_index(drop=True)


def windows_of_label(
    label: LabelParams,
    windows: pd.DataFrame,
    store: SignalStore,
    trials: pd.DataFrame,
    params: TrialWindowParams,
    seconds: float,
) -> pd.DataFrame:
    """Return the windows that a label is learned from: those of the trials, or all there are.

    Parameters
    ----------
    label
        What is to be learned.
    windows
        The ordinary windows, returned as they are for labels of tasks and participants.
    store, trials, params
        As `cut_trial_windows` takes them.
    seconds
        Length of the windows that the encoder takes.

    Raises
    ------
    UserError
        For a label of trials: when the windows of trials have another length than the encoder's,
        there are no trials, or none of them has a window.
    """
    if label.kind != "trial":
        return windows
    return windows_of_trials(label, store, trials, params, seconds)


def windows_of_trials(
    label: LabelParams,
    store: SignalStore,
    trials: pd.DataFrame,
    params: TrialWindowParams,
    seconds: float,
) -> pd.DataFrame:
    """Return the windows of the trials, for a label that is one of trials.

    Parameters
    ----------
    label, store, trials, params, seconds
        As for `windows_of_label`.

    Raises
    ------
    UserError
        As `windows_of_label`; and for any other label.
    """
    if label.kind != "trial":
        raise UserError(
            f"label.kind={label.kind}: the windows here are those of trials; take trial"
        )
    if window_length(params.seconds, store.sfreq) != window_length(seconds, store.sfreq):
        raise UserError(
            f"trial_windows.seconds={params.seconds:g}: the encoder takes windows of {seconds:g} s"
        )
    if trials.empty:
        raise UserError(
            "labels: kind: trial, but the recordings have no trials: no events.tsv beside them "
            "has the events that ingestion.trials names"
        )
    chosen = cut_trial_windows(store, trials, params)
    if chosen.empty:
        reasons = trials["excluded"].replace("", "without a whole window in a usable recording")
        words = (f"{count} {reason}" for reason, count in reasons.value_counts().items())
        raise UserError(
            f"labels: kind: trial, but of {len(trials)} trials none is left: {', '.join(words)}"
        )
    return chosen
