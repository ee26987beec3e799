"""Files of simulated data sets: subjects in parallel, signals, sidecars and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from edfio import Bdf, BdfSignal
from joblib import Parallel, delayed

from hbn_foundation import progress

Written = TypeVar("Written")

NANOVOLT_RANGE = (-8388.608, 8388.607)  # µV over 24 bits: one step is a nanovolt
SIGNAL = partial(
    BdfSignal,
    physical_dimension="uV",
    physical_range=NANOVOLT_RANGE,
    prefiltering="HP:0.5Hz LP:50Hz",
)

SIDECAR = {
    "PowerLineFrequency": 60,
    "TaskName": "",
    "EEGChannelCount": 129,
    "EEGReference": "Cz",
    "RecordingType": "continuous",
    "RecordingDuration": 0,
    "SamplingFrequency": 0,
    "SoftwareFilters": "n/a",
    "CapManufacturer": "EGI",
    "CapManufacturersModelName": "GSN-HydroCel-129",
}


def write_subjects(
    write: Callable[..., Written], subjects: Sequence[tuple[Any, ...]], n_jobs: int
) -> list[Written]:
    """Call a function with the arguments of each subject, in several processes."""
    parallel = Parallel(
        min(n_jobs, len(subjects)), return_as="generator", pre_dispatch="all", max_nbytes=None
    )
    jobs = parallel(delayed(write)(*arguments) for arguments in subjects)
    return list(progress.track(jobs, "Simulating subjects", total=len(subjects)))


def write_recording(
    root: Path,
    name: str,
    channels: Sequence[str],
    eeg: np.ndarray,
    sfreq: int,
    events: pd.DataFrame,
    sidecar: dict[str, Any] | None = None,
) -> Path:
    """Write whole seconds (channels, n_samples) in µV with their sidecars; return the BDF file.

    `name` is that of the file up to `_eeg`; `sidecar` is what is not as in `SIDECAR`.
    """
    folder = root / name.partition("_")[0] / "eeg"
    folder.mkdir(parents=True, exist_ok=True)
    signals = [
        SIGNAL(data, sfreq, label=label)
        for label, data in zip(channels, np.clip(eeg, *NANOVOLT_RANGE), strict=True)
    ]
    path = folder / f"{name}_eeg.bdf"
    Bdf(signals).write(path)
    write_tsv(folder / f"{name}_events.tsv", events)
    table = pd.DataFrame({"name": channels, "type": "EEG", "units": "uV"})
    write_tsv(folder / f"{name}_channels.tsv", table)
    task = name.split("_")[1].removeprefix("task-")
    seconds = eeg.shape[1] // sfreq
    own = {"TaskName": task, "RecordingDuration": seconds, "SamplingFrequency": sfreq}
    write_json(folder / f"{name}_eeg.json", SIDECAR | own | (sidecar or {}))
    return path


def write_description(root: Path, name: str, kind: str) -> None:
    """Write dataset_description.json."""
    made_by = [{"Name": "hbn-foundation", "Description": "simulated, not recorded"}]
    content = {"Name": name, "BIDSVersion": "1.9.0", "DatasetType": kind, "GeneratedBy": made_by}
    write_json(root / "dataset_description.json", content)


def write_truth(root: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Write the true features of what was simulated to derivatives/ground_truth."""
    truth = root / "derivatives" / "ground_truth"
    truth.mkdir(parents=True)
    write_description(truth, "Ground truth of the simulated release", "derivative")
    for name, table in tables.items():
        write_tsv(truth / f"{name}.tsv", table)


def write_tsv(path: Path, table: pd.DataFrame) -> None:
    """Write a table with `n/a` where a value is missing."""
    table.to_csv(path, sep="\t", index=False, na_rep="n/a", lineterminator="\n")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=2) + "\n")
