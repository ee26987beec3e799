"""Windows read per second, shuffled, 129 channels, beside braindecode on the same signals.

    python benchmarks/window_reading.py
    BRAINDECODE_PYTHON=throwaway/bin/python python benchmarks/window_reading.py

Braindecode is no dependency of this project; it runs in an interpreter of its own:

    python -m venv throwaway
    throwaway/bin/pip install "torch>=2.5,<2.14" braindecode mne
    rm -f throwaway/lib/python3*/site-packages/torchaudio/lib/*.so

The last line is for machines without CUDA, where the libraries of torchaudio cannot be loaded;
braindecode can be imported without them. Both sides read the same windows from files in the
cache of the operating system, ours before and after theirs, and the median over short stretches
is taken on both sides, since other work on the machine slows single ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from arguments import count, positive
from hbn_foundation.signals.batches import WindowBatches, WindowReader
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import SignalStore, store_from_arrays
from hbn_foundation.signals.windows import cut_windows

N_CHANNELS = 129
SFREQ = 100
BATCH = 96
OTHER = Path(__file__).with_name("window_reading_braindecode.py")


def make_store(folder: Path, n_recordings: int, minutes: float) -> SignalStore:
    random = np.random.default_rng(0)
    names = tuple(f"E{number}" for number in range(1, N_CHANNELS + 1))
    directions = random.standard_normal((N_CHANNELS, 3))
    positions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    n_samples = int(minutes * 60 * SFREQ)
    recordings = (
        (
            {"recording": f"sub-{i:02}_task-rest", "subject": f"{i:02}", "task": "rest"},
            random.standard_normal((n_samples, N_CHANNELS), dtype=np.float32),
        )
        for i in range(n_recordings)
    )
    return store_from_arrays(folder, recordings, names, positions, SFREQ)


def read_arrays(reader: WindowReader, windows: pd.DataFrame) -> int:
    order = np.random.default_rng(0).permutation(len(windows))
    rows, starts = windows["row"].to_numpy(), windows["start"].to_numpy()
    out = np.empty((BATCH, reader.n_samples, reader.n_channels), dtype=np.float16)
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        reader.read(rows[chosen], starts[chosen], out=out[: len(chosen)])
    return len(order)


def read_tensors(reader: WindowReader, windows: pd.DataFrame) -> int:
    return sum(len(batch) for batch in WindowBatches(reader, windows, BATCH, shuffle=True))


def rates(read: Callable[[], int], seconds: float) -> list[float]:
    read()
    found, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        found.append(read() / (time.perf_counter() - started))
    return found


def ours(reader: WindowReader, windows: pd.DataFrame, seconds: float) -> dict[str, list[float]]:
    return {
        "arrays": rates(lambda: read_arrays(reader, windows), seconds),
        "tensors": rates(lambda: read_tensors(reader, windows), seconds),
    }


def theirs(python: str, store: SignalStore, folder: Path, seconds: float) -> dict[str, float]:
    command = [python, str(OTHER), str(store.path / "signals"), str(folder), str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--recordings", type=count, default=16)
    parser.add_argument("--minutes", type=positive, default=5)
    parser.add_argument("--seconds", type=positive, default=4, help="measure each case this long")
    options = parser.parse_args()
    python = os.environ.get("BRAINDECODE_PYTHON")
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store", options.recordings, options.minutes)
        windows = cut_windows(store, WindowParams(seconds=2, stride=2))
        reader = WindowReader(store, 2 * SFREQ)
        runs = [ours(reader, windows, options.seconds)]
        other = theirs(python, store, Path(folder), options.seconds) if python else {}
        runs.append(ours(reader, windows, options.seconds))
    mine = {key: statistics.median(runs[0][key] + runs[1][key]) for key in runs[0]}
    print(f"{len(windows):,} windows of 2 s, {N_CHANNELS} channels, {SFREQ} Hz, shuffled")
    print(f"{'':44}{'arrays':>12}{'tensors':>12}   windows/s")
    print(f"{'signal store, float32 (B, C, T) as tensors':44}", end="")
    print(f"{mine['arrays']:12,.0f}{mine['tensors']:12,.0f}")
    for kind, least in (("lazy", 8), ("preloaded", 3)):
        if not other:
            print(f"braindecode {kind}: set BRAINDECODE_PYTHON to measure it")
            continue
        arrays, tensors = other[f"{kind}_arrays"], other[f"{kind}_tensors"]
        print(f"{'braindecode, ' + kind:44}{arrays:12,.0f}{tensors:12,.0f}")
        text = f"  times faster (at least {least} wanted)"
        print(f"{text:44}{mine['arrays'] / arrays:12.1f}{mine['tensors'] / tensors:12.1f}")


if __name__ == "__main__":
    main()
