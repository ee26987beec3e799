"""Recordings with a few bytes changed: each must be cleaned, or rejected with a reason.

``python benchmarks/fuzz_recordings.py [--files 10000] [--first 0] [--workers 2]``

File number i is always the same: its format (EDF, BDF, FIF, EEGLAB, BrainVision, or EDF with
sidecars of which these are changed) and one to eight bytes that are changed somewhere, most of them
in a header, follow from i. Each is cleaned as in an
ingestion, by workers with limits of time and memory. The table counts how the files end:

- *cleaned*;
- *rejected*: a reason that is kept, since it holds for this file;
- *ended*: its worker was, for its time or memory or by a fault of a reader, or had no memory;
- *neither*: an error that no reader's check foresaw. There must be none: each is printed, and the
  exit status is 1.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = ("EDF", "BDF", "FIF", "EEGLAB", "BrainVision", "sidecars")
SFREQ, SECONDS = 128, 6
NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2")
STEM = "sub-{}_task-x_eeg"
SIDECARS = {
    "_channels.tsv": "name\ttype\tunits\tstatus\n"
    + "".join(f"{n}\tEEG\tuV\tgood\n" for n in NAMES),
    "_events.tsv": "onset\tduration\ttrial_type\n0.5\t0\tstart\n1.5\t1.0\tBAD_jump\n4\tn/a\tstop\n",
    "_electrodes.tsv": "name\tx\ty\tz\n"
    + "".join(
        f"{name}\t{0.08 * (-1) ** i:.3f}\t{0.02 * i - 0.07:.3f}\t0.040\n"
        for i, name in enumerate(NAMES)
    ),
    "_coordsystem.json": '{"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"}',
    "_eeg.json": '{"PowerLineFrequency": 50, "RecordingDuration": 6.0, "EEGReference": "Cz"}',
}
MOST_SECONDS, MOST_GB = 10.0, 2.0
AT_ONCE = 200
AGAIN = "; tried again in the next run"
LIMITS = ("ended because", "it needs more memory", "its worker process")


@cache
def whole(kind: str) -> dict[str, bytes]:
    """Files of an undamaged recording of six seconds and eight channels, by their endings."""
    import mne

    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.standard_normal((len(NAMES), SFREQ * SECONDS)), axis=1)
    signal -= signal.mean(axis=1, keepdims=True)
    info = mne.create_info(list(NAMES), SFREQ, "eeg")
    raw = mne.io.RawArray(2e-6 * signal, info, verbose="ERROR")
    raw.set_annotations(mne.Annotations([1.0, 3.0], [0.5, 0.0], ["start", "stop"]))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stem = Path(folder, STEM.format("x"))
        if kind == "BDF":
            import edfio

            signals = [
                edfio.BdfSignal(x * 2, SFREQ, label=name, physical_dimension="uV")
                for name, x in zip(NAMES, signal, strict=True)
            ]
            edfio.Bdf(signals).write(stem.with_suffix(".bdf"))
        elif kind == "FIF":
            raw.save(stem.with_suffix(".fif"), verbose="ERROR")
        else:
            ending = {"EEGLAB": ".set", "BrainVision": ".vhdr"}.get(kind, ".edf")
            mne.export.export_raw(stem.with_suffix(ending), raw, verbose="ERROR")
        files = {path.suffix: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    sidecars = SIDECARS.items() if kind == "sidecars" else ()
    return files | {ending: text.encode() for ending, text in sidecars}


def damaged(number: int) -> dict[str, bytes]:
    """Files of the recording of a number, with one to eight bytes changed."""
    rng = np.random.default_rng(number)
    files = {ending: bytearray(content) for ending, content in whole(kind_of(number)).items()}
    changed = [ending for ending in files if ending != ".edf"] or [".edf"]
    for _ in range(rng.integers(1, 9)):
        content = files[str(rng.choice(changed))]
        # as many in the first tenth, hundredth, … as in the rest
        place = int(len(content) ** rng.uniform(0.2, 1)) - 1
        content[place] = int(rng.integers(256))
    return {ending: bytes(content) for ending, content in files.items()}


def kind_of(number: int) -> str:
    """Format of a number."""
    return FORMATS[number % len(FORMATS)]


def write(root: Path, number: int) -> None:
    """Write the recording of a number into a BIDS root, as a subject's."""
    stem = STEM.format(number)
    folder = root / f"sub-{number}" / "eeg"
    folder.mkdir(parents=True)
    for ending, content in damaged(number).items():
        named = content.replace(STEM.format("x").encode(), stem.encode())
        is_text = ending in (".vhdr", ".vmrk")
        path = folder / f"{stem}{ending}" if ending[0] == "." else folder / f"{stem[:-4]}{ending}"
        path.write_bytes(named if is_text else content)


def clean(root: Path, n_workers: int) -> dict[int, str]:
    """Reason why each recording of a root was rejected, by number; "" for those cleaned."""
    from hbn_foundation.recordings.find import find_recordings
    from hbn_foundation.recordings.params import CleaningParams
    from hbn_foundation.signals.clean_task import CleaningTask, clean_task, load_readers
    from hbn_foundation.signals.parallel import Limits, run_parallel

    (root / "dataset_description.json").write_text("{}")
    tasks = [
        CleaningTask(place, row, str(root / "store"), CleaningParams(), "fuzz")
        for place, row in enumerate(find_recordings(root).to_dict("records"))
    ]
    limits = Limits(lambda task: MOST_SECONDS, load_readers, MOST_GB)
    ends = {}
    for task, result in run_parallel(clean_task, tasks, n_workers, limits):
        reason = result["reason"] if isinstance(result, dict) else f"{result}{AGAIN}"
        ends[int(task.row["subject"])] = reason
    return ends


def kind_of_end(reason: str) -> str:
    """Name how a recording ended."""
    if not reason:
        return "cleaned"
    if "\n" not in reason and not reason.endswith(AGAIN):
        return "rejected"
    return "ended" if reason.startswith(LIMITS) else "neither"


def main() -> int:
    """Count how the files end."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--workers", type=int, default=-1)
    given = parser.parse_args()
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in FORMATS}
    started = time.perf_counter()
    numbers = range(given.first, given.first + given.files)
    for place in range(0, len(numbers), AT_ONCE):
        root = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            for number in numbers[place : place + AT_ONCE]:
                write(root, number)
            ends = clean(root, given.workers)
        finally:
            shutil.rmtree(root)
        for number, reason in ends.items():
            end = kind_of_end(reason)
            counts[kind_of(number)][end] += 1
            if end not in ("cleaned", "rejected"):
                print(f"{number} {kind_of(number)}: {reason}", flush=True)
    return report(counts, time.perf_counter() - started)


def report(counts: dict[str, Counter[Any]], seconds: float) -> int:
    """Print the table; return the exit status."""
    ends = ("cleaned", "rejected", "ended", "neither")
    print(f"{'':12}" + "".join(f"{end:>14}" for end in ends))
    for kind, count in counts.items():
        print(f"{kind:12}" + "".join(f"{count[end]:>14}" for end in ends))
    total = sum(counts.values(), Counter())
    print(f"{'all':12}" + "".join(f"{total[end]:>14}" for end in ends))
    print(f"{total.total()} files in {seconds:.0f} s")
    return 1 if total["neither"] else 0


if __name__ == "__main__":
    sys.exit(main())
