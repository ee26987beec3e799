"""Windows lie inside their recordings, and are read as the store holds them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.timeline import Segment, Stretch, Timeline
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.reader import WindowReader
from hbn_foundation.signals.store import SignalStore, store_from_arrays
from hbn_foundation.signals.windows import cut_windows, window_length

NAMES = ("A", "B", "C")
LENGTHS = (500, 199, 200, 731)


def signal(n_samples: int, n_channels: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((n_samples, n_channels)).astype(np.float16)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SignalStore:
    recordings = [
        ({"recording": f"sub-{i}_task-rest", "subject": str(i), "task": "rest"}, signal(n, 3, i))
        for i, n in enumerate(LENGTHS)
    ]
    recordings[3][0]["bad"] = {"B": "flat"}
    return store_from_arrays(tmp_path_factory.mktemp("store"), recordings, NAMES, np.eye(3))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> SignalStore:
    """Three recordings of other channels in other orders."""
    axes = dict(zip("ABC", np.eye(3), strict=True))
    recordings = [
        ({"recording": f"sub-{i}", "subject": str(i), "task": "rest", "names": tuple(names),
          "positions": [axes[name] for name in names], "bad": {"C": "noisy"} if i == 1 else {}},
         signal(300, len(names), i))
        for i, names in enumerate(["CAB", "BC", "A"])
    ]  # fmt: skip
    return store_from_arrays(tmp_path_factory.mktemp("mixed"), recordings, NAMES, np.eye(3))


@settings(max_examples=40, deadline=None)
@given(st.floats(0.02, 3), st.floats(0.001, 4))
def test_windows_are_all_those_that_lie_inside(store, seconds, stride):
    params = WindowParams(seconds=seconds, stride=stride)
    n_samples, step = round(seconds * 100), max(1, round(stride * 100))
    windows = cut_windows(store, params)
    for row, length in enumerate(LENGTHS):
        starts = windows.loc[windows["row"] == row, "start"].tolist()
        assert starts == list(range(0, length - n_samples + 1, step))


def test_no_window_lies_across_a_gap_or_in_a_bad_segment(tmp_path, caplog):
    broken = Timeline(100.0, (Stretch(0, 450, 0.0), Stretch(450, 731, 64.5)), (Segment(500, 520),))
    bad = Timeline(100.0, (Stretch(0, 199, 0.0), Stretch(199, 400, 2.0)), (Segment(300, 301),))
    recordings = [
        ({"recording": name, "subject": name, "timeline": timeline}, signal(n, 3))
        for name, n, timeline in (("r1", 731, broken), ("r2", 400, bad), ("r3", 400, None))
    ]
    store = store_from_arrays(tmp_path, recordings, NAMES, np.eye(3))
    with caplog.at_level("INFO"):
        windows = cut_windows(store, WindowParams(seconds=2, stride=1))
    assert windows[["row", "start"]].to_numpy().tolist() == [
        *([0, start] for start in (0, 100, 200, 520)),
        *([2, start] for start in (0, 100, 200)),
    ]
    assert windows["onset"].tolist() == [0, 1, 2, 65.2, 0, 1, 2]
    assert "1 recordings have no 2 s without a gap or a bad segment" in caplog.text
    assert store.timeline(0).stretches == broken.stretches
    assert SignalStore(tmp_path).timeline(0).bad == broken.bad


def test_short_recordings_give_none_and_are_told(store, caplog):
    with caplog.at_level("INFO"):
        windows = cut_windows(store, WindowParams())
    names = ["row", "recording", "subject", "task", "run", "start", "onset"]
    assert windows.columns.tolist() == names
    assert windows["recording"].value_counts().to_dict() == {
        "sub-0_task-rest": 2,
        "sub-2_task-rest": 1,
        "sub-3_task-rest": 3,
    }
    assert (
        "1 recordings have no 2 s without a gap or a bad segment and give no window: sub-1"
        in caplog.text
    )


def test_no_window_at_all_is_an_error(store):
    with pytest.raises(UserError, match=r"seconds is 60.* longest of 4 .* 7\.3 s"):
        cut_windows(store, WindowParams(seconds=60))
    with pytest.raises(UserError, match="two samples"):
        window_length(0.01, 100)


def test_windows_are_read_as_stored(store):
    reader = WindowReader(store, 200)
    rows, starts = [0, 3, 0, 2], [300, 531, 0, 0]
    read = reader.read(rows, starts)
    assert read.shape == (4, 200, 3)
    assert read.dtype == np.float16
    for window, row, start in zip(read, rows, starts, strict=True):
        expected = np.array(store.signal(row)[start : start + 200])
        if row == 3:
            assert np.any(expected[:, 1])
            expected[:, 1] = 0
        np.testing.assert_array_equal(window, expected)
    np.testing.assert_array_equal(
        reader.mask(rows), [[True] * 3, [True, False, True], [True] * 3, [True] * 3]
    )


def test_other_channels_are_put_where_the_layout_has_them(mixed):
    reader = WindowReader(mixed, 100)
    out = np.full((3, 100, 3), 7, dtype=np.float16)
    read = reader.read([0, 1, 2], [10, 20, 200], out=out)
    assert read is out
    layout = mixed.channel_names
    for row, (names, start) in enumerate([("CAB", 10), ("BC", 20), ("A", 200)]):
        for column, name in enumerate(layout):
            expected = np.zeros(100)
            if name in names and (row, name) != (1, "C"):
                expected = mixed.signal(row)[start : start + 100, names.index(name)]
            np.testing.assert_array_equal(read[row, :, column], expected)
    assert reader.mask([1]).tolist() == [[name == "B" for name in layout]]


@pytest.mark.parametrize(("row", "start"), [(0, 301), (0, -1), (1, 0)])
def test_windows_outside_are_refused(store, row, start):
    with pytest.raises(IndexError, match="outside recording"):
        WindowReader(store, 200).read([row], [start])


def test_windows_of_another_store_are_refused(store, mixed):
    windows = cut_windows(store, WindowParams())
    WindowReader(store, 200).check(windows)
    WindowReader(store, 200).check(windows.iloc[::-1])
    with pytest.raises(UserError, match=r"sub-0_task-rest is not recording 0 .* cut them anew"):
        WindowReader(mixed, 200).check(windows)


def test_few_files_stay_open(store, monkeypatch):
    monkeypatch.setattr("hbn_foundation.signals.reader.MOST_OPEN_FILES", 2)
    reader = WindowReader(store, 100)
    rows = [0, 1, 2, 3, 0, 3, 1]
    once = reader.read(rows, [5] * 7)
    assert len(reader._files) == 2
    reader.close()
    np.testing.assert_array_equal(once, reader.read(rows, [5] * 7))


def test_a_reader_can_be_sent_to_another_process(store):
    reader = WindowReader(store, 100)
    before = reader.read([0], [7])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read([0], [7]), before)


def test_a_truncated_file_is_named(tmp_path):
    row = {"recording": "sub-1", "subject": "1"}
    store = store_from_arrays(tmp_path, [(row, signal(300, 3))], NAMES, np.eye(3))
    reader = WindowReader(store, 100)
    reader.read([0], [0])
    path = store.signal_file(0)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 30)
    with pytest.raises(UserError, match=r"sub-1-.*npy: shorter"):
        reader.read([0], [200])


def test_reading_maps_no_file_into_memory(store):
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("needs /proc")
    reader = WindowReader(store, 100)
    reader.read([0, 2], [0, 0])
    assert str(store.path) not in maps.read_text()


def test_volts_are_read_with_bad_channels_and_without_knowing_them(store, mixed):
    volts = WindowReader(store, 100, volts=True)
    signals, mask = volts.read_scaled([3, 0], [50, 10])
    plain, usable = WindowReader(store, 100).read_scaled([3, 0], [50, 10])
    assert mask.all()
    assert not usable[0, 1]
    stored = np.asarray(store.signal(3)[50:150], np.float32).T * store.scales(3)[:, None]
    np.testing.assert_allclose(signals[0].numpy(), stored, rtol=1e-6)
    np.testing.assert_allclose(signals[1].numpy(), 1e-5 * plain[1].numpy(), rtol=1e-5)
    signals, mask = WindowReader(mixed, 100, volts=True).read_scaled([0, 1], [0, 0])
    assert mixed.channel_names == ("C", "A", "B")
    assert mask.tolist() == [[True, True, True], [True, False, True]]
    assert signals[1, 0].any()  # though it is bad
    assert not signals[1, 1].any()
    again = pickle.loads(pickle.dumps(volts))
    assert again.volts
    assert again.mask([3]).all()


def test_volts_are_refused_where_a_unit_cannot_be_right(tmp_path):
    recordings = [
        ({"recording": f"sub-{i}_task-rest", "subject": "1", "quality": {"amplitude_uv": value}},
         signal(300, 3, i))
        for i, value in enumerate((12.0, 2e7))
    ]  # fmt: skip
    store = store_from_arrays(tmp_path, recordings, NAMES, np.eye(3))
    WindowReader(store, 100)
    with pytest.raises(
        UserError, match=r"volts: 1 of 2 recordings .*: sub-1_task-rest \(2e\+07 µV"
    ):
        WindowReader(store, 100, volts=True)
