"""Features in their context: means and averages over tiles, in real time, without the future."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.params import former_names
from hbn_foundation.recordings.timeline import Segment, Stretch, Timeline
from hbn_foundation.signals.context import in_context, surroundings
from hbn_foundation.signals.params import ContextParams
from hbn_foundation.signals.store import SignalStore, store_from_arrays

LENGTH = 200
#: 20 s of samples in 50 s of real time, of which half a second is marked bad.
BROKEN = Timeline(100.0, (Stretch(0, 1000, 0.0), Stretch(1000, 2000, 40.0)), (Segment(1450, 1500),))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SignalStore:
    """Two recordings of one subject, the second broken, and one of another."""
    signal = np.zeros((2000, 1), np.float16)
    rows = [
        ({"recording": f"r{i}", "subject": subject, "task": "rest", "run": "1", **more}, signal)
        for i, (subject, more) in enumerate((("a", {}), ("a", {"timeline": BROKEN}), ("b", {})))
    ]
    return store_from_arrays(tmp_path_factory.mktemp("store"), rows, ("A",), np.eye(3)[:1])


def windows_at(*places: tuple[int, int]) -> pd.DataFrame:
    table = pd.DataFrame(places, columns=["row", "start"])
    return table.assign(subject=np.array(["a", "a", "b"])[table["row"]])


#: A tile, one between two tiles, one after the pause, one of another subject.
WINDOWS = windows_at((0, 400), (0, 500), (1, 1000), (1, 1600), (2, 0))


def mean_of(values: np.ndarray) -> np.ndarray:
    columns = (column[~np.isnan(column)] for column in values.T)
    return np.array([column.mean() if len(column) else np.nan for column in columns])


def naive(features, around, context) -> np.ndarray:
    """The same by the words of the documentation, window by window."""
    table = around.table
    tiles = table.iloc[around.tiles]
    found = []
    for at, window in table.iloc[: around.n_windows].iterrows():
        if context.of == "subject":
            group = tiles[tiles["subject"] == window["subject"]]
        else:
            group = tiles[tiles["row"] == window["row"]]
        same = group[group["row"] == window["row"]]
        past = same["onset"] <= window["onset"] + 1e-6
        value = features[at]
        if context.seconds:
            near = same[(same["onset"] - window["onset"]).abs() <= context.seconds + 1e-6]
            near = near[past.loc[near.index]] if context.running else near
            value = mean_of(features[near.index]) if len(near) else value
        if context.recentre:
            if context.running:
                group = pd.concat([group[group["row"] < window["row"]], same[past]])
            value = value - mean_of(features[group.index])
        found.append(value)
    return np.array(found)


contexts = (
    st.fixed_dictionaries(
        {
            "of": st.sampled_from(["recording", "subject"]),
            "recentre": st.booleans(),
            "seconds": st.sampled_from([0.0, 0.5, 2.0, 5.0, 40.0]),
            "running": st.booleans(),
        }
    )
    .filter(lambda one: one["recentre"] or one["seconds"])
    .map(lambda one: ContextParams(**one))
)


@settings(max_examples=60)
@given(contexts, st.integers(0, 3))
def test_means_and_averages_are_over_the_tiles_in_real_time(store, context, seed):
    around = surroundings(store, WINDOWS, LENGTH, context)
    features = np.random.default_rng(seed).standard_normal((len(around.table), 3))
    features[np.arange(0, len(features), 7), 0] = np.nan
    found = in_context(features, around, context)
    np.testing.assert_allclose(found, naive(features, around, context), atol=1e-5)


def test_tiles_are_all_clean_windows_of_the_recordings_and_no_others(store):
    alone = surroundings(store, WINDOWS[3:4], LENGTH, ContextParams(of="recording"))
    assert alone.table["row"].unique().tolist() == [1]
    tiles = alone.table.iloc[alone.tiles]
    assert tiles["start"].tolist() == [0, 200, 400, 600, 800, 1000, 1200, 1500, 1700]
    assert tiles["onset"].tolist() == [0, 2, 4, 6, 8, 40, 42, 45, 47]
    of_subject = surroundings(store, WINDOWS[3:4], LENGTH, ContextParams(of="subject"))
    assert set(of_subject.table["row"]) == {0, 1}


@settings(max_examples=40)
@given(contexts, st.sampled_from(range(len(WINDOWS))))
def test_running_never_sees_the_future(store, context, number):
    running = context.model_copy(update={"running": True})
    around = surroundings(store, WINDOWS, LENGTH, running)
    features = np.random.default_rng(0).standard_normal((len(around.table), 2))
    window = WINDOWS.iloc[number]
    row, start = around.table["row"], around.table["start"]
    later = (row > window["row"]) | ((row == window["row"]) & (start > window["start"]))
    changed = np.where(later.to_numpy()[:, None], 1e3, features)
    before, after = (in_context(values, around, running)[number] for values in (features, changed))
    np.testing.assert_array_equal(before, after)


def test_a_window_alone_has_no_context():
    with pytest.raises(UserError, match="seconds and running need context of: recording"):
        ContextParams.model_validate({"seconds": 10})
    with pytest.raises(UserError, match="of: recording changes nothing with recentre: false"):
        ContextParams.model_validate({"of": "recording", "recentre": False})
    assert not ContextParams().text
    assert ContextParams(of="recording", seconds=10).text == (
        "relative to the mean of the recording, averaged over ±10 s"
    )


def test_denoising_needs_a_recording():
    for context in ({}, {"of": "recording", "recentre": False, "seconds": 2.0}):
        with pytest.raises(ValueError, match="denoise needs of: recording or subject"):
            ContextParams(**context, denoise=True)


def test_results_of_before_keep_their_names():
    for denoise in (False, True):
        context = ContextParams(of="recording", denoise=denoise).model_dump(mode="json")
        assert ("denoise" in former_names({"context": context})["context"]) == denoise
