from __future__ import annotations

import pickle

import numpy as np
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.cleaned import CleanedRecording
from hbn_foundation.recordings.timeline import Timeline
from hbn_foundation.signals.store import SignalStore, store_from_arrays
from hbn_foundation.signals.store_files import (
    describe_failure,
    read_description,
    write_recording,
)
from hbn_foundation.signals.store_index import write_index

AXES = np.eye(3)


def cleaned(names: tuple[str, ...], n_samples: int, bad=None) -> CleanedRecording:
    timeline = Timeline.unbroken(n_samples, 100.0)
    return CleanedRecording(
        names, AXES[: len(names)], np.full(len(names), 2e-6), timeline, bad or {}
    )


@pytest.fixture
def store(tmp_path) -> SignalStore:
    signals = [np.arange(20.0).reshape(10, 2), np.ones((30, 3))]
    rows = [
        {"recording": "sub-1_task-rest", "subject": "1", "task": "rest"},
        {"recording": "sub-2_task-rest_run-1", "subject": "2", "task": "rest", "run": "1"},
    ]
    descriptions = [
        write_recording(tmp_path, rows[0], cleaned(("A", "B"), 10), signals[0], "x", "p"),
        describe_failure({"recording": "sub-3", "subject": "3"}, "it is empty", "z", "p"),
        write_recording(
            tmp_path, rows[1], cleaned(("C", "B", "A"), 30, {"B": "flat"}), signals[1], "y", "p"
        ),
    ]
    write_index(tmp_path, descriptions)
    return SignalStore(tmp_path)


def test_signals_come_back_as_written(store):
    signal = store.signal(0)
    assert isinstance(signal, np.memmap)
    assert signal.dtype == np.float16
    np.testing.assert_array_equal(signal, np.arange(20).reshape(10, 2))
    assert store.signal(1).shape == (30, 3)


def test_rows_count_the_usable_recordings_alone(store):
    assert list(store.table["recording"]) == ["sub-1_task-rest", "sub-3", "sub-2_task-rest_run-1"]
    assert list(store.recordings["recording"]) == ["sub-1_task-rest", "sub-2_task-rest_run-1"]
    assert list(store.recordings.index) == [0, 1]
    assert len(store) == 2
    failed = store.table.iloc[1]
    assert (failed["status"], failed["reason"]) == ("failed", "it is empty")


def test_layout_is_the_union_and_the_columns_find_their_place(store):
    assert store.channel_names == ("C", "B", "A")
    np.testing.assert_array_equal(store.channel_index(0), [2, 1])
    np.testing.assert_array_equal(store.usable(0), [False, True, True])
    np.testing.assert_array_equal(store.usable(1), [True, False, True])
    np.testing.assert_allclose(np.linalg.norm(store.positions, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(store.scales(1), 2e-6)
    assert store.recordings["bad_channels"].iat[1] == "B (flat)"


def test_fingerprint_follows_content_and_parameters(tmp_path):
    def make(folder, value, subject="1"):
        row = {"recording": f"sub-{subject}", "subject": subject}
        signal = np.full((5, 3), value)
        return store_from_arrays(tmp_path / folder, [(row, signal)], ("A", "B", "C"), AXES)

    first = make("a", 1.0)
    assert first.fingerprint == make("b", 1.0).fingerprint
    assert first.fingerprint != make("c", 2.0).fingerprint
    assert first.fingerprint != make("d", 1.0, "2").fingerprint


def test_a_store_pickles_as_its_path(store):
    again = pickle.loads(pickle.dumps(store))
    assert again.fingerprint == store.fingerprint


def test_an_empty_store_reads_but_has_no_rate(tmp_path):
    write_index(tmp_path, [])
    store = SignalStore(tmp_path)
    assert len(store) == 0
    assert list(store.table.columns[:2]) == ["recording", "subject"]
    with pytest.raises(UserError, match="no usable recording"):
        _ = store.sfreq


def test_a_folder_without_a_store_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no signal store here"):
        SignalStore(tmp_path / "nowhere")


def test_damaged_descriptions_count_as_absent(store):
    key = ("sub-1_task-rest", "x", "p")
    assert read_description(store.path, *key)["n_samples"] == 10
    path = store.signal_file(0).with_suffix(".json")
    path.write_text(path.read_text()[:50])
    assert read_description(store.path, *key) is None


def test_an_index_elsewhere_keeps_its_signals_when_the_store_moves_on(store, tmp_path):
    index = tmp_path / "versions" / "1" / "index.parquet"
    store.write_index(index)
    newer = write_recording(
        tmp_path,
        {"recording": "sub-1_task-rest", "subject": "1"},
        cleaned(("A", "B"), 5),
        np.zeros((5, 2)),
        "newer",
        "p",
    )
    write_index(tmp_path, [newer])
    assert len(SignalStore(tmp_path)) == 1
    again = pickle.loads(pickle.dumps(SignalStore.from_index(index)))
    assert again.path == store.path
    assert again.fingerprint == store.fingerprint
    np.testing.assert_array_equal(again.signal(0), np.arange(20).reshape(10, 2))
    with pytest.raises(UserError, match=r"none.parquet: no such index"):
        SignalStore.from_index(tmp_path / "none.parquet")


def _rescaled(store, scales: list[list[float]]):
    """Pretend the recordings were cleaned with these volts per unit, and read by subject."""
    frame = store._index.assign(scales=[np.asarray(s, np.float32) for s in scales])
    return type(store).from_table(store.index_path, frame, {**store._metadata, "scale": "subject"})


def test_gains_bring_recordings_of_a_subject_to_one_scale(tmp_path):
    rows = [
        {"recording": "sub-1_task-a", "subject": "1", "bad": {}},
        {"recording": "sub-1_task-b", "subject": "1", "bad": {"Y": "noisy"}},
        {"recording": "sub-2_task-a", "subject": "2", "bad": {}},
    ]
    signal = np.ones((300, 2), np.float16)
    plain = store_from_arrays(tmp_path, [(row, signal) for row in rows], ("X", "Y"), np.eye(3)[:2])
    store = _rescaled(plain, [[1e-5, 1e-5], [3e-5, 9e-3], [7e-5, 0.0]])
    np.testing.assert_allclose(plain.gains(1), [1, 1])
    # X: the median of 1e-5 and 3e-5 is 2e-5. Y is bad in the second: the first alone counts.
    np.testing.assert_allclose(store.gains(0), [0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(store.gains(1), [1.5, 10.0], rtol=1e-6)
    np.testing.assert_allclose(store.gains(2), [1.0, 1.0], rtol=1e-6)
    assert store.fingerprint != plain.fingerprint


def test_the_reference_is_not_counted_among_bad_channels(tmp_path):
    row = {"recording": "r", "subject": "1", "bad": {"A": "reference", "C": "noisy"}}
    store = store_from_arrays(tmp_path, [(row, np.ones((30, 3)))], ("A", "B", "C"), AXES)
    table = store.recordings[["n_bad", "bad_channels", "reference"]]
    assert table.to_numpy().tolist() == [[1, "C (noisy)", "A"]]
    assert store.usable(0).tolist() == [False, True, False]
