"""Braindecode's part of `window_reading.py`; runs in an interpreter that has braindecode.

The signals of the store are written as FIF files first, which is not timed. `arrays` takes the
windows one by one from the data set; `tensors` takes batches from a `DataLoader` without workers
(with two of them it is slower). The last line printed is JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import mne
import numpy as np
from torch.utils.data import DataLoader

BATCH = 96
SFREQ = 100


def write_fif(signals: Path, folder: Path) -> list[Path]:
    paths = []
    for file in sorted(signals.glob("*.npy")):
        signal = np.load(file).astype(np.float64).T * 1e-5
        info = mne.create_info([f"E{i + 1}" for i in range(len(signal))], SFREQ, "eeg")
        paths.append(folder / f"{file.stem}_eeg.fif")
        mne.io.RawArray(signal, info).save(paths[-1], overwrite=True)
    return paths


def data_set(paths: list[Path], preload: bool):
    from braindecode.datasets import BaseConcatDataset
    from braindecode.preprocessing import create_fixed_length_windows

    try:
        from braindecode.datasets import RawDataset as Recording
    except ImportError:
        from braindecode.datasets import BaseDataset as Recording
    recordings = [
        Recording(mne.io.read_raw_fif(path, preload=preload), {"subject": path.stem})
        for path in paths
    ]
    return create_fixed_length_windows(
        BaseConcatDataset(recordings),
        start_offset_samples=0,
        stop_offset_samples=None,
        window_size_samples=2 * SFREQ,
        window_stride_samples=2 * SFREQ,
        drop_last_window=True,
        preload=preload,
    )


def rate(read: Iterator[int], seconds: float) -> float:
    """Take the median over stretches of a tenth of a second."""
    for _, _ in zip(range(50), read, strict=False):
        pass
    found, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < 0.1:
            done += next(read)
        found.append(done / (time.perf_counter() - started))
    return statistics.median(found)


def arrays(windows) -> Iterator[int]:
    random = np.random.default_rng(0)
    while True:
        for index in random.permutation(len(windows)).tolist():
            windows[index]
            yield 1


def tensors(windows) -> Iterator[int]:
    while True:
        for signals, *_ in DataLoader(windows, batch_size=BATCH, shuffle=True):
            yield len(signals)


def main() -> None:
    signals, folder, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    paths = write_fif(signals, folder)
    found = {}
    for kind, preload in (("lazy", False), ("preloaded", True)):
        windows = data_set(paths, preload)
        found[f"{kind}_arrays"] = rate(arrays(windows), seconds)
        found[f"{kind}_tensors"] = rate(tensors(windows), seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    mne.set_log_level("ERROR")
    warnings.simplefilter("ignore")
    main()
