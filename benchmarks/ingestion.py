"""Ingestion beside the loop one would write with MNE: time, a second time, and peak memory.

``python benchmarks/ingestion.py [--root BIDS] [--workers 2]``

Measured on the same files, each step in an interpreter of its own; what is imported while it
works, in the main process and in the workers, counts:

- *plain loop*: one process; read, pick the EEG channels, filter, resample, robust scale, save,
  with MNE's defaults;
- *ingestion*: the project's, with its workers, into an empty store;
- *second ingestion*: the same again, nothing changed;
- *peak memory* of a worker on a recording and on one ten times as long, and of the whole (main
  process and workers together) on a few recordings and on ten times as many.

The root is a folder in BIDS; without one it is EEGMAT_ROOT or ../shared/data/eegmat, and where
that is absent a small set of EDF files is generated.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arguments import count

PROJECT = Path(__file__).parents[1]


def plain_loop(root: str, out: str) -> None:
    """Clean every recording as one would with MNE alone; print the seconds."""
    started = time.perf_counter()
    import mne
    import numpy as np

    from hbn_foundation.recordings.find import find_recordings

    for row in find_recordings(root).itertuples():
        raw = mne.io.read_raw(Path(root, row.path), preload=True, verbose="ERROR")
        described = Path(root, row.path.replace("_eeg.edf", "_channels.tsv"))
        if described.is_file():
            lines = [line.split("\t") for line in described.read_text().splitlines()[1:]]
            raw.pick([line[0] for line in lines if line[1].upper() == "EEG"])
        raw.filter(0.5, min(50, raw.info["sfreq"] / 2 - 1), verbose="ERROR")
        raw.resample(100, verbose="ERROR")
        x = raw.get_data()
        x = x - np.median(x, axis=1, keepdims=True)
        x /= 1.4826 * np.median(np.abs(x), axis=1, keepdims=True) + 1e-30
        np.save(Path(out, f"{row.recording}.npy"), np.clip(x, -15, 15).T.astype(np.float16))
    print(time.perf_counter() - started)


def ingest(root: str, out: str, workers: int) -> None:
    """Ingest; print the seconds."""
    started = time.perf_counter()
    from hbn_foundation.recordings.find import find_recordings
    from hbn_foundation.signals.build import build_store
    from hbn_foundation.signals.params import BuildParams

    imported = time.perf_counter()
    build_store(find_recordings(root), BuildParams(path=str(out), n_jobs=workers))
    print(time.perf_counter() - started, imported - started)


def clean_peak(root: str, out: str) -> None:
    """Clean the first recording; print the peak resident memory in MB."""
    from hbn_foundation.recordings.clean import clean_recording
    from hbn_foundation.recordings.find import find_recordings
    from hbn_foundation.recordings.params import CleaningParams

    row = find_recordings(root).iloc[0].to_dict()
    clean_recording(row, CleaningParams(), Path(out, "clean.npy"))
    # ru_maxrss would also count the parent's memory before exec
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")))


def generate(root: Path, n_subjects: int, seconds: float, n_channels: int = 19) -> Path:
    """Write EDF recordings of correlated noise at 500 Hz in BIDS."""
    import edfio
    import numpy as np

    names = ["Fp1", "Fp2", "F3", "F4", "F7", "F8", "T7", "T8", "C3", "C4", "P7", "P8", "P3", "P4",
             "O1", "O2", "Fz", "Cz", "Pz"]  # fmt: skip
    names = names if n_channels == 19 else [f"E{i + 1}" for i in range(n_channels)]
    rng = np.random.default_rng(0)
    for i in range(n_subjects):
        folder = root / f"sub-{i:03}" / "eeg"
        folder.mkdir(parents=True, exist_ok=True)
        x = rng.standard_normal((n_channels, int(seconds * 500)), np.float32)
        x = 10 * (x + rng.standard_normal((1, x.shape[1]), np.float32))
        signals = [
            edfio.EdfSignal(row, 500, label=name, physical_dimension="uV", physical_range=(-99, 99))
            for name, row in zip(names, np.clip(x, -99, 99).astype(float), strict=True)
        ]
        edfio.Edf(signals).write(folder / f"sub-{i:03}_task-rest_eeg.edf")
    (root / "dataset_description.json").write_text('{"Name": "noise", "BIDSVersion": "1.8.0"}')
    return root


def step(name: str, *arguments: object) -> list[float]:
    """Run one step of this file in a fresh interpreter: the numbers it prints, and CPU seconds."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    command = [sys.executable, __file__, "--step", name, *map(str, arguments)]
    before = os.times()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return [*map(float, done.stdout.split()), cpu]


def peak_of_all(root: Path, out: Path, workers: int) -> float:
    """Peak proportional memory of an ingestion and its workers together, in MB."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    command = [sys.executable, __file__, "--step", "ingest", str(root), str(out), str(workers)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, sum(proportional(pid) for pid in members(process.pid)))
        time.sleep(0.1)
    return peak


def members(session: int) -> list[int]:
    """List the processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            found.append(int(folder.name))
    return found


def proportional(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def compare_times(root: str, work: Path, workers: int) -> list[tuple[str, str]]:
    loop_folder, store = work / "loop", work / "store"
    loop_folder.mkdir()
    loop, loop_cpu = step("plain_loop", root, loop_folder)
    first, _, first_cpu = step("ingest", root, store, workers)
    second, imports, _ = step("ingest", root, store, workers)
    return [
        ("plain MNE loop, 1 process", f"{loop:.2f} s (CPU {loop_cpu:.1f} s)"),
        (f"ingestion, {workers} workers", f"{first:.2f} s (CPU {first_cpu:.1f} s)"),
        ("  times as fast (at least 1.7)", f"{loop / first:.2f}"),
        ("second ingestion, nothing changed", f"{second:.2f} s"),
        ("  of which importing pandas", f"{imports:.2f} s"),
        ("  without imports, of the first's time", f"{(second - imports) / (first - imports):.1%}"),
    ]


def compare_memory(work: Path, workers: int) -> list[tuple[str, str]]:
    rows = []
    short = generate(work / "short", 1, 120.0, n_channels=128)
    long = generate(work / "long", 1, 1200.0, n_channels=128)
    peaks = [step("clean_peak", root, work)[0] for root in (short, long)]
    rows.append(("peak memory, 128 channels, 2 / 20 min", f"{peaks[0]:.0f} / {peaks[1]:.0f} MB"))
    rows.append(("  grows by (at most 20 %)", f"{peaks[1] / peaks[0] - 1:+.1%}"))
    few = generate(work / "few", 6, 60.0)
    many = generate(work / "many", 60, 60.0)
    sums = [peak_of_all(root, work / f"{root.name}-store", workers) for root in (few, many)]
    rows.append(("peak memory of all, 6 / 60 recordings", f"{sums[0]:.0f} / {sums[1]:.0f} MB"))
    rows.append(("  grows by (at most 20 %)", f"{sums[1] / sums[0] - 1:+.1%}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = os.environ.get("EEGMAT_ROOT") or str(PROJECT / ".." / "shared" / "data" / "eegmat")
    parser.add_argument("--root", default=default, help="BIDS root")
    parser.add_argument("--workers", type=count, default=2, help="worker processes")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="ingestion-"))
    try:
        root = options.root
        if not Path(root).is_dir():
            print(f"{root} is absent: 40 recordings of 120 s are generated")
            root = str(generate(work / "generated", 40, 120.0))
        rows = compare_times(root, work, options.workers)
        if not options.no_memory:
            rows += compare_memory(work, options.workers)
        for name, value in rows:
            print(f"{name:40} {value:>20}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        name, *rest = sys.argv[2:]
        if name == "ingest":
            ingest(rest[0], rest[1], int(rest[2]))
        else:
            {"plain_loop": plain_loop, "clean_peak": clean_peak}[name](rest[0], rest[1])
    else:
        main()
