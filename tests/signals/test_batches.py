"""Batches come in an order that the seed and the epoch decide."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hbn_foundation.recordings.timeline import Segment, Stretch, Timeline
from hbn_foundation.signals.batches import WindowBatches
from hbn_foundation.signals.params import Jitter, WindowParams
from hbn_foundation.signals.reader import WindowReader
from hbn_foundation.signals.windows import cut_windows
from signals.stores import stored


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("store"), [({"bad": {"B": "flat"}}, 430)] * 5)


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
    of_one, index = collect(store, windows[windows["subject"] == "3"])
    assert index.tolist() == [0, 1, 2, 3]  # of the table that is given
    assert torch.equal(of_one, signals[12:16])
    assert len(collect(store, windows, drop_last=True)[0]) == 18


def test_order_and_jitter_follow_seed_and_epoch_alone(store, windows):
    def draw(**options):
        return collect(store, windows, shuffle=True, jitter=Jitter(20), **options)

    signals, index = draw(seed=1, epoch=2)
    assert sorted(index.tolist()) == list(range(20))
    again, same = draw(seed=1, epoch=2, batch_size=4)
    assert torch.equal(index, same)
    assert torch.equal(signals, again)
    for other in ({"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 2}):
        assert not torch.equal(index, draw(**other)[1])


def test_a_share_of_the_starts_is_shifted(store, windows):
    batches = WindowBatches(WindowReader(store, 100), windows, 20, jitter=Jitter(20, 0.4))
    moved = [next(iter(batches)).shift.ne(0).sum() for epoch in range(20)
             if batches.set_epoch(epoch) is None]  # fmt: skip
    assert 0.25 < sum(moved) / 400 < 0.45
    still = WindowBatches(WindowReader(store, 100), windows, 20, jitter=Jitter(20, 0.0))
    assert not next(iter(still)).shift.any()


def test_jitter_shifts_no_window_into_a_gap_or_a_bad_segment(tmp_path):
    timeline = Timeline(
        100.0, (Stretch(0, 430, 0.0), Stretch(430, 900, 60.0)), (Segment(600, 610),)
    )
    store = stored(tmp_path, [({"timeline": timeline}, 900)])
    windows = cut_windows(store, WindowParams(seconds=1, stride=0.5))
    reader = WindowReader(store, 100)
    batches, shifts = WindowBatches(reader, windows, len(windows), jitter=Jitter(60)), set()
    for epoch in range(20):
        batches.set_epoch(epoch)
        [batch] = batches
        shift = batch.shift.numpy()
        starts = windows["start"].to_numpy() + shift
        assert timeline.inside(starts, 100).all()
        assert torch.equal(batch.signals, reader.read_scaled(windows["row"], starts)[0])
        assert np.abs(shift).max() <= 60
        shifts |= set(shift.tolist())
    assert len(shifts) > 20


def test_batches_own_their_memory_and_go_through_a_loader(store, windows):
    batches = WindowBatches(WindowReader(store, 100), windows, 10)
    parts = list(batches)  # a batch does not change when the next one is read
    assert not torch.equal(parts[0].signals, parts[1].signals)
    assert parts[0].mask.tolist() == [[True, False, True]] * 10
    assert torch.equal(parts[0].to("cpu").signals, parts[0].signals)
    loaded = list(DataLoader(batches, batch_size=None))
    assert [len(batch) for batch in loaded] == [10, 10]
    assert all(map(torch.equal, (b.signals for b in loaded), (b.signals for b in parts)))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"jitter": Jitter(-1)}])
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
