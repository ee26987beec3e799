"""Windows of events: locked to their onsets, or side by side within the blocks they begin."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.events import IDENTITY, label_events
from hbn_foundation.progress import say
from hbn_foundation.signals.windows import locked, tiled

if TYPE_CHECKING:
    from hbn_foundation.labels.params import LabelParams
    from hbn_foundation.signals.store import SignalStore

COLUMNS = ["row", *IDENTITY, "start", "onset", "event_number", "event"]
SHORT = "shorter than a window after its margins"
LATE = "begins beyond the end of the recording"
BROKEN = "no whole window between gaps and segments marked bad"


def cut_event_windows(
    store: SignalStore, events: pd.DataFrame, label: LabelParams, seconds: float
) -> pd.DataFrame:
    """Cut the windows that a label of events gives.

    Windows lie within one event's block, less its margins, and touch no gap and no segment that is
    marked bad. Onsets are seconds of real time from the first sample of a recording. Blocks of
    one class that touch or overlap are one block.

    Parameters
    ----------
    store
        The signal store.
    events
        As returned by `recording_events`.
    label
        Of the kind `event`.
    seconds
        Length of a window.

    Returns
    -------
    pandas.DataFrame
        `row` (of `store.recordings`), `recording`, `subject`, `task`, `run`, `start` (samples),
        `onset` (s), `event_number` (from 0 in each recording) and `event` (the class or number as
        text), in the order of the recordings and of time. Events without a window are counted by
        reason and logged.

    Raises
    ------
    UserError
        As `label_events`; when blocks of different classes overlap, or no window is left.
    """
    names = store.recordings["recording"]
    chosen = label_events(events, label)
    row = chosen["recording"].map(pd.Series(np.arange(len(names)), index=names))
    if row.isna().all():
        raise UserError(
            f"labels: none of {len(chosen)} events of {label.column} belongs to a usable recording"
        )
    chosen = chosen[row.notna()].assign(row=row.dropna().astype(np.int64))
    chosen = chosen.sort_values(["row", "onset"], kind="stable").reset_index(drop=True)
    if label.windows == "until_next":
        following = chosen.groupby("row")["onset"].shift(-1)
        chosen["duration"] = following.fillna(np.inf) - chosen["onset"]
    blocks = chosen if label.windows == "locked" else _blocks(chosen)
    blocks["event_number"] = blocks.groupby("row").cumcount()
    cut = _locked if label.windows == "locked" else _tiled
    windows, reasons = cut(store, blocks, label, seconds)
    if without := Counter(reasons):
        words = "; ".join(f"{count}: {why}" for why, count in without.most_common())
        if windows.empty:
            raise UserError(
                f"labels: none of {len(blocks)} events of {label.column} gives a window of "
                f"{seconds:g} s ({words})"
            )
        say(f"{without.total()} of {len(blocks)} events give no window ({words})")
    return windows.sort_values(["row", "start"], kind="stable")[COLUMNS].reset_index(drop=True)


def _locked(
    store: SignalStore, events: pd.DataFrame, label: LabelParams, seconds: float
) -> tuple[pd.DataFrame, list[str]]:
    """Place a window at each onset, and say why others have none."""
    onset = events["onset"].to_numpy()
    times = np.column_stack([onset, np.full(len(events), np.nan)])  # without a response
    start, reason = locked(store, events["row"].to_numpy(), times, label.offset, seconds)
    kept = reason == ""
    table = events.assign(start=start, onset=onset + label.offset)
    return table[kept], reason[~kept].tolist()


def _blocks(events: pd.DataFrame) -> pd.DataFrame:
    """Join the blocks of a class that touch or overlap; those of different classes must not."""
    events = events.assign(end=events["onset"] + events["duration"].fillna(0.0))
    keys = ["row", "event"]
    latest = events.groupby(keys)["end"].cummax()
    before = latest.groupby([events[key] for key in keys]).shift()
    begins = before.isna() | (events["onset"] > before + 1e-6)
    number = begins.groupby([events[key] for key in keys]).cumsum()
    first = dict.fromkeys((*IDENTITY, "onset"), "first")
    blocks = events.groupby([*keys, number.rename("block")], sort=False).agg(first | {"end": "max"})
    blocks = blocks.reset_index().sort_values(["row", "onset"], kind="stable", ignore_index=True)
    following = blocks.groupby("row")[["onset", "event"]].shift(-1)
    overlaps = blocks[blocks["end"] > following["onset"] + 1e-6]
    if len(overlaps):
        one, other = overlaps.iloc[0], following.loc[overlaps.index[0]]
        raise UserError(
            f"labels: {one['recording']}: {one['event']} lasts from {one['onset']:g} s to "
            f"{one['end']:g} s, but {other['event']} begins at {other['onset']:g} s; blocks of "
            "different classes must not overlap (label.windows: until_next ends each at the next)"
        )
    return blocks


def _tiled(
    store: SignalStore, blocks: pd.DataFrame, label: LabelParams, seconds: float
) -> tuple[pd.DataFrame, list[str]]:
    """Fill blocks with windows side by side, and say why others have none."""
    rate, ranges = store.sfreq, store.ranges.rename(columns={"onset": "time"})
    length, stride = round(seconds * rate), max(1, round((label.stride or seconds) * rate))
    parts = blocks.assign(block=blocks.index).merge(ranges, on="row")
    room = (parts["stop"] - parts["start"]) / rate
    begin = (parts["onset"] + label.margin - parts["time"]).clip(0, room)
    end = (parts["end"] - label.margin - parts["time"]).clip(0, room)
    first = np.ceil(begin * rate - 1e-3).astype(np.int64)
    last = np.floor(end * rate + 1e-3).astype(np.int64)
    inside = parts.assign(
        start=parts["start"] + first, stop=parts["start"] + last, onset=parts["time"] + first / rate
    )
    windows = tiled(inside, length, stride, rate)
    empty = blocks.drop(windows["block"].unique())
    ends = (ranges["time"] + (ranges["stop"] - ranges["start"]) / rate).groupby(ranges["row"]).max()
    late = empty["onset"] >= empty["row"].map(ends).fillna(0.0)
    short = empty["end"] - empty["onset"] - 2 * label.margin < seconds - 1e-6
    return windows, np.select([late, short], [LATE, SHORT], BROKEN).tolist()
