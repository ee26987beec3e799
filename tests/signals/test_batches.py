"""Batches come in an order that the seed and the epoch decide."""

import numpy as np
import pytest
import torch

from hbn_foundation.recordings.timeline import Segment, Stretch, Timeline
from hbn_foundation.signals.batches import WindowBatches
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.reader import WindowReader, channels_first
from hbn_foundation.signals.store import store_from_arrays
from hbn_foundation.signals.windows import cut_windows


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    random = np.random.default_rng(0)
    recordings = [
        (
            {"recording": f"r{i}", "subject": str(i), "task": "rest", "bad": {"B": "flat"}},
            random.standard_normal((430, 3)),
        )
        for i in range(5)
    ]
    path = tmp_path_factory.mktemp("store")
    return store_from_arrays(path, recordings, ("A", "B", "C"), np.eye(3))


@pytest.fixture(scope="module")
def windows(store):
    return cut_windows(store, WindowParams(seconds=1, stride=1))


def collect(store, windows, epoch=0, **options):
    batches = WindowBatches(WindowReader(store, 100), windows, **{"batch_size": 6, **options})
    batches.set_epoch(epoch)
    parts = list(batches)
    assert len(parts) == len(batches)
    return torch.cat([part.signals for part in parts]), torch.cat([part.index for part in parts])


def test_in_order_every_window_comes_once(store, windows):
    signals, index = collect(store, windows)
    assert index.tolist() == list(range(len(windows)))
    assert signals.shape == (20, 3, 100)
    assert signals.dtype == torch.float32
    at = windows.iloc[7]
    expected = np.array(store.signal(at["row"])[at["start"] : at["start"] + 100].T, np.float32)
    expected[1] = 0
    np.testing.assert_array_equal(signals[7].numpy(), expected)


def test_index_is_the_place_in_the_table_given(store, windows):
    some = windows[windows["subject"] == "3"]
    signals, index = collect(store, some)
    assert index.tolist() == [0, 1, 2, 3]
    assert torch.equal(signals, collect(store, windows)[0][12:16])


def test_order_and_jitter_follow_seed_and_epoch_alone(store, windows):
    def draw(**options):
        return collect(store, windows, shuffle=True, jitter=20, **options)

    signals, index = draw(seed=1, epoch=2)
    assert sorted(index.tolist()) == list(range(20))
    again, same = draw(seed=1, epoch=2, batch_size=4)
    assert torch.equal(index, same)
    assert torch.equal(signals, again)
    for other in ({"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 2}):
        assert not torch.equal(index, draw(**other)[1])


def test_jitter_shifts_windows_inside_their_recordings(store, windows):
    batches = WindowBatches(WindowReader(store, 100), windows, 6, jitter=60)
    _, starts = batches._plan()
    shift = starts - windows["start"].to_numpy()
    assert starts.min() >= 0
    assert starts.max() <= 330
    assert np.abs(shift).max() <= 60
    assert len(np.unique(shift)) > 5
    assert len(list(batches)) == 4


def test_jitter_shifts_no_window_into_a_gap_or_a_bad_segment(tmp_path):
    timeline = Timeline(
        100.0, (Stretch(0, 430, 0.0), Stretch(430, 900, 60.0)), (Segment(600, 610),)
    )
    row = {"recording": "r", "subject": "1", "task": "rest", "timeline": timeline}
    store = store_from_arrays(tmp_path, [(row, np.zeros((900, 3)))], ("A", "B", "C"), np.eye(3))
    windows = cut_windows(store, WindowParams(seconds=1, stride=0.5))
    batches = WindowBatches(WindowReader(store, 100), windows, 6, jitter=60)
    for epoch in range(20):
        batches.set_epoch(epoch)
        _, starts = batches._plan()
        assert timeline.inside(starts, 100).all()


def test_drop_last_leaves_out_the_rest(store, windows):
    signals, _ = collect(store, windows, drop_last=True)
    assert len(signals) == 18
    assert len(WindowBatches(WindowReader(store, 100), windows, 6)) == 4


def test_batches_own_their_memory(store, windows):
    # A batch must not change when the next one is read.
    parts = list(WindowBatches(WindowReader(store, 100), windows, 10))
    assert not torch.equal(parts[0].signals, parts[1].signals)
    assert parts[0].mask.tolist() == [[True, False, True]] * 10
    moved = parts[0].to("cpu")
    assert torch.equal(moved.signals, parts[0].signals)
    assert len(moved) == 10


def test_channels_first_is_exact():
    pieces = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float16)
    expected = pieces.transpose(0, 2, 1).astype(np.float32)
    np.testing.assert_array_equal(channels_first(pieces).numpy(), expected)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"jitter": -1}])
def test_impossible_options_are_refused(store, windows, options):
    with pytest.raises(ValueError, match="too small"):
        collect(store, windows, **options)


@pytest.mark.parametrize(("share", "count"), [(0.5, 4), (0.25, 2), (0.01, 1), (0.99, 7)])
def test_a_share_of_each_batch_is_of_some_windows(store, windows, share, count):
    few = 5
    table = windows.assign(batch_share=np.where(np.arange(len(windows)) < few, share, np.nan))
    reader = WindowReader(store, 100)
    seen = []
    batches = WindowBatches(reader, table, 8, shuffle=True, drop_last=True)
    for epoch in range(60):  # of the rest, one window in each batch may be all
        batches.set_epoch(epoch)
        assert len(batches) == len(windows) // 8
        drawn = [batch.index.numpy() for batch in batches]
        assert len(drawn) == len(batches)
        for index in drawn:
            assert (index < few).sum() == count
        seen.append(np.concatenate(drawn).tolist())
    assert seen[0] != seen[1]
    counts = np.bincount(np.concatenate(seen), minlength=len(windows))
    assert counts.min() > 0
    again = WindowBatches(reader, table, 8, shuffle=True, drop_last=True)
    assert np.concatenate([batch.index.numpy() for batch in again]).tolist() == seen[0]


def test_shares_count_in_training_alone(store, windows):
    table = windows.assign(batch_share=0.5)
    table.loc[3:, "batch_share"] = np.nan
    _, index = collect(store, table, shuffle=True)
    assert sorted(index.tolist()) == list(range(20))
