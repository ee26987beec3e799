"""Windows are read as the store holds them, whatever their channels."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.reader import WindowReader, channels_first
from hbn_foundation.signals.store import SignalStore
from hbn_foundation.signals.windows import cut_windows
from signals.stores import stored

LENGTHS = (500, 199, 200, 731)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SignalStore:
    rows = [{"recording": f"sub-{i}_task-rest"} for i in range(4)]
    rows[3]["bad"] = {"B": "flat"}
    return stored(tmp_path_factory.mktemp("store"), zip(rows, LENGTHS, strict=True))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> SignalStore:
    """Three recordings of other channels in other orders."""
    axes = dict(zip("ABC", np.eye(3), strict=True))
    rows = [{"names": n, "positions": [axes[one] for one in n]} for n in ("CAB", "BC", "A")]
    rows[1]["bad"] = {"C": "noisy"}
    return stored(tmp_path_factory.mktemp("mixed"), ((row, 300) for row in rows))


def test_windows_are_read_as_stored_and_map_no_file(store):
    reader = WindowReader(store, 200)
    rows, starts = [0, 3, 0, 2], [300, 531, 0, 0]
    read = reader.read(rows, starts)
    assert read.shape == (4, 200, 3)
    assert read.dtype == np.float16
    maps = Path("/proc/self/maps")
    assert not maps.is_file() or str(store.path) not in maps.read_text()
    for window, row, start in zip(read, rows, starts, strict=True):
        expected = np.array(store.signal(row)[start : start + 200])
        if row == 3:
            assert np.any(expected[:, 1])
            expected[:, 1] = 0
        np.testing.assert_array_equal(window, expected)
    usable = [[True] * 3, [True, False, True], [True] * 3, [True] * 3]
    np.testing.assert_array_equal(reader.mask(rows), usable)
    again = pickle.loads(pickle.dumps(reader))  # as sent to another process
    np.testing.assert_array_equal(again.read(rows, starts), read)


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


def test_windows_outside_or_of_another_store_are_refused(store, mixed):
    reader = WindowReader(store, 200)
    for row, start in ((0, 301), (0, -1), (1, 0)):
        with pytest.raises(IndexError, match="outside recording"):
            reader.read([row], [start])
    windows = cut_windows(store, WindowParams())
    reader.check(windows)
    reader.check(windows.iloc[::-1])
    with pytest.raises(UserError, match=r"sub-0_task-rest is not recording 0 .* cut them anew"):
        WindowReader(mixed, 200).check(windows)


def test_few_files_stay_open(store, monkeypatch):
    monkeypatch.setattr("hbn_foundation.signals.reader.MAX_OPEN_FILES", 2)
    reader = WindowReader(store, 100)
    rows = [0, 1, 2, 3, 0, 3, 1]
    once = reader.read(rows, [5] * 7)
    assert len(reader._files) == 2
    reader.close()
    np.testing.assert_array_equal(once, reader.read(rows, [5] * 7))


def test_a_truncated_file_is_named(tmp_path):
    store = stored(tmp_path, [({}, 300)])
    reader = WindowReader(store, 100)
    reader.read([0], [0])
    path = store.signal_file(0)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 30)
    with pytest.raises(UserError, match=r"sub-0-.*npy: shorter"):
        reader.read([0], [200])


def test_volts_are_read_with_bad_channels_and_without_knowing_them(store, mixed):
    volts = WindowReader(store, 100, "volts")
    signals, mask = volts.read_scaled([3, 0], [50, 10])
    plain, usable = WindowReader(store, 100).read_scaled([3, 0], [50, 10])
    assert mask.all()
    assert not usable[0, 1]
    stored = np.asarray(store.signal(3)[50:150], np.float32).T * store.scales(3)[:, None]
    np.testing.assert_allclose(signals[0].numpy(), stored, rtol=1e-6)
    np.testing.assert_allclose(signals[1].numpy(), 1e-5 * plain[1].numpy(), rtol=1e-5)
    signals, mask = WindowReader(mixed, 100, "volts").read_scaled([0, 1], [0, 0])
    assert mixed.channel_names == ("C", "A", "B")
    assert mask.tolist() == [[True, True, True], [True, False, True]]
    assert signals[1, 0].any()  # though it is bad
    assert not signals[1, 1].any()
    assert pickle.loads(pickle.dumps(volts)).mask([3]).all()


def test_volts_are_refused_where_a_unit_cannot_be_right(tmp_path):
    store = stored(tmp_path, [({"quality": {"amplitude_uv": value}}, 300) for value in (12.0, 2e7)])
    WindowReader(store, 100)
    with pytest.raises(UserError, match=r"volts: 1 of 2 recordings .*: sub-1 \(2e\+07 µ"):
        WindowReader(store, 100, "volts")


def test_channels_first_is_exact():
    pieces = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float16)
    expected = pieces.transpose(0, 2, 1).astype(np.float32)
    np.testing.assert_array_equal(channels_first(pieces).numpy(), expected)
