"""Trials of a task with targets and button presses: response times and success.

The rules are those of the 2025 EEG Foundation Challenge for the contrast change detection task.
A trial runs from one start to the next one, by time and not by the order of the rows: a press at
the very time of the next start belongs to that next trial. Its stimulus is the first target in
it, its response the *first* press at or after the stimulus. Later presses are ignored: taking the
last one instead would change the response time of 7 % of HBN's trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from hbn_foundation.bids import sidecar
from hbn_foundation.errors import count_of, first_few
from hbn_foundation.labels.params import TrialParams
from hbn_foundation.progress import say, track
from hbn_foundation.sidecars import number, read_table

NO_TARGET = "no target"
NO_PRESS = "no press after the target"
RUN_ENDS = "the run ends in this trial"

TRIAL_COLUMNS = {
    "trial": "int64",
    "onset": "float64",
    "stimulus": "float64",
    "side": "string",
    "response": "float64",
    "response_side": "string",
    "rt": "float64",
    "correct": "float64",
    "n_presses": "int64",
    "excluded": "string",
}
RECORDING_COLUMNS = ("recording", "subject", "task", "run")


def recording_trials(recordings: pd.DataFrame, params: TrialParams | None = None) -> pd.DataFrame:
    """Make the trials of every recording of `find_recordings` from the events beside it.

    Returns
    -------
    pandas.DataFrame
        One row per trial, in the order of the recordings and of time: `recording`, `subject`,
        `task`, `run`, `trial` (its number, from 1), `onset` (its start), `stimulus`, `side` (left
        or right), `response`, `response_side`, `rt` (response − stimulus), `correct` (1 or 0; NaN
        without a response or feedback), `n_presses` (from the stimulus to the end of the trial),
        `excluded` (the reason, "" if the trial is usable). Times in s, NaN if missing. The last
        start of a run makes a row, which is excluded, only if a target follows it.

        Events without an onset or of other names are ignored. A recording without events, or
        whose events make no trial, has no row; neither has one whose file cannot be read, which
        is logged.
    """
    params = params or TrialParams()
    types = dict.fromkeys(RECORDING_COLUMNS, "string") | TRIAL_COLUMNS
    parts: dict[str, list[np.ndarray]] = {name: [] for name in types}
    broken, nameless = [], []
    names = [*RECORDING_COLUMNS, "bids_root", "path"]
    listed = recordings[names].astype(object).itertuples(index=False, name=None)
    for *identity, root, path in track(listed, "Reading events", total=len(recordings)):
        try:
            events = _read_events(root, path, params)
        except ValueError as error:
            broken.append(str(error))
            continue
        if events is None:
            continue
        if params.event_column not in events:
            nameless.append(identity[0])
        trials = _trials(events, params)
        for name, value in zip(RECORDING_COLUMNS, identity, strict=True):
            parts[name].append(np.full(len(trials["trial"]), value, dtype=object))
        for name, values in trials.items():
            parts[name].append(values)
    if broken:
        say(f"left out: {count_of(len(broken), 'events file')}: {first_few(broken, 2)}")
    if nameless:
        say(f"events of {first_few(nameless)} have no column {params.event_column} and give no "
            "trial")  # fmt: skip
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items() if arrays}
    table = pd.DataFrame(
        {name: pd.Series(joined.get(name, []), dtype=kind) for name, kind in types.items()}
    )
    if len(table):
        found = table["excluded"].replace("", "usable").value_counts()
        among = count_of(table["recording"].nunique(), "recording")
        words = ", ".join(f"{count} {what}" for what, count in found.items())
        say(f"{count_of(len(table), 'trial')} in {among}: {words}")
    return table


def _read_events(root: str | Path, path: str, params: TrialParams) -> dict[str, np.ndarray] | None:
    """Read a recording's events.tsv: texts by column; None without the file.

    Making a pandas table of each of tens of thousands takes ten times as long as reading them.
    """
    file = sidecar(root, path, "events.tsv")
    if file is None:
        return None
    table = read_table(file, ("onset", params.event_column, params.feedback_column))
    return {name: np.array([row[name] for row in table.rows], str) for name in table.columns}


def usable_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Keep the trials that are not excluded: those with a stimulus and a response."""
    return trials[trials["excluded"] == ""].reset_index(drop=True)


def _trials(events: Mapping[str, np.ndarray], params: TrialParams) -> dict[str, np.ndarray]:
    """Return the columns of the trials from those of events.tsv."""
    onsets, names, feedback = _sorted(events, params)
    starts = np.unique(onsets[np.isin(names, params.starts)])
    ends = np.append(starts[1:], np.inf)[: len(starts)]
    is_target, is_press = (np.isin(names, list(one)) for one in (params.targets, params.presses))
    target, n_targets = _first_within(onsets[is_target], starts, ends)
    shown = n_targets > 0
    stimulus = _at(onsets[is_target], target, shown)
    press, n_presses = _first_within(onsets[is_press], stimulus, ends)
    answered = n_presses > 0
    response = _at(onsets[is_press], press, answered)
    closed = np.isfinite(ends)
    excluded = np.select([~shown, ~closed, ~answered], [NO_TARGET, RUN_ENDS, NO_PRESS], "")
    columns = {
        "trial": np.arange(1, len(starts) + 1),
        "onset": starts,
        "stimulus": stimulus,
        "side": _sides(names[is_target], target, shown, params.targets),
        "response": response,
        "response_side": _sides(names[is_press], press, answered, params.presses),
        "rt": response - stimulus,
        "correct": _at(_judged(feedback[is_press], params), press, answered),
        "n_presses": n_presses,
        "excluded": excluded,
    }
    return {name: values[shown | closed] for name, values in columns.items()}


def _sorted(
    events: Mapping[str, np.ndarray], params: TrialParams
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Onsets (s), names and feedback of the events that have an onset, by time."""
    if "onset" not in events or params.event_column not in events:
        return np.empty(0), np.empty(0, dtype=str), np.empty(0, dtype=str)
    onsets = np.array([number(text) for text in events["onset"]], dtype=float)
    names = events[params.event_column]
    feedback = events.get(params.feedback_column, np.full(len(onsets), ""))
    order = np.argsort(onsets, kind="stable")
    order = order[np.isfinite(onsets[order])]
    return onsets[order], names[order], feedback[order]


def _first_within(
    times: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Position of the first of the sorted times in each [start, end), and how many are in it."""
    first = np.searchsorted(times, starts)
    count = np.searchsorted(times, ends) - first
    return first, np.where(np.isnan(starts), 0, count)


def _at(values: np.ndarray, positions: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Values at the positions (float), NaN where there is none."""
    found = np.full(len(positions), np.nan)
    found[there] = values[positions[there]]
    return found


def _judged(feedback: np.ndarray, params: TrialParams) -> np.ndarray:
    """1 if the feedback calls the press correct, 0 if it does not, NaN without feedback."""
    right = np.isin(feedback, params.correct_feedback).astype(float)
    right[np.isin(feedback, ("", "n/a"))] = np.nan
    return right


def _sides(
    names: np.ndarray, positions: np.ndarray, there: np.ndarray, sides: Mapping[str, str]
) -> np.ndarray:
    found = np.full(len(positions), None, dtype=object)
    found[there] = [sides[name] for name in names[positions[there]]]
    return found
