"""The versioned index of the signal store."""

import numpy as np
from kedro.io.core import Version

from hbn_foundation.io.signal_store import SignalStoreDataset
from hbn_foundation.signals.store import store_from_arrays


def make_store(folder, subjects):
    rows = [
        ({"recording": f"sub-{s}_task-rest", "subject": s}, np.ones((300, 2))) for s in subjects
    ]
    return store_from_arrays(folder, rows, ("X", "Y"), np.eye(3)[:2])


def dataset(folder, load=None, save=None) -> SignalStoreDataset:
    path = str(folder / "index.parquet")
    return SignalStoreDataset(filepath=path, version=Version(load, save))


def test_each_version_keeps_its_own_selection(tmp_path):
    folder = tmp_path / "store"
    dataset(tmp_path, save="1").save(make_store(folder, ["a", "b"]))
    dataset(tmp_path, save="2").save(make_store(folder, ["a"]))
    assert len(dataset(tmp_path, load="1").load()) == 2
    assert len(dataset(tmp_path).load()) == 1
    np.testing.assert_array_equal(dataset(tmp_path, load="1").load().signal(1), np.ones((300, 2)))


def test_preview_is_the_table(tmp_path):
    dataset(tmp_path, save="1").save(make_store(tmp_path / "store", ["a", "b"]))
    preview = dataset(tmp_path).preview(nrows=1)
    assert preview["data"][0][preview["columns"].index("subject")] == "a"
    assert len(preview["data"]) == 1
