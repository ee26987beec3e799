"""The simulated HBN mini release: made once, remade only when its parameters change.

The release is written into a temporary folder beside `root`, which is renamed when it is complete.
An interrupted run leaves no release, and the next run removes its temporary folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from threadpoolctl import threadpool_limits

from hbn_foundation import progress
from hbn_foundation.errors import UserError
from hbn_foundation.files import full_disk_named
from hbn_foundation.recordings.simulation.behaviour import Run, draw_contrast_run, draw_rest
from hbn_foundation.recordings.simulation.head import Head, make_head
from hbn_foundation.recordings.simulation.params import SimulationParams, SleepParams
from hbn_foundation.recordings.simulation.signals import simulate_eeg
from hbn_foundation.recordings.simulation.sleep import SLEEP_VERSION, write_nights
from hbn_foundation.recordings.simulation.subjects import draw_subjects, participants_table
from hbn_foundation.recordings.simulation.writing import (
    write_description,
    write_json,
    write_recording,
    write_subjects,
    write_truth,
    write_tsv,
)

MARKER = "simulation.json"
VERSION = 3  # raise it when the same parameters give other files
Simulated = SimulationParams | SleepParams

TRUNCATED_AT = 0.45

README = """Simulated HBN-EEG mini release
==============================

No person was recorded: signals, participants and events are simulated, in the form of the
Healthy Brain Network EEG releases at 100 Hz. derivatives/ground_truth holds the true features of
subjects, trials and recordings, and says which recording is cut short on purpose.
"""


def simulate_release(root: Path | str, params: Simulated) -> Path:
    """Make the release, or nights of sleep, at `root` unless it is there already; return `root`.

    The same parameters give the same bytes. An older simulated release is replaced; UserError if
    `root` holds something else, or cannot be written.
    """
    root = Path(root)
    if _is_current(root, params):
        return root
    _check_free(root)
    try:
        with full_disk_named(root), FileLock(root.with_name(f".{root.name}.lock")):
            if not _is_current(root, params):
                _make(root, params)
    except OSError as error:
        raise UserError(
            f"source.simulated_root '{root}' could not be written: {error.strerror or error}"
        ) from error
    return root


def _is_current(root: Path, params: Simulated) -> bool:
    try:
        return json.loads((root / MARKER).read_text())["hash"] == simulation_hash(params)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def simulation_hash(params: Simulated) -> str:
    """Return the hash of everything that decides the release's bytes."""
    chosen = params.model_dump(exclude={"n_jobs"}) | {"version": _version(params)}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def _version(params: Simulated) -> int:
    return SLEEP_VERSION if isinstance(params, SleepParams) else VERSION


def _check_free(root: Path) -> None:
    """Raise UserError if `root` holds anything but a simulated release."""
    if root.exists() and not root.is_dir():
        raise UserError(f"source.simulated_root '{root}' is a file; name an empty or new folder")
    if root.is_dir() and any(root.iterdir()) and not (root / MARKER).exists():
        raise UserError(
            f"source.simulated_root '{root}' holds files that were not simulated; "
            "name an empty or new folder for the simulated release"
        )


def _make(root: Path, params: Simulated) -> None:
    temporary = root.with_name(f".{root.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        _write(temporary, params)
        shutil.rmtree(root, ignore_errors=True)
        temporary.replace(root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(root: Path, params: Simulated) -> None:
    """Write the data set, and the marker last."""
    started = time.monotonic()
    if isinstance(params, SleepParams):
        recordings = write_nights(root, params)
    else:
        recordings = _write_release(root, params)
    marker = {"hash": simulation_hash(params), "version": _version(params)}
    write_json(root / MARKER, marker | {"params": params.model_dump()})
    hours = recordings["seconds"].sum() / 3600
    progress.say(
        f"Simulated {recordings['subject'].nunique()} subjects, {len(recordings)} recordings, "
        f"{hours:.1f} h in {time.monotonic() - started:.0f} s"
    )


def _write_release(root: Path, params: SimulationParams) -> pd.DataFrame:
    subjects = draw_subjects(params)
    write_description(root, "Simulated Healthy Brain Network (HBN) EEG - mini release", "raw")
    (root / "README").write_text(README)
    write_tsv(root / "participants.tsv", participants_table(subjects, params))
    head = make_head(params.n_background_sources)
    each = [(root, number, subjects.iloc[number], head, params) for number in range(len(subjects))]
    tables = write_subjects(_write_subject, each, params.n_jobs)
    trials, recordings = (
        pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True)
    )
    subjects, trials = subjects.round(5), trials.round(5)
    write_truth(root, {"subjects": subjects, "trials": trials, "recordings": recordings})
    return recordings


def _write_subject(
    root: Path, number: int, subject: pd.Series, head: Head, params: SimulationParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate and write all recordings of one subject; return its trials and recordings."""
    trials, recordings = [], []
    # subjects from the third on have a rest recording that is cut short
    first_cut = min(2, params.n_subjects - 1)
    for run_number in range(params.ccd_runs + 1):
        rng = np.random.default_rng([params.seed, 1, number, run_number])
        if run_number:
            task = f"contrastChangeDetection_run-{run_number}"
            run = draw_contrast_run(subject, run_number, params, rng)
            trials.append(run.trials.assign(subject=subject["subject"], run=run_number))
        else:
            task, run = "RestingState", draw_rest(params, rng)
        with threadpool_limits(1):  # sums over threads differ in the last bit
            eeg, flat, noisy = simulate_eeg(subject, run, head, params, rng)
        name = f"sub-{subject['subject']}_task-{task}"
        cut = not run_number and first_cut <= number < first_cut + params.n_truncated
        _write_run(root, name, run, eeg, params.sfreq, cut)
        recordings.append(
            {
                "recording": name,
                "subject": subject["subject"],
                "seconds": run.seconds,
                "flat": ",".join(head.names[i] for i in flat) or "n/a",
                "noisy": ",".join(head.names[i] for i in noisy) or "n/a",
                "truncated": cut,
            }
        )
    table = pd.concat(trials, ignore_index=True) if trials else pd.DataFrame()
    return table, pd.DataFrame(recordings)


def _write_run(root: Path, name: str, run: Run, eeg: np.ndarray, sfreq: int, cut: bool) -> None:
    """Write a recording (129, n_samples) in µV with its sidecars, `cut` within a data record."""
    names = [f"E{i}" for i in range(1, len(eeg))] + ["Cz"]
    path = write_recording(root, name, names, eeg, sfreq, run.events)
    if cut:
        with path.open("r+b") as file:
            file.truncate(int(path.stat().st_size * TRUNCATED_AT) | 1)
