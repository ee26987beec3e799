"""The simulated HBN mini release: made once, remade only when its parameters change.

The release is written into a folder beside its place and moved there when it is whole, its
marker file last; a run that was interrupted leaves nothing that looks like a release.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation import progress
from hbn_foundation.errors import UserError
from hbn_foundation.files import is_full_disk
from hbn_foundation.recordings.simulation.params import SimulationParams

MARKER = "simulation.json"
VERSION = 3  # raise it when the same parameters give other files


def simulate_release(root: Path | str, params: SimulationParams) -> Path:
    """Make the simulated release at `root` unless it is there already.

    Parameters
    ----------
    root
        Folder of the release. It is replaced if it holds an older simulated release.
    params
        What to simulate. The same parameters give the same bytes.

    Returns
    -------
    Path
        `root`.

    Raises
    ------
    UserError
        If `root` holds something that is not a simulated release, or cannot be written.
    """
    root = Path(root)
    if _is_current(root, params):
        return root
    _check_free(root)
    try:
        return _make(root, params)
    except OSError as error:
        if is_full_disk(error):
            raise UserError(
                f"source.simulated_root '{root}': disk full; free some space or name a folder on "
                "another disk, or simulate less (source.simulation.n_subjects)"
            ) from error
        raise UserError(
            f"source.simulated_root '{root}' could not be written: {error.strerror or error}"
        ) from error


def _check_free(root: Path) -> None:
    """Refuse to replace what was not simulated."""
    if root.exists() and not root.is_dir():
        raise UserError(f"source.simulated_root '{root}' is a file; name an empty or new folder")
    if root.is_dir() and any(root.iterdir()) and not (root / MARKER).exists():
        raise UserError(
            f"source.simulated_root '{root}' holds files that were not simulated; "
            "name an empty or new folder for the simulated release"
        )


def _make(root: Path, params: SimulationParams) -> Path:
    root.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(root)
    made = Path(tempfile.mkdtemp(prefix=f".{root.name}.{os.getpid()}-", dir=root.parent))
    try:
        _write(made, params)
        return _move(made, root, params)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def simulation_hash(params: SimulationParams) -> str:
    """Return the hash of everything that decides the release's bytes."""
    chosen = params.model_dump(exclude={"n_jobs"}) | {"version": VERSION}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def _is_current(root: Path, params: SimulationParams) -> bool:
    try:
        return json.loads((root / MARKER).read_text())["hash"] == simulation_hash(params)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _move(made: Path, root: Path, params: SimulationParams) -> Path:
    """Put the finished release in its place; another process may have been faster."""
    made.chmod(0o755)
    if _is_current(root, params):
        return root
    if root.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{root.name}.{os.getpid()}-", dir=root.parent))
        root.replace(old / "old")
        shutil.rmtree(old, ignore_errors=True)
    made.replace(root)
    return root


def _remove_leftovers(root: Path) -> None:
    """Remove what interrupted runs left beside the release."""
    for folder in root.parent.glob(f".{root.name}.*-*"):
        process = folder.name.rsplit(".", 1)[1].split("-")[0]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _write(root: Path, params: SimulationParams) -> None:
    from hbn_foundation.recordings.simulation import files
    from hbn_foundation.recordings.simulation.head import make_head
    from hbn_foundation.recordings.simulation.subjects import draw_subjects

    started = time.monotonic()
    subjects = draw_subjects(params)
    files.write_description(root, subjects, params)
    head = make_head(params.n_background_sources)
    jobs = _subject_jobs(root, subjects, head, params)
    done = progress.track(jobs, "Simulating subjects", total=len(subjects))
    tables = list(done)
    trials = pd.concat([trial for trial, _ in tables], ignore_index=True)
    recordings = pd.concat([recording for _, recording in tables], ignore_index=True)
    ceiling = rt_ceiling(trials) if len(trials) else {}
    files.write_ground_truth(root, subjects, trials, recordings, ceiling)
    marker = {"hash": simulation_hash(params), "version": VERSION, "params": params.model_dump()}
    (root / MARKER).write_text(json.dumps(marker, indent=2) + "\n")
    hours = recordings["seconds"].sum() / 3600
    progress.say(
        f"Simulated {len(subjects)} subjects, {len(recordings)} recordings, {hours:.1f} h "
        f"in {time.monotonic() - started:.0f} s"
    )


def _subject_jobs(
    root: Path, subjects: pd.DataFrame, head: Any, params: SimulationParams
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    from joblib import Parallel, delayed

    workers = min(params.n_jobs, len(subjects))
    parallel = Parallel(n_jobs=workers, return_as="generator", pre_dispatch="all", max_nbytes=None)
    return parallel(
        delayed(_write_subject)(root, number, subjects.iloc[number], head, params)
        for number in range(len(subjects))
    )


def _write_subject(
    root: Path, number: int, subject: pd.Series, head: Any, params: SimulationParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate and write all recordings of one subject; return its trials and recordings."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums over threads differ in the last bit, and so would the files
        return _write_runs(root, number, subject, head, params)


def _write_runs(
    root: Path, number: int, subject: pd.Series, head: Any, params: SimulationParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    from hbn_foundation.recordings.simulation import behaviour, files, observer, signals

    trials, rows = [], []
    for run_number in range(params.ccd_runs + 1):
        rng = np.random.default_rng([params.seed, 1, number, run_number])
        if run_number:
            task, run = (
                "contrastChangeDetection",
                behaviour.draw_contrast_run(subject, run_number, params, rng),
            )
        else:
            task, run = "RestingState", behaviour.draw_rest(params, rng)
        eeg, bad = signals.simulate_eeg(subject, run, head, params, rng)
        if run_number:
            seen = observer.observe(
                eeg,
                run.trials,
                subject["build_up_uv"],
                head,
                bad,
                float(params.sfreq),
                (params.rt_mean, params.rt_sd),
            )
            truth = run.trials.assign(subject=subject["subject"], run=run_number, observer_rt=seen)
            trials.append(truth)
        path = files.write_recording(
            root, subject["subject"], task, run_number or None, run, eeg, params.sfreq
        )
        cut = not run_number and _is_cut(number, params)
        if cut:
            files.truncate(path)
        rows.append(
            {
                "recording": path.name.removesuffix("_eeg.bdf"),
                "subject": subject["subject"],
                "seconds": run.seconds,
                "flat": ",".join(head.names[i] for i in bad.flat) or "n/a",
                "noisy": ",".join(head.names[i] for i in bad.noisy) or "n/a",
                "truncated": cut,
            }
        )
    table = pd.concat(trials, ignore_index=True) if trials else pd.DataFrame()
    return table, pd.DataFrame(rows)


def _is_cut(number: int, params: SimulationParams) -> bool:
    """Whether a subject's rest is cut short: subjects from the third on."""
    first = min(2, params.n_subjects - 1)
    return first <= number < first + params.n_truncated


def rt_ceiling(trials: pd.DataFrame) -> dict[str, float]:
    """Return how well response times can be predicted at best, pooled over answered trials.

    `oracle` knows the end of the build-up exactly, `observer` reads it from the EEG as well as
    that can be done. NRMSE is the challenge's: the deviation of the true times (ddof 0) is 1.
    """
    answered = trials[trials["answered"]]
    sd = float(answered["rt"].std(ddof=0))
    ceiling = {"n_trials": len(answered), "rt_mean": float(answered["rt"].mean()), "rt_sd": sd}
    for name in ("oracle", "observer"):
        error = answered["rt"] - answered[f"{name}_rt"]
        nrmse = float(np.sqrt((error**2).mean()) / sd)
        ceiling |= {f"{name}_nrmse": nrmse, f"{name}_r2": 1 - nrmse**2}
    return ceiling
