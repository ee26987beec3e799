"""Peak private memory of pretraining when the data grow tenfold: in number, and in length.

    python benchmarks/pretraining_memory.py

Each run is a process of its own. Private memory (RssAnon) is counted: pages of the signal files
that the system keeps mapped are its cache, and go when something else needs the room.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

N_CHANNELS = 129
SFREQ = 100


def make_data(folder: Path, n_recordings: int, minutes: float) -> None:
    from hbn_foundation.signals.store import store_from_arrays

    random = np.random.default_rng(0)
    names = tuple(f"E{number}" for number in range(1, N_CHANNELS + 1))
    directions = random.standard_normal((N_CHANNELS, 3))
    positions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    recordings = (
        (
            {"recording": f"sub-{i:03}_task-rest", "subject": f"{i:03}", "task": "rest"},
            random.standard_normal((int(minutes * 60 * SFREQ), N_CHANNELS), dtype=np.float32),
        )
        for i in range(n_recordings)
    )
    store_from_arrays(folder, recordings, names, positions, SFREQ)


def private_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def watch(peak: list[float], stop: threading.Event) -> None:
    while not stop.is_set():
        peak[0] = max(peak[0], private_megabytes())
        time.sleep(0.05)


def pretrain_once(folder: Path) -> None:
    """Pretrain for one epoch over the store, and print the peak."""
    import pandas as pd

    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.signals.params import WindowParams
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.signals.windows import cut_windows
    from hbn_foundation.training.params import TrainerParams
    from hbn_foundation.training.pretrain import pretrain
    from hbn_foundation.training.recipes import PretrainingRecipe

    peak, stop = [0.0], threading.Event()
    watcher = threading.Thread(target=watch, args=(peak, stop))
    watcher.start()
    store, window = SignalStore(folder), WindowParams()
    subjects = sorted(store.recordings["subject"].unique())
    splits = pd.DataFrame({"subject": subjects, "split": "train"})
    splits.loc[splits.index[-1], "split"] = "validation"
    dataset = EEGDataset(store, cut_windows(store, window), splits, pd.DataFrame(), window)
    recipe = PretrainingRecipe(trainer=TrainerParams(epochs=1))
    pretrain(dataset, recipe, {"chosen": "cpu"}, folder / "work")
    stop.set()
    watcher.join()
    print(f"peak {peak[0]:.1f}")


def peak_of(n_recordings: int, minutes: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder), n_recordings, minutes)
        command = [sys.executable, __file__, "--folder", folder]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(result.stdout.split("peak ")[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    folder = parser.parse_args().folder
    if folder is not None:
        pretrain_once(folder)
        return
    base = peak_of(4, 2)
    print(f"{'recordings':>12} {'minutes each':>13} {'peak MB':>9} {'ratio':>6}")
    for n_recordings, minutes in [(4, 2), (40, 2), (4, 20)]:
        peak = base if (n_recordings, minutes) == (4, 2) else peak_of(n_recordings, minutes)
        print(f"{n_recordings:12} {minutes:13} {peak:9.0f} {peak / base:6.2f}")
    print("at most: 1.20")


if __name__ == "__main__":
    main()
