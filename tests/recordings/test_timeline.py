"""Windows lie in what was recorded without a break and is not marked bad."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.recordings.timeline import (
    BAD,
    BEYOND,
    GAP,
    Segment,
    Stretch,
    Timeline,
    merged,
)

LENGTHS = st.lists(st.tuples(st.integers(1, 700), st.floats(0, 90)), min_size=1, max_size=5)
SPANS = st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 300)), max_size=5)


def timeline_of(parts: list[tuple[int, float]], spans: list[tuple[int, int]]) -> Timeline:
    """Stretches of some samples, each after a pause, and bad segments."""
    stretches, start, onset = [], 0, 0.0
    for place, (length, pause) in enumerate(parts):
        onset += pause if place else 0.0
        stretches.append(Stretch(start, start + length, onset))
        start, onset = start + length, onset + length / 100
    bad = [
        Segment(max(a, s.start), min(b, s.stop))
        for s in stretches
        for a, b in merged([(first, first + n) for first, n in spans])
        if a < s.stop and b > s.start
    ]
    return Timeline(100.0, tuple(stretches), tuple(bad))


def forbidden(timeline: Timeline) -> tuple[np.ndarray, np.ndarray]:
    """Stretch of each sample, and whether it is marked bad."""
    stretch = np.concatenate(
        [np.full(s.stop - s.start, i) for i, s in enumerate(timeline.stretches)]
    )
    bad = np.zeros(len(stretch), bool)
    for start, stop in timeline.bad:
        bad[start:stop] = True
    return stretch, bad


@given(LENGTHS, SPANS, st.integers(2, 300), st.integers(1, 150))
def test_windows_are_all_that_touch_no_gap_and_nothing_bad(parts, spans, n_samples, stride):
    timeline = timeline_of(parts, spans)
    stretch, bad = forbidden(timeline)
    for start in timeline.starts(n_samples, stride).tolist():
        assert len(set(stretch[start : start + n_samples].tolist())) == 1
        assert not bad[start : start + n_samples].any()
    good = ~bad
    assert sum(int(stop - start) for start, stop in timeline.allowed) == good.sum()
    every = [
        start
        for start in range(len(stretch) - n_samples + 1)
        if good[start : start + n_samples].all() and np.ptp(stretch[start : start + n_samples]) == 0
    ]
    assert timeline.starts(n_samples, 1).tolist() == every
    assert timeline.inside(np.array(every, int), n_samples).all()


@given(LENGTHS, SPANS, st.data())
def test_a_time_finds_its_sample(parts, spans, data):
    timeline = timeline_of(parts, spans)
    place = data.draw(st.integers(0, len(timeline.stretches) - 1))
    start, stop, onset = timeline.stretches[place]
    sample = data.draw(st.integers(start, stop - 1))
    time = round(onset + (sample - start) / 100, 3)
    found = timeline.places(np.array([time]))
    # where the pause is shorter than a sample, the stretch before may claim the time
    assert found[1][0] - sample in (0, -1, 1)
    if place == 0 or onset - timeline.stretches[place - 1].onset > (start + 2) / 100:
        assert found[0][0] in (place, place + 1)


def test_why_a_trial_has_no_window():
    timeline = Timeline(
        100.0,
        (Stretch(0, 1000, 0.0), Stretch(1000, 2000, 70.0)),
        (Segment(1300, 1310),),
    )
    stimulus = np.array([1.0, 8.6, 7.4, 30.0, 71.0, 75.0, 78.6, 9.0])
    response = np.array([2.0, 9.9, 70.1, 31.0, 72.0, 79.9, 79.0, np.nan])
    start, reason = timeline.trial_windows(np.column_stack([stimulus, response]), 50, 100)
    assert reason.tolist() == ["", GAP, GAP, GAP, "", "", BEYOND, GAP]
    assert start[[0, 4, 5]].tolist() == [150, 1150, 1550]
    start, reason = timeline.trial_windows(np.array([[72.0, 73.0], [72.6, 73.0]]), 50, 100)
    assert reason.tolist() == [BAD, ""]


def test_a_rate_of_its_own_keeps_what_is_bad():
    timeline = Timeline(
        250.0, (Stretch(0, 1000, 0.0), Stretch(4000, 5000, 16.0)), (Segment(4251, 4252),)
    )
    clean = timeline.at_rate(100.0, [400, 400])
    assert clean.stretches == (Stretch(0, 400, 0.0), Stretch(400, 800, 16.0))
    assert clean.bad == (Segment(500, 501),)
    assert clean.places(np.array([17.0]))[1].tolist() == [500]
