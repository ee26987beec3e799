"""Windows of events lie within one block, one stretch and real time."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.recordings.timeline import Segment, Stretch, Timeline
from hbn_foundation.signals.event_windows import LATE, SHORT, cut_event_windows
from hbn_foundation.signals.store import SignalStore, store_from_arrays

#: 60 s of samples in 100 s of real time: a pause from 30 to 70 s; 80.5 to 81 s are marked bad.
BROKEN = Timeline(100.0, (Stretch(0, 3000, 0.0), Stretch(3000, 6000, 70.0)), (Segment(4050, 4100),))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SignalStore:
    """Two recordings of a minute, the second broken."""
    signal = np.random.default_rng(0).standard_normal((6000, 3)).astype(np.float16)
    rows = [
        ({"recording": f"sub-{i}", "subject": str(i), "task": "rest", "run": "1", **more}, signal)
        for i, more in enumerate(({}, {"timeline": BROKEN}))
    ]
    path = tmp_path_factory.mktemp("store")
    return store_from_arrays(path, rows, ("A", "B", "C"), np.eye(3))


def events(*rows: tuple[int, float, float, str]) -> pd.DataFrame:
    """Events of (number of the recording, onset, duration, trial_type)."""
    table = pd.DataFrame(rows, columns=["number", "onset", "duration", "trial_type"])
    number = table.pop("number").astype(str)
    return table.assign(recording="sub-" + number, subject=number, task="rest", run="1")


def label(**fields) -> LabelParams:
    return LabelParams(**{"kind": "event", "column": "trial_type", **fields})


def test_blocks_are_filled_between_their_margins(store):
    table = events((0, 0, 20, "closed"), (0, 20, 21, "open"))
    windows = cut_event_windows(store, table, label(margin=8.0), 2.0)
    assert windows["start"].tolist() == [800, 1000, 2800, 3000]
    assert windows["onset"].tolist() == [8.0, 10.0, 28.0, 30.0]
    assert windows["event"].tolist() == ["closed", "closed", "open", "open"]
    assert windows["event_number"].tolist() == [0, 0, 1, 1]
    half = cut_event_windows(store, table, label(margin=8.0, stride=1.0), 2.0)
    assert half["start"].tolist() == [800, 900, 1000, 2800, 2900, 3000, 3100]


def test_labels_follow_real_time_across_a_pause(store):
    table = events((1, 20, 55, "a"), (1, 75, 10, "b"))
    windows = cut_event_windows(store, table, label(), 2.0)
    of = windows.groupby("event")["start"].apply(list)
    # a lasts over the pause: 20–30 s and 70–75 s, where the second stretch begins at sample 3,000
    assert of["a"] == [2000, 2200, 2400, 2600, 2800, 3000, 3200]
    # b from 75 s, sample 3,500, less what touches the bad segment from sample 4,050 to 4,100
    assert of["b"] == [3500, 3700, 4100, 4300]


def test_each_block_ends_at_the_next(store):
    table = events((0, 0, 0, "a"), (0, 10, np.nan, "b"))
    windows = cut_event_windows(store, table, label(windows="until_next"), 5.0)
    assert windows["event"].tolist() == ["a"] * 2 + ["b"] * 10


def test_locked_windows_begin_at_the_offset(store, caplog):
    caplog.set_level("INFO")
    table = events((0, 1.0, 0, "a"), (0, 30.25, 0, "b"), (0, 59.5, 0, "a"), (1, 29.0, 0, "a"))
    windows = cut_event_windows(store, table, label(windows="locked", offset=-0.5), 2.0)
    assert windows["start"].tolist() == [50, 2975]
    assert windows["onset"].tolist() == [0.5, 29.75]
    assert "2 of 4 events give no window" in caplog.text


def test_blocks_of_one_class_that_touch_are_one(store):
    table = events((0, 0, 15, "a"), (0, 15, 15, "a"), (0, 30, 30, "b"))
    windows = cut_event_windows(store, table, label(margin=5.0), 2.0)
    assert windows["start"].tolist()[:10] == list(range(500, 2500, 200))
    assert windows["event_number"].unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (((0, 0, 20, "a"), (0, 5, 2, "a"), (0, 10, 20, "b")),
         "sub-0: a lasts from 0 s to 20 s, but b begins at 10 s; blocks of different classes"),
        (((0, 0, 5, "a"), (0, 5, 5, "b")), rf"none of 2 events .* \(2: {SHORT}\)"),
        (((0, 61, 30, "a"), (1, 100, 30, "b")), rf"none of 2 events .* \(2: {LATE}\)"),
        (((7, 0, 30, "a"),), "none of 1 events of trial_type belongs to a usable recording"),
    ],
)  # fmt: skip
def test_blocks_without_windows_are_one_line(store, rows, message):
    with pytest.raises(UserError, match=message):
        cut_event_windows(store, events(*rows), label(margin=2.0), 2.0)


@settings(max_examples=40)
@given(
    st.lists(st.floats(0.5, 30), min_size=2, max_size=8),
    st.floats(0, 3),
    st.floats(0.3, 4),
    st.sampled_from([0, 1]),
)
def test_no_window_crosses_a_change_of_state_or_a_gap(store, durations, margin, stride, number):
    edges = np.concatenate([[0], np.cumsum(durations)])
    names = ["a", "b"] * len(durations)
    table = events(*zip([number] * len(durations), edges, durations, names, strict=False))
    try:
        windows = cut_event_windows(store, table, label(margin=margin, stride=stride), 2.0)
    except UserError:
        return
    timeline = store.timeline(number)
    inside = timeline.inside(windows["start"].to_numpy(), 200)
    assert inside.all()
    times = np.array([_time(timeline, start) for start in windows["start"]])
    np.testing.assert_allclose(windows["onset"], times, atol=1e-9)
    block = windows["event_number"].to_numpy()
    assert (times >= edges[block] + margin - 2e-5).all()
    assert (times + 2.0 <= edges[block + 1] - margin + 2e-5).all()
    assert (windows["event"] == np.array(names)[block]).all()


def _time(timeline: Timeline, sample: int) -> float:
    start, _, onset = next(s for s in timeline.stretches if s.start <= sample < s.stop)
    return onset + (sample - start) / timeline.sfreq
