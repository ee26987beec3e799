"""The simulated release as a whole: made once, the same bytes, readable, never over other files."""

from __future__ import annotations

import hashlib
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.simulation import release
from hbn_foundation.recordings.simulation.params import SimulationParams
from hbn_foundation.recordings.simulation.release import MARKER, simulate_release


def small(**changes: object) -> SimulationParams:
    size = {"n_subjects": 3, "rest_seconds": 12.0, "ccd_runs": 1, "trials_per_run": 2}
    phases = {"eyes_open_seconds": 3.0, "eyes_closed_seconds": 4.0, "n_background_sources": 20}
    values = size | phases | {"n_truncated": 0, "n_jobs": 1} | changes
    return SimulationParams.model_validate(values)


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != MARKER
    }


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_same_parameters_give_same_bytes_on_any_number_of_processes(tmp_path):
    one = contents(simulate_release(tmp_path / "one", small()))
    two = contents(simulate_release(tmp_path / "two", small(n_jobs=2)))
    other = contents(simulate_release(tmp_path / "other", small(seed=1)))
    assert one == two
    assert len(one) == len(other) > 3 * 2 * 4
    assert sum(one[name] == other.get(name) for name in one if name.endswith(".bdf")) == 0


def test_release_is_made_once_and_remade_when_parameters_change(tmp_path, monkeypatch):
    root = simulate_release(tmp_path / "release", small())
    written = []
    real = release._write
    monkeypatch.setattr(release, "_write", lambda *a: (written.append(a), real(*a)))
    simulate_release(root, small(n_jobs=2))
    assert not written
    simulate_release(root, small(rest_seconds=14.0))
    assert len(written) == 1
    sidecar = root / "sub-NDARSIM001" / "eeg" / "sub-NDARSIM001_task-RestingState_eeg.json"
    assert json.loads(sidecar.read_text())["RecordingDuration"] == 14
    assert visible(tmp_path) == ["release"]
    for marker in ("", "{}", "[]", '{"hash": "old"}'):
        (root / MARKER).write_text(marker)
        simulate_release(root, small(n_subjects=2, ccd_runs=0))
    assert len(written) == 5


def test_two_runs_at_once_make_the_release_once(tmp_path, monkeypatch):
    written = []
    real = release._write
    monkeypatch.setattr(release, "_write", lambda *a: (written.append(a), real(*a)))
    with ThreadPoolExecutor(2) as both:
        list(both.map(simulate_release, [tmp_path / "release"] * 2, [small()] * 2))
    assert len(written) == 1


def test_interrupted_making_leaves_no_release_and_is_repeated(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(release, "_write_subject", stop)
        with pytest.raises(KeyboardInterrupt):
            simulate_release(tmp_path / "release", small())
    assert visible(tmp_path) == []
    left_by_a_kill = tmp_path / ".release.tmp" / "sub-1"
    left_by_a_kill.mkdir(parents=True)
    root = simulate_release(tmp_path / "release", small())
    assert (root / MARKER).exists()
    assert not (root / "sub-1").exists()
    assert visible(tmp_path) == ["release"]


def test_folder_with_other_files_is_refused_and_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="holds files that were not simulated") as caught:
        simulate_release(tmp_path, small())
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is a file"):
        simulate_release(tmp_path / "mine.txt", small())
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_mne_bids_reads_all_recordings(tiny_bids):
    import mne_bids

    paths = mne_bids.find_matching_paths(tiny_bids, extensions=".bdf")
    assert len(paths) == 12
    tasks = mne_bids.get_entity_vals(tiny_bids, "task")
    assert tasks == ["RestingState", "contrastChangeDetection"]
    with pytest.warns(RuntimeWarning, match="Unable to map"):
        raw = mne_bids.read_raw_bids(paths[1], verbose="warning")
    assert raw.ch_names == mne.channels.make_standard_montage("GSN-HydroCel-129").ch_names
    assert raw.info["sfreq"] == 100.0
    assert raw.info["line_freq"] == 60
    assert "left_target" in set(raw.annotations.description)
    events = pd.read_csv(str(paths[1].fpath).replace("_eeg.bdf", "_events.tsv"), sep="\t")
    assert np.allclose(events["onset"] * 500, events["sample"])


def test_signals_have_the_size_of_eeg_and_a_flat_reference(tiny_bids):
    truth = pd.read_csv(tiny_bids / "derivatives/ground_truth/recordings.tsv", sep="\t").fillna("")
    for recording in truth.itertuples():
        path = tiny_bids / f"sub-{recording.subject}" / "eeg" / f"{recording.recording}_eeg.bdf"
        data = mne.io.read_raw_bdf(path, verbose="error").get_data() * 1e6
        assert data.shape == (129, recording.seconds * 100)
        deviation = data.std(axis=1)
        assert deviation[-1] < 1e-3
        assert 7 < np.median(deviation[:-1]) < 40
        flat = {f"E{i + 1}" for i in np.flatnonzero(deviation[:-1] < 1e-3)}
        assert flat == set(recording.flat.split(",")) - {""}
        noisy = set(recording.noisy.split(",")) - {""}
        assert all(deviation[int(name[1:]) - 1] > 50 for name in noisy)


def test_truncated_recording_is_cut_in_the_middle_of_a_record(tmp_path):
    root = simulate_release(tmp_path / "cut", small(n_truncated=1, ccd_runs=0))
    truth = pd.read_csv(root / "derivatives/ground_truth/recordings.tsv", sep="\t")
    (cut,) = truth.loc[truth["truncated"], "subject"]
    sizes = {path.name.split("_")[0]: path.stat().st_size for path in root.rglob("*.bdf")}
    size = sizes.pop(f"sub-{cut}")
    (whole,) = set(sizes.values())
    assert 0.3 * whole < size < 0.6 * whole
    assert (size - 256 * 130) % (129 * 100 * 3)


def test_default_release_is_as_large_as_promised():
    params = SimulationParams()
    run = 4 + params.trials_per_run * (4.4 + 2.4) + 3
    seconds = params.n_subjects * (params.rest_seconds + params.ccd_runs * (run + 1))
    assert round(0.15 * params.n_subjects) >= 10  # test subjects, for intervals
    assert seconds * 129 * 100 * 3 < 350e6


def test_a_full_disk_is_named(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        with pytest.raises(UserError, match=r"disk/release: disk full") as caught:
            simulate_release(disk / "release", small())
        assert "\n" not in str(caught.value)
        assert visible(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
