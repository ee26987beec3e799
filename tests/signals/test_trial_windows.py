"""Trial windows begin where the stimulus was, and lie inside their recording."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.trials import NO_PRESS, recording_trials
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.timeline import BAD, GAP, Segment, Stretch, Timeline
from hbn_foundation.signals.build import build_store
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import TrialWindowParams, WindowParams
from hbn_foundation.signals.reader import WindowReader
from hbn_foundation.signals.store import SignalStore, store_from_arrays
from hbn_foundation.signals.windows import (
    cut_trial_windows,
    cut_windows,
    windows_of_label,
    windows_of_trials,
)
from recordings.eeg_files import bids_file, noise, raw_array, write

LENGTHS = (1000, 250)
COLUMNS = ["row", "recording", "subject", "task", "run", "start"]
OF_TRIAL = ["trial", "stimulus", "rt", "correct", "side", "response_side"]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SignalStore:
    recordings = [
        (
            {"recording": f"sub-{i}_task-ccd_run-1", "subject": str(i), "task": "ccd", "run": "1"},
            np.random.default_rng(i).standard_normal((n, 3)).astype(np.float16),
        )
        for i, n in enumerate(LENGTHS)
    ]
    return store_from_arrays(
        tmp_path_factory.mktemp("store"), recordings, ("A", "B", "C"), np.eye(3)
    )


def trials(*stimuli: tuple[int, float], excluded: str = "") -> pd.DataFrame:
    """Usable trials of recordings, each given as (number of the recording, stimulus)."""
    rows = [
        {
            "recording": f"sub-{row}_task-ccd_run-1",
            "subject": str(row),
            "task": "ccd",
            "run": "1",
            "trial": number,
            "stimulus": stimulus,
            "side": "left",
            "response": stimulus + 1.25,
            "response_side": "right",
            "rt": 1.25,
            "correct": 0.0,
            "excluded": excluded,
        }
        for number, (row, stimulus) in enumerate(stimuli, 1)
    ]
    return pd.DataFrame(rows)


def test_windows_follow_the_stimulus(store):
    windows = cut_trial_windows(store, trials((1, 0.004), (0, 3.0), (0, 1.996)))
    assert windows.columns.tolist() == COLUMNS + OF_TRIAL
    assert windows[["row", "start", "trial"]].to_numpy().tolist() == [
        [0, 350, 2],
        [0, 250, 3],
        [1, 50, 1],
    ]
    first = windows.iloc[0]
    assert (first["rt"], first["correct"], first["side"], first["response_side"]) == (
        1.25,
        0.0,
        "left",
        "right",
    )
    assert WindowReader(store, 200).read(windows["row"], windows["start"]).shape == (3, 200, 3)
    WindowReader(store, 200).check(windows)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3, 12), max_size=8), st.floats(-2, 2), st.floats(0.05, 4))
def test_all_windows_lie_inside_and_none_that_does_is_missing(store, stimuli, offset, seconds):
    params = TrialWindowParams(offset=offset, seconds=seconds)
    table = trials(*((0, stimulus) for stimulus in stimuli))
    windows = cut_trial_windows(store, table if len(table) else trials((9, 1.0)), params)
    starts = [round(stimulus * 100) + round(offset * 100) for stimulus in stimuli]
    inside = [start for start in starts if 0 <= start <= LENGTHS[0] - round(seconds * 100)]
    assert windows["start"].tolist() == inside


def test_what_gives_no_window(store, caplog):
    with caplog.at_level("INFO"):
        windows = cut_trial_windows(store, trials((0, 7.5), (0, 7.51), (0, -0.51)))
    assert windows["start"].tolist() == [800]
    assert "2 trials give no window" in caplog.text
    unusable = cut_trial_windows(store, trials((0, 3), excluded="no press after the target"))
    unknown = cut_trial_windows(store, trials((7, 3)))
    for empty in (unusable, unknown):
        assert empty.empty
        assert empty.columns.tolist() == COLUMNS + OF_TRIAL


def test_trials_across_a_gap_give_no_window_and_say_why(tmp_path, caplog):
    timeline = Timeline(
        100.0, (Stretch(0, 1000, 0.0), Stretch(1000, 2000, 70.0)), (Segment(1300, 1310),)
    )
    row = {"recording": "sub-0_task-ccd_run-1", "subject": "0", "timeline": timeline}
    store = store_from_arrays(tmp_path, [(row, np.zeros((2000, 3)))], ("A", "B", "C"), np.eye(3))
    table = trials((0, 3.0), (0, 9.5), (0, 71.0), (0, 76.0), (0, 7.4))
    table.loc[4, "response"] = 70.2
    with caplog.at_level("INFO"):
        windows = cut_trial_windows(store, table)
    assert windows["start"].tolist() == [350, 1650]
    assert f"3 trials give no window (2: {GAP}; 1: {BAD})" in caplog.text


def test_subjects_that_the_challenge_excludes_have_none(store, caplog):
    table = trials((0, 3.0), (1, 0.0))
    table.loc[0, "subject"] = "NDARWV769JM7"
    with caplog.at_level("INFO"):
        assert cut_trial_windows(store, table)["subject"].tolist() == ["1"]
    assert "left out, excluded: NDARWV769JM7" in caplog.text


def test_no_trials_at_all(store):
    nothing = recording_trials(
        pd.DataFrame(columns=["recording", "subject", "task", "run", "path", "bids_root"])
    )
    assert cut_trial_windows(store, nothing).empty


@pytest.mark.parametrize("sfreq", [100.0, 250.0, 500.0])
def test_onsets_count_from_the_first_sample_of_the_store(tmp_path, sfreq):
    """A click at an event's onset is found at that place of the clean signal."""
    onset, click = 7.3, int(7.3 * sfreq)
    signal = noise(14, int(14 * sfreq), sfreq, seed=1)
    signal[:, click] += 400e-6
    path = bids_file(tmp_path, ".edf", "1")
    write(raw_array(signal, sfreq), path)
    events = f"onset\tvalue\n1\tcontrastTrial_start\n{onset}\tleft_target\n8\tleft_buttonPress\n"
    name = path.name.replace("_eeg.edf", "_events.tsv")
    (path.parent / name).write_text(events + "13\tcontrastTrial_start\n")
    recordings = find_recordings(tmp_path)
    store = build_store(recordings, tmp_path / "store", CleaningParams(), n_jobs=1)
    params = TrialWindowParams(offset=-0.5, seconds=1.0)
    windows = cut_trial_windows(store, recording_trials(recordings), params)
    read = WindowReader(store, 100).read(windows["row"], windows["start"])
    peak = np.abs(read[0].astype(float)).sum(axis=1).argmax()
    assert peak == 50


OF_RT = LabelParams(kind="trial", column="rt", type="regression")


def dataset(store) -> EEGDataset:
    nothing = pd.DataFrame()
    return EEGDataset(store, cut_windows(store, WindowParams()), nothing, nothing)


def test_each_label_has_its_windows(store):
    data, table, usual = dataset(store), trials((0, 3.0)), TrialWindowParams()
    for label in (LabelParams(), LabelParams(kind="participant", column="age")):
        assert windows_of_label(label, data, table, usual, 2.0) is data.windows
        with pytest.raises(UserError, match="the windows here are those of trials; take trial"):
            windows_of_trials(label, store, table, usual, 2.0)
    chosen = windows_of_label(OF_RT, data, table, usual, 2.0)
    pd.testing.assert_frame_equal(chosen, cut_trial_windows(store, table))


def test_without_windows_of_trials_there_is_one_clear_line(store):
    lost = pd.concat([trials((0, 9.0), (0, 9.5)), trials((0, 3.0), excluded=NO_PRESS)])
    for table, params, says in (
        (trials((0, 1.0)).iloc[:0], TrialWindowParams(), "the recordings have no trials"),
        (lost, TrialWindowParams(), f"of 3 trials none is left: 2 without .*, 1 {NO_PRESS}"),
        (trials((0, 3.0)), TrialWindowParams(seconds=1), "=1: the encoder takes windows of 2 s"),
    ):
        with pytest.raises(UserError, match=says) as caught:
            windows_of_label(OF_RT, dataset(store), table, params, 2.0)
        assert "\n" not in str(caught.value)
