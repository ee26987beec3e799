"""Writing the simulated release: BIDS as the challenge publishes HBN-EEG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.recordings.simulation.behaviour import Run
from hbn_foundation.recordings.simulation.params import SimulationParams
from hbn_foundation.recordings.simulation.subjects import participants_table

NANOVOLT_RANGE = (-8388.608, 8388.607)  # µV over 24 bits: one step is a nanovolt
TRUNCATED_AT = 0.45

README = """Simulated HBN-EEG mini release
==============================

No person was recorded: signals, participants and events are simulated, in the form of the
Healthy Brain Network EEG releases at 100 Hz. What acts on what, and the best possible
predictions, lie in derivatives/ground_truth.
One recording is cut short on purpose (derivatives/ground_truth/recordings.tsv says which).
"""

GROUND_TRUTH_README = """trials.tsv      each target: side, latent_rt (end of the build-up, s), rt;
                oracle_rt and observer_rt: the best predictions (see ceiling.json)
subjects.tsv    each subject's true features: amplitudes in microvolts, frequencies in Hz
recordings.tsv  each recording: length, bad channels, whether it was cut short
ceiling.json    error of the best possible prediction of response times
"""

EVENT_LEVELS = {
    "contrastChangeB1_start": "Start of block (run) 1; B2 and B3 likewise",
    "contrastTrial_start": "Start of a trial",
    "left_target": "The left-tilted grating begins to increase in contrast",
    "right_target": "The right-tilted grating begins to increase in contrast",
    "left_buttonPress": "The left button was pressed",
    "right_buttonPress": "The right button was pressed",
    "resting_start": "Start of rest",
    "instructed_toOpenEyes": "Instruction to open the eyes",
    "instructed_toCloseEyes": "Instruction to close the eyes",
}


def write_description(root: Path, subjects: pd.DataFrame, params: SimulationParams) -> None:
    """Write what stands at the top of the release."""
    description = {
        "Name": "Simulated Healthy Brain Network (HBN) EEG - mini release",
        "BIDSVersion": "1.9.0",
        "DatasetType": "raw",
        "License": "CC0",
        "Authors": ["hbn-foundation"],
        "GeneratedBy": [{"Name": "hbn-foundation", "Description": "simulated, not recorded"}],
    }
    _json(root / "dataset_description.json", description)
    (root / "README").write_text(README)
    table = participants_table(subjects, params)
    _tsv(root / "participants.tsv", table)
    _json(root / "participants.json", {column: _described(column) for column in table.columns})
    events = {
        "onset": {"Description": "Time of the event since the start.", "Units": "s"},
        "duration": {"Description": "Always n/a."},
        "sample": {"Description": "Time of the event counted at 500 Hz, as recorded."},
        "value": {"Description": "Type of the event.", "Levels": EVENT_LEVELS},
        "feedback": {"Description": "What a button press was answered with."},
    }
    for task in ("contrastChangeDetection", "RestingState"):
        _json(root / f"task-{task}_events.json", events)


def write_recording(
    root: Path, subject: str, task: str, number: int | None, run: Run, eeg: np.ndarray, sfreq: int
) -> Path:
    """Write one recording with its sidecars and return the path of its BDF file.

    Parameters
    ----------
    eeg
        (129, n_samples) in µV; the names are the montage's, `Cz` last.
    """
    from edfio import Bdf, BdfSignal

    folder = root / f"sub-{subject}" / "eeg"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"sub-{subject}_task-{task}" + (f"_run-{number}" if number else "")
    names = [f"E{i}" for i in range(1, len(eeg))] + ["Cz"]
    inside = np.clip(eeg, *NANOVOLT_RANGE)
    signals = [
        BdfSignal(
            data,
            sfreq,
            label=name,
            physical_dimension="uV",
            physical_range=NANOVOLT_RANGE,
            prefiltering="HP:0.5Hz LP:50Hz",
        )
        for name, data in zip(names, inside, strict=True)
    ]
    path = folder / f"{stem}_eeg.bdf"
    Bdf(signals).write(path)
    _tsv(folder / f"{stem}_events.tsv", run.events)
    channels = pd.DataFrame({"name": names, "type": "EEG", "units": "uV"})
    _tsv(folder / f"{stem}_channels.tsv", channels)
    _json(folder / f"{stem}_eeg.json", _sidecar(task, len(eeg), run.seconds, sfreq))
    return path


def truncate(path: Path) -> None:
    """Cut a file in the middle of a record."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(int(size * TRUNCATED_AT) | 1)


def write_ground_truth(
    root: Path,
    subjects: pd.DataFrame,
    trials: pd.DataFrame,
    recordings: pd.DataFrame,
    ceiling: dict[str, Any],
) -> None:
    """Write what is true of the release, as a BIDS derivative."""
    folder = root / "derivatives" / "ground_truth"
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "Name": "Ground truth of the simulated release",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "hbn-foundation"}],
    }
    _json(folder / "dataset_description.json", description)
    (folder / "README").write_text(GROUND_TRUTH_README)
    _tsv(folder / "subjects.tsv", subjects.round(5))
    _tsv(folder / "trials.tsv", trials.round(5))
    _tsv(folder / "recordings.tsv", recordings)
    _json(folder / "ceiling.json", ceiling)


def _sidecar(task: str, n_channels: int, seconds: int, sfreq: int) -> dict[str, Any]:
    return {
        "PowerLineFrequency": 60,
        "TaskName": task,
        "EEGChannelCount": n_channels,
        "EEGReference": "Cz",
        "RecordingType": "continuous",
        "RecordingDuration": seconds,
        "SamplingFrequency": sfreq,
        "SoftwareFilters": "n/a",
        "CapManufacturer": "EGI",
        "CapManufacturersModelName": "GSN-HydroCel-129",
    }


def _described(column: str) -> dict[str, Any]:
    told = {
        "participant_id": "Name of the simulated participant.",
        "release_number": "Release; R5 validates and R12 tests in the official split.",
        "sex": "F female, M male.",
        "age": "Age in years.",
        "ehq_total": "Edinburgh Handedness Questionnaire, +100 fully right-handed.",
        "p_factor": "General score of psychopathology.",
    }
    return {"Description": told.get(column, f"As in HBN-EEG: {column}.")}


def _tsv(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, sep="\t", index=False, na_rep="n/a", lineterminator="\n")


def _json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
