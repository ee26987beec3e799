"""A store gives back what was written, on one layout, through any of its indices."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.signals.index import IndexBuilder, write_index_file
from hbn_foundation.signals.store import SignalStore, store_from_arrays
from signals.stores import NAMES, signal

AXES = np.eye(3)


@pytest.fixture
def store(tmp_path) -> SignalStore:
    rows = [
        {"recording": "sub-1_task-rest", "subject": "1", "names": ("A", "B"),
         "positions": AXES[:2]},
        {"recording": "sub-2_task-rest_run-1", "subject": "2", "names": ("C", "B", "A"),
         "positions": AXES[::-1], "bad": {"B": "flat", "A": "reference"}},
    ]  # fmt: skip
    signals = [np.arange(20.0).reshape(10, 2), np.ones((30, 3))]
    return store_from_arrays(tmp_path, zip(rows, signals, strict=True), (), AXES)


def test_signals_come_back_as_written(store):
    signal = store.signal(0)
    assert isinstance(signal, np.memmap)
    assert signal.dtype == np.float16
    np.testing.assert_array_equal(signal, np.arange(20).reshape(10, 2))
    assert store.signal(1).shape == (30, 3)
    assert pickle.loads(pickle.dumps(store)).fingerprint == store.fingerprint


def test_layout_is_the_union_and_the_columns_find_their_place(store):
    assert store.channel_names == ("C", "B", "A")
    np.testing.assert_array_equal(store.channel_index(0), [2, 1])
    np.testing.assert_array_equal(store.usable(0), [False, True, True])
    np.testing.assert_array_equal(store.usable(1), [True, False, False])
    np.testing.assert_allclose(store.positions, AXES[::-1])
    np.testing.assert_allclose(store.scales(1), 1e-5)
    # the reference is not counted among the bad channels
    table = store.recordings[["n_bad", "bad_channels", "reference"]]
    assert table.to_numpy().tolist() == [[0, "", ""], [1, "B (flat)", "A"]]


def test_fingerprint_follows_content_and_parameters(tmp_path):
    def make(folder, value, subject="1"):
        row = {"recording": f"sub-{subject}", "subject": subject}
        return store_from_arrays(tmp_path / folder, [(row, np.full((5, 3), value))], NAMES, AXES)

    first = make("a", 1.0)
    assert first.fingerprint == make("b", 1.0).fingerprint
    assert first.fingerprint != make("c", 2.0).fingerprint
    assert first.fingerprint != make("d", 1.0, "2").fingerprint


def test_stores_that_are_empty_or_not_there(tmp_path):
    write_index_file(tmp_path / "index.parquet", *IndexBuilder().content())
    store = SignalStore(tmp_path)
    assert len(store) == 0
    assert list(store.table.columns[:2]) == ["recording", "subject"]
    with pytest.raises(UserError, match="no usable recording"):
        _ = store.sfreq
    with pytest.raises(UserError, match=r"nowhere: no signal store here"):
        SignalStore(tmp_path / "nowhere")


def test_an_index_elsewhere_keeps_its_signals_when_the_store_moves_on(store, tmp_path):
    index = tmp_path / "versions" / "1" / "index.parquet"
    store.save(index)
    row = {"recording": "sub-1_task-rest", "subject": "1"}
    assert len(store_from_arrays(tmp_path, [(row, np.zeros((5, 2)))], ("A", "B"), AXES[:2])) == 1
    again = pickle.loads(pickle.dumps(SignalStore(index)))
    assert again.path == store.path
    assert again.fingerprint == store.fingerprint
    np.testing.assert_array_equal(again.signal(0), np.arange(20).reshape(10, 2))
    with pytest.raises(UserError, match=r"none.parquet: no signal store here"):
        SignalStore(tmp_path / "none.parquet")


def test_gains_bring_recordings_of_a_subject_to_one_scale(tmp_path):
    rows = [
        {"recording": "sub-1_task-a", "subject": "1"},
        {"recording": "sub-1_task-b", "subject": "1", "bad": {"Y": "noisy"}},
        {"recording": "sub-2_task-a", "subject": "2"},
    ]
    ones = np.ones((300, 2), np.float16)
    plain = store_from_arrays(tmp_path, [(row, ones) for row in rows], ("X", "Y"), AXES[:2])
    scales = [np.array(s, np.float32) for s in ([1e-5, 1e-5], [3e-5, 9e-3], [7e-5, 0.0])]
    frame, metadata = plain._index.assign(scales=scales), {**plain._metadata, "scale": "subject"}
    store = SignalStore(plain.index_path, (frame, metadata))
    np.testing.assert_allclose(plain.gains(1), [1, 1])
    # X: the median of 1e-5 and 3e-5 is 2e-5. Y is bad in the second: the first alone counts.
    np.testing.assert_allclose(store.gains(0), [0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(store.gains(1), [1.5, 10.0], rtol=1e-6)
    np.testing.assert_allclose(store.gains(2), [1.0, 1.0], rtol=1e-6)
    assert store.fingerprint != plain.fingerprint


def test_names_that_another_cap_has_elsewhere_are_other_channels(tmp_path, caplog):
    places = np.random.default_rng(0).standard_normal((6, 3))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    caps = [places, places[[0, 2, 3, 4, 5, 1]]]
    names = ("Cz", "1", "2", "3", "4", "5")
    rows = [
        {"recording": f"sub-{i}_task-rest", "subject": str(i), "positions": caps[i % 2],
         "bad": {"5": "flat"} if i == 3 else {}}
        for i in range(4)
    ]  # fmt: skip
    recordings = [(row, signal(300, 6, i)) for i, row in enumerate(rows)]
    with caplog.at_level("INFO"):
        store = store_from_arrays(tmp_path, recordings, names, places)
    assert "2 recordings have channels of the same names at other places" in caplog.text
    assert store.channel_names == (*names, *(f"{k}@cap2" for k in range(1, 6)))
    for row in range(4):
        found = store.positions[store.channel_index(row)]
        np.testing.assert_allclose(found, caps[row % 2], atol=1e-6)
    unusable = {store.channel_names[k] for k in np.flatnonzero(~store.usable(3))}
    assert unusable == {"1", "2", "3", "4", "5", "5@cap2"}


def test_few_channels_at_other_places_are_averaged_with_a_line(tmp_path, caplog):
    rows = [
        {"recording": f"sub-{i}", "subject": "1", "positions": AXES[order]}
        for i, order in enumerate(([0, 1, 2], [1, 0, 2]))
    ]
    with caplog.at_level("INFO"):
        store = store_from_arrays(tmp_path, [(row, signal(9, 3)) for row in rows], NAMES, AXES)
    assert "2 channels lie at different places in different recordings (A, B)" in caplog.text
    np.testing.assert_allclose(store.positions[0], np.sqrt([0.5, 0.5, 0]), atol=1e-6)
