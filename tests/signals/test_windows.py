"""Windows of every kind lie inside their recordings, and are all that do."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.trials import NO_PRESS, recording_trials
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.timeline import BAD, GAP, Segment, Stretch, Timeline
from hbn_foundation.signals.build import build_store
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.label_windows import windows_of_label, windows_of_trials
from hbn_foundation.signals.params import (
    BuildParams,
    CropWindowParams,
    TrialWindowParams,
    WindowParams,
)
from hbn_foundation.signals.reader import WindowReader
from hbn_foundation.signals.store import SignalStore
from hbn_foundation.signals.windows import (
    TRIAL_WINDOW_COLUMNS,
    cut_crop_windows,
    cut_trial_windows,
    cut_windows,
    window_length,
)
from recordings.eeg_files import bids_file, noise, raw_array, write
from signals.stores import stored

LENGTHS = (500, 199, 1000, 731)
COLUMNS = ["row", "recording", "subject", "task", "run", "start"]
EXCLUDED = "NDARWV769JM7"
PEOPLE = pd.DataFrame(
    {
        "subject": ["0", "1", "2", "3", EXCLUDED],
        "p_factor": [0.5, None, None, "1.5", 0.1],
        "attention": [None, -1.0, None, 2.5, 0.2],
    }
)
FACTORS = ("p_factor", "attention")
OF_RT = LabelParams(kind="trial", column="rt", type="regression")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SignalStore:
    return stored(tmp_path_factory.mktemp("store"), [({}, n) for n in LENGTHS])


@pytest.fixture(scope="module")
def people_store(tmp_path_factory) -> SignalStore:
    """Two tasks of each of the people."""
    rows = [
        ({"recording": f"sub-{name}_task-{task}", "subject": name, "task": task}, n)
        for name in PEOPLE["subject"]
        for task, n in (("rest", 1000), ("film", 399 if name == "0" else 400))
    ]
    return stored(tmp_path_factory.mktemp("people"), rows)


def trials(*stimuli: tuple[int, float], excluded: str = "") -> pd.DataFrame:
    """Trials of recordings, each given as (number of the recording, stimulus)."""
    common = {"task": "rest", "run": "1", "side": "left", "response_side": "right", "rt": 1.25}
    rows = [
        {"recording": f"sub-{row}", "subject": str(row), "trial": number, "stimulus": stimulus,
         "response": stimulus + 1.25, "correct": 0.0, "excluded": excluded, **common}
        for number, (row, stimulus) in enumerate(stimuli, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def crops(store, columns=FACTORS, jitter=1.0, people=PEOPLE, **params):
    params = CropWindowParams(**{"tasks": None, **params})
    return cut_crop_windows(store, people, columns, params, seconds=2.0, jitter=jitter)


@settings(max_examples=40)
@given(st.floats(0.02, 3), st.floats(0.001, 4))
def test_windows_are_all_those_that_lie_inside(store, seconds, stride):
    windows = cut_windows(store, WindowParams(seconds=seconds, stride=stride))
    n_samples, step = round(seconds * 100), max(1, round(stride * 100))
    for row, length in enumerate(LENGTHS):
        starts = windows.loc[windows["row"] == row, "start"].tolist()
        assert starts == list(range(0, length - n_samples + 1, step))


def test_no_window_lies_across_a_gap_or_in_a_bad_segment(tmp_path, caplog):
    broken = Timeline(100.0, (Stretch(0, 450, 0.0), Stretch(450, 731, 64.5)), (Segment(500, 520),))
    bad = Timeline(100.0, (Stretch(0, 199, 0.0), Stretch(199, 400, 2.0)), (Segment(300, 301),))
    rows = [({"timeline": broken}, 731), ({"timeline": bad}, 400), ({}, 400)]
    store = stored(tmp_path, rows)
    with caplog.at_level("INFO"):
        windows = cut_windows(store, WindowParams(seconds=2, stride=1))
    assert windows.columns.tolist() == [*COLUMNS, "onset"]
    assert windows[["row", "start"]].to_numpy().tolist() == [
        *([0, start] for start in (0, 100, 200, 520)),
        *([2, start] for start in (0, 100, 200)),
    ]
    assert windows["onset"].tolist() == [0, 1, 2, 65.2, 0, 1, 2]
    told = "no window of 1 recording without 2 s free of gaps and bad segments: sub-1"
    assert told in caplog.text
    assert store.timeline(0).stretches == broken.stretches
    assert SignalStore(tmp_path).timeline(0).bad == broken.bad


def test_no_window_at_all_is_an_error(store):
    with pytest.raises(UserError, match=r"seconds is 60.* longest of 4 .* 10\.0 s"):
        cut_windows(store, WindowParams(seconds=60))
    with pytest.raises(UserError, match="two samples"):
        window_length(0.01, 100)


def test_trial_windows_follow_the_stimulus(store, caplog):
    table = trials((1, -0.504), (0, 2.5), (0, 1.996), (3, 1.0))
    table.loc[3, "subject"] = EXCLUDED
    with caplog.at_level("INFO"):
        windows = cut_trial_windows(store, table, TrialWindowParams(seconds=1.9))
    assert windows.columns.tolist() == [*COLUMNS, *TRIAL_WINDOW_COLUMNS]
    assert windows[["row", "start", "trial"]].to_numpy().tolist() == [
        [0, 300, 2],
        [0, 250, 3],
        [1, 0, 1],
    ]
    assert windows[list(TRIAL_WINDOW_COLUMNS[2:])].iloc[0].tolist() == [1.25, 0.0, "left", "right"]
    assert f"left out, excluded: {EXCLUDED}" in caplog.text
    assert WindowReader(store, 190).read(windows["row"], windows["start"]).shape == (3, 190, 3)
    WindowReader(store, 190).check(windows)


@settings(max_examples=60)
@given(st.lists(st.floats(-3, 12), max_size=8), st.floats(-2, 2), st.floats(0.05, 4))
def test_all_trial_windows_lie_inside_and_none_is_missing(store, stimuli, offset, seconds):
    params = TrialWindowParams(offset=offset, seconds=seconds)
    table = trials(*((2, stimulus) for stimulus in stimuli))
    windows = cut_trial_windows(store, table if len(table) else trials((9, 1.0)), params)
    starts = [round(stimulus * 100) + round(offset * 100) for stimulus in stimuli]
    inside = [start for start in starts if 0 <= start <= LENGTHS[2] - round(seconds * 100)]
    assert windows["start"].tolist() == inside


def test_trials_without_a_window_are_told_why(store, tmp_path, caplog):
    timeline = Timeline(
        100.0, (Stretch(0, 1000, 0.0), Stretch(1000, 2000, 70.0)), (Segment(1300, 1310),)
    )
    table = trials((0, 3.0), (0, 9.5), (0, 71.0), (0, 76.0), (0, 7.4), (0, -0.51))
    table.loc[4, "response"] = 70.2
    with caplog.at_level("INFO"):
        windows = cut_trial_windows(stored(tmp_path, [({"timeline": timeline}, 2000)]), table)
    assert windows["start"].tolist() == [350, 1650]
    assert f"4 trials give no window (2: {GAP}; " in caplog.text
    assert f"1: {BAD}" in caplog.text
    listed = ["recording", "subject", "task", "run", "path", "bids_root"]
    nothing = recording_trials(pd.DataFrame(columns=listed))
    for none in (trials((0, 3), excluded=NO_PRESS), trials((7, 3)), nothing):
        empty = cut_trial_windows(store, none)
        assert empty.empty
        assert empty.columns.tolist() == [*COLUMNS, *TRIAL_WINDOW_COLUMNS]


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
    store = build_store(recordings, BuildParams(path=str(tmp_path / "store"), n_jobs=0))
    params = TrialWindowParams(offset=-0.5, seconds=1.0)
    windows = cut_trial_windows(store, recording_trials(recordings), params)
    read = WindowReader(store, 100).read(windows["row"], windows["start"])
    assert np.abs(read[0].astype(float)).sum(axis=1).argmax() == 50


def test_each_label_has_its_windows(store):
    nothing, table, usual = pd.DataFrame(), trials((0, 2.0)), TrialWindowParams()
    dataset = EEGDataset(store, cut_windows(store, WindowParams()), nothing, nothing)
    for label in (LabelParams(), LabelParams(kind="participant", column="age")):
        assert windows_of_label(label, dataset, table, usual, 2.0) is dataset.windows
        with pytest.raises(UserError, match="the windows here are those of trials; take trial"):
            windows_of_trials(label, store, table, usual, 2.0)
    chosen = windows_of_label(OF_RT, dataset, table, usual, 2.0)
    pd.testing.assert_frame_equal(chosen, cut_trial_windows(store, table))
    lost = pd.concat([trials((0, 9.0), (0, 9.5)), trials((0, 2.0), excluded=NO_PRESS)])
    for table, params, says in (
        (trials((0, 1.0)).iloc[:0], usual, "the recordings have no trials"),
        (lost, usual, f"of 3 trials none is left: 2 without .*, 1 {NO_PRESS}"),
        (trials((0, 2.0)), TrialWindowParams(seconds=1), "=1: the encoder takes windows of 2 s"),
    ):
        with pytest.raises(UserError, match=says) as caught:
            windows_of_label(OF_RT, dataset, table, params, 2.0)
        assert "\n" not in str(caught.value)


def test_the_crop_is_in_the_middle_and_has_what_is_known(people_store, caplog):
    with caplog.at_level("INFO"):
        windows = crops(people_store)
    rest = windows[(windows["subject"] == "0") & (windows["task"] == "rest")]
    assert rest["start"].tolist() == [100, 300, 500, 700]
    assert windows.loc[windows["task"] == "film", "start"].tolist() == [100, 100]
    assert set(windows["subject"]) == {"0", "1", "3"}
    assert not ((windows["subject"] == "0") & (windows["task"] == "film")).any()  # 3.99 s
    assert f"left out, excluded: {EXCLUDED}" in caplog.text
    assert "left out, without p_factor and attention: 2" in caplog.text
    values = windows.groupby("subject")[list(FACTORS)].first()
    np.testing.assert_array_equal(values, [[0.5, np.nan], [np.nan, -1.0], [1.5, 2.5]])
    assert set(crops(people_store, ["attention"])["subject"]) == {"1", "3"}
    assert set(crops(people_store, tasks=("film",))["task"]) == {"film"}


def test_no_crop_of_any_shift_touches_a_gap(tmp_path):
    timeline = Timeline(100.0, (Stretch(0, 450, 0.0), Stretch(450, 1000, 60.0)))
    windows = crops(stored(tmp_path, [({"timeline": timeline}, 1000)]))
    assert windows["start"].tolist() == [100, 550]
    for shift in (-100, 100):
        assert timeline.inside(windows["start"].to_numpy() + shift, 200).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jitter": 1.5}, r"windows.seconds=4: .* shifted by up to 1.5 s .* needs 5 s"),
        ({"columns": ["age"]}, r"labels: age not in participants.tsv, which has p_factor"),
        ({"seconds": 20.0}, "but the longest of 10 usable recordings lasts 10.0 s"),
        ({"tasks": ("rset", "film")}, r"windows.tasks: rset not among .* film, rest"),
        (
            {"people": PEOPLE.assign(p_factor=None), "columns": ["p_factor"]},
            "no subject with a window has a known p_factor",
        ),
    ],
)
def test_crops_that_cannot_be_are_refused(people_store, options, message):
    with pytest.raises(UserError, match=message):
        crops(people_store, **options)
