"""Windows to take crops of: where the crop is, whose windows there are, what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.timeline import Stretch, Timeline
from hbn_foundation.signals.batches import WindowBatches
from hbn_foundation.signals.params import CropWindowParams
from hbn_foundation.signals.reader import WindowReader
from hbn_foundation.signals.store import store_from_arrays
from hbn_foundation.signals.windows import cut_crop_windows

PEOPLE = pd.DataFrame(
    {
        "subject": ["a", "b", "c", "NDARBA381JGH", "e"],
        "p_factor": [0.5, None, None, 0.1, "1.5"],
        "attention": [None, -1.0, None, 0.2, 2.5],
    }
)
FACTORS = ("p_factor", "attention")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    random = np.random.default_rng(0)
    recordings = [
        (
            {"recording": f"sub-{name}_task-{task}", "subject": name, "task": task},
            random.standard_normal((length, 2)).astype(np.float16),
        )
        for name in PEOPLE["subject"]
        for task, length in (("rest", 1000), ("film", 399 if name == "a" else 400))
    ]
    return store_from_arrays(
        tmp_path_factory.mktemp("store"), recordings, ("A", "B"), np.eye(3)[:2]
    )


def cut(store, columns=FACTORS, jitter=1.0, **params):
    params = CropWindowParams(**{"tasks": None, **params})
    return cut_crop_windows(store, PEOPLE, columns, params, seconds=2.0, jitter=jitter)


def test_the_crop_is_in_the_middle(store, caplog):
    with caplog.at_level("INFO", logger="hbn_foundation"):
        windows = cut(store)
    rest = windows[(windows["subject"] == "a") & (windows["task"] == "rest")]
    assert rest["start"].tolist() == [100, 300, 500, 700]
    assert windows[windows["task"] == "film"]["start"].tolist() == [100, 100]
    assert set(windows["subject"]) == {"a", "b", "e"}
    assert not ((windows["subject"] == "a") & (windows["task"] == "film")).any()  # 3.99 s
    said = caplog.text
    assert "left out, excluded: NDARBA381JGH" in said
    assert "left out, without p_factor and attention: c" in said


def test_no_crop_of_any_shift_touches_a_gap(tmp_path):
    timeline = Timeline(100.0, (Stretch(0, 450, 0.0), Stretch(450, 1000, 60.0)))
    row = {"recording": "r", "subject": "a", "task": "rest", "timeline": timeline}
    store = store_from_arrays(tmp_path, [(row, np.zeros((1000, 2)))], ("A", "B"), np.eye(3)[:2])
    windows = cut(store)
    assert windows["start"].tolist() == [100, 550]
    for shift in (-100, 100):
        assert timeline.inside(windows["start"].to_numpy() + shift, 200).all()


def test_windows_have_what_is_known_of_their_subject(store):
    windows = cut(store)
    of = windows.groupby("subject")[list(FACTORS)].first()
    assert of.loc["e"].tolist() == [1.5, 2.5]
    assert of.loc["a", "p_factor"] == 0.5
    assert np.isnan(of.loc["a", "attention"])
    assert set(cut(store, ["attention"])["subject"]) == {"b", "e"}


def test_tasks_are_chosen_and_must_be_there(store):
    assert set(cut(store, tasks=("film",))["task"]) == {"film"}
    with pytest.raises(UserError, match=r"windows.tasks: rset not among .* film, rest"):
        cut(store, tasks=("rset", "film"))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.integers(0, 100))
def test_a_shifted_crop_stays_in_its_window(store, epoch, jitter):
    windows = cut(store)
    reader = WindowReader(store, 200)
    batches = WindowBatches(reader, windows, 50, shuffle=True, jitter=jitter)
    batches.set_epoch(epoch)
    for batch in batches:
        starts = windows["start"].to_numpy()[batch.index] - 100 + batch.shift.numpy() + 100
        assert batch.shift.abs().max() <= jitter
        read = reader.read(windows["row"].to_numpy()[batch.index], starts)
        np.testing.assert_array_equal(
            batch.signals.numpy(), read.astype(np.float32).transpose(0, 2, 1)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jitter": 1.5}, r"windows.seconds=4: .* shifted by up to 1.5 s .* needs 5 s"),
        ({"columns": ["age"]}, r"labels: age not in participants.tsv, which has p_factor"),
        ({"seconds": 20.0}, "but the longest of 10 usable recordings lasts 10.0 s"),
    ],
)
def test_what_cannot_be_is_refused(store, options, message):
    with pytest.raises(UserError, match=message):
        cut(store, **options)


def test_without_anybody_known_there_is_nothing(store):
    nobody = PEOPLE.assign(p_factor=None)
    with pytest.raises(UserError, match="no subject with a window has a known p_factor"):
        cut_crop_windows(
            store, nobody, ["p_factor"], CropWindowParams(tasks=None), seconds=2.0, jitter=1.0
        )
