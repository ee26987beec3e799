"""Windows of the challenge: how recordings are read, and where windows begin."""

from __future__ import annotations

import shutil
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.read import UnreadableRecording
from hbn_foundation.recordings.recording import open_recording
from hbn_foundation.recordings.timeline import Segment, Stretch, Timeline
from hbn_foundation.submission.windows import (
    CHANNELS,
    _at_rate,
    crop_starts,
    example_windows,
    read_all,
    read_volts,
    trial_starts,
    windows_for_checks,
)
from recordings.eeg_files import never_read


def test_reading_volts(tiny_bids):
    path = next(tiny_bids.glob("sub-*/eeg/*RestingState*.bdf")).relative_to(tiny_bids)
    volts, timeline = read_volts(str(tiny_bids), str(path))
    raw = mne.io.read_raw(tiny_bids / path, verbose="ERROR")
    assert raw.ch_names == list(CHANNELS)
    assert volts.shape == (129, raw.n_times)
    assert timeline.allowed.tolist() == [[0, raw.n_times]]
    assert volts.dtype == np.float32
    np.testing.assert_allclose(volts, raw.get_data(), rtol=1e-6)


def fif(folder: Path, names: list[str], sfreq: float = 100.0) -> str:
    """Write a short recording in which each channel's number tells its name."""
    info = mne.create_info(names, sfreq, "eeg")
    data = np.arange(len(names))[:, None] * 1e-6 * np.ones((1, int(8 * sfreq)))
    (folder / "sub-1" / "eeg").mkdir(parents=True)
    path = "sub-1/eeg/sub-1_task-rest_eeg.fif"
    mne.io.RawArray(data, info, verbose="ERROR").save(folder / path, verbose="ERROR")
    return path


def test_channels_are_put_in_order_and_the_reference_may_be_missing(tmp_path):
    names = list(CHANNELS[:128])[::-1]
    volts, _ = read_volts(str(tmp_path), fif(tmp_path, names))
    np.testing.assert_allclose(volts[:128, 0], np.arange(128)[::-1] * 1e-6, rtol=1e-5)
    assert (volts[128] == 0).all()
    (tmp_path / "other").mkdir()
    with pytest.raises(UnreadableRecording, match="has 100 of the 129 channels of the net"):
        read_volts(str(tmp_path / "other"), fif(tmp_path / "other", list(CHANNELS[:99])))


def test_a_file_whose_reader_never_returns_stops_no_score(tmp_path):
    path = fif(tmp_path, list(CHANNELS))
    copies = [Path(path.replace("sub-1", subject)) for subject in ("sub-2", "sub-3")]
    for copy in copies:
        (tmp_path / copy).parent.mkdir(parents=True)
        shutil.copy(tmp_path / path, tmp_path / copy)
    never_read(tmp_path / copies[0])
    for seconds in (3, 30):  # a busy machine takes long for the others, too
        rows = read_all(rows_of(tmp_path), max_seconds=seconds)
        read = {row["subject"]: found for row, found in rows}
        if not isinstance(read["1"], str) and not isinstance(read["3"], str):
            break
    assert read["2"] == f"ended because it took more than {seconds} s"
    assert read["1"][0].shape == read["3"][0].shape == (129, 800)


def rows_of(root):
    return find_recordings(root).to_dict("records")


def test_another_rate_is_filtered_and_resampled(tmp_path):
    time = np.arange(0, 30, 1 / 500)
    data = np.stack([20e-6 * np.sin(2 * np.pi * 10 * time), 20e-6 * np.sin(2 * np.pi * 70 * time)])
    raw = mne.io.RawArray(data, mne.create_info(["Fp2", "Fp1"], 500.0, "eeg"), verbose="ERROR")
    raw.save(tmp_path / "sub-1_task-rest_eeg.fif", verbose="ERROR")
    found, timeline = _at_rate(open_recording(str(tmp_path), "sub-1_task-rest_eeg.fif"), [0, 1])
    assert found.shape == (2, 3000)
    assert timeline.stretches == ((0, 3000, 0.0),)
    middle = slice(1000, 2000)
    at_rate = 20e-6 * np.sin(2 * np.pi * 10 * np.arange(0, 30, 0.01))
    np.testing.assert_allclose(found[0, middle], at_rate[middle], atol=0.4e-6)
    assert np.abs(found[1, middle]).max() < 1e-6


@pytest.mark.parametrize("sfreq", [500.0, 100.0])
def test_a_sample_that_is_not_finite_stays_alone(tmp_path, sfreq):
    """It does not spread over the piece that is resampled, nor to other channels."""
    time = np.arange(0, 30, 1 / sfreq)
    data = 20e-6 * np.sin(2 * np.pi * 10 * np.stack([time, time + 0.02])) + 3e-3
    info = mne.create_info(["Fp2", "Fp1"], sfreq, "eeg")
    found = []
    for name, wrong in (("whole", data[0, 2000]), ("broken", np.nan)):
        data[0, 2000] = wrong
        path = f"sub-1_task-{name}_eeg.fif"
        mne.io.RawArray(data, info, verbose="ERROR").save(tmp_path / path, verbose="ERROR")
        found.append(_at_rate(open_recording(str(tmp_path), path), [0, 1])[0])
    whole, broken = found
    np.testing.assert_allclose(broken[1], whole[1], atol=1e-12)
    np.testing.assert_allclose(broken[0], whole[0], atol=15e-6)
    assert np.abs(broken[0] - whole[0]).mean() < 1e-7


@given(st.integers(0, 5000), st.integers(0, 2**32), st.text("ab_-1", max_size=6))
def test_each_crop_lies_in_its_window(n_samples, seed, recording):
    timeline = Timeline.unbroken(n_samples, 100.0)
    starts = crop_starts(recording, timeline, seed)
    assert len(starts) == max(0, (n_samples - 400) // 200 + 1)
    windows = 200 * np.arange(len(starts))
    assert ((starts >= windows) & (starts + 200 <= windows + 400)).all()
    assert np.array_equal(starts, crop_starts(recording, timeline, seed))
    for other in (seed + 1, recording), (seed, recording + "x"):
        assert len(starts) < 20 or not np.array_equal(
            starts, crop_starts(other[1], timeline, other[0])
        )


def test_gaps_and_bad_segments_are_not_scored():
    timeline = Timeline(
        100.0, (Stretch(0, 900, 0.0), Stretch(900, 2000, 60.0)), (Segment(1400, 1410),)
    )
    for start in crop_starts("r", timeline, 0).tolist():
        assert timeline.inside(np.array([start]), 200).all()
    assert len(crop_starts("r", timeline, 0)) == 3 + 1 + 1
    trials = pd.DataFrame({"stimulus": [3.0, 7.0, 64.0, 66.0], "response": [4.0, 8.0, 65.0, 67.0]})
    assert list(trial_starts(trials, timeline)["start"]) == [350, 1550]
    trials = pd.DataFrame({"stimulus": [-1.0, 0.004, 1.006, 3.0], "response": 4.0})
    found = trial_starts(trials, Timeline.unbroken(450, 100.0))
    assert list(found["start"]) == [50, 151]  # only whole windows after the stimulus


def test_windows_for_checks(tiny_bids):
    windows = windows_for_checks(find_recordings(tiny_bids), 14, seed=1)
    assert windows.shape == (14, 129, 200)
    assert np.array_equal(windows[:7], example_windows(7, seed=1))
    assert 1e-7 < np.abs(windows[7:]).mean() < 1e-3
    nothing = find_recordings(tiny_bids).iloc[:0]
    assert np.array_equal(windows_for_checks(nothing, 14, 1), example_windows(14, 1))
