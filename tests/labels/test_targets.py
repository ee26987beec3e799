"""Classes of windows are fitted on training subjects, and say what they mean."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.targets import shuffle_labels, window_labels

SUBJECTS = ["a", "b", "c", "d", "e", "f", "g", "h"]


@pytest.fixture
def participants() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": SUBJECTS,
            "age": [6.0, 7.0, 8.0, 9.0, 10.0, 11.0, None, 99.0],
            "sex": ["F", "M", "F", "M", "F", None, "M", "O"],
            "quality": [0.0, 1.0, 0.0, 1.0, 1.0, 0.0, None, 1.0],
        }
    )


@pytest.fixture
def windows() -> pd.DataFrame:
    rows = [(s, t) for s in SUBJECTS for t in ("rest", "sums") for _ in range(3)]
    return pd.DataFrame(rows, columns=["subject", "task"])


def of_subject(windows: pd.DataFrame, values: np.ndarray) -> dict[str, int]:
    return dict(zip(windows["subject"], values.tolist(), strict=True))


def test_tasks_are_classes(windows, participants):
    values, names = window_labels(windows, participants, LabelParams(), SUBJECTS[:4])
    assert names == ("rest", "sums")
    assert values.dtype == np.int64
    assert (values == (windows["task"] == "sums")).all()


def test_one_task_against_the_rest(windows, participants):
    windows.loc[windows["subject"] == "a", "task"] = "film"
    params = LabelParams(positive=["rest"])
    values, names = window_labels(windows, participants, params, SUBJECTS[:4])
    assert names == ("not rest", "rest")
    assert (values == (windows["task"] == "rest")).all()


def test_a_class_that_training_lacks_is_unknown(windows, participants):
    params = LabelParams(kind="participant", column="sex")
    values, names = window_labels(windows, participants, params, SUBJECTS[:4])
    assert names == ("F", "M")
    classes = of_subject(windows, values)
    assert classes["h"] == -1
    assert classes["f"] == -1
    assert classes["a"] == 0
    assert classes["g"] == 1


def test_numbers_are_cut_at_the_median_of_training_subjects(windows, participants):
    params = LabelParams(kind="participant", column="age")
    # Many windows of one subject must not move the median.
    windows = pd.concat([windows, windows[windows["subject"] == "d"]] * 2, ignore_index=True)
    values, names = window_labels(windows, participants, params, SUBJECTS[:4])
    assert names == ("age ≤ 7.5", "age > 7.5")
    classes = of_subject(windows, values)
    assert [classes[s] for s in SUBJECTS] == [0, 0, 1, 1, 1, 1, -1, 1]
    moved, _ = window_labels(windows, participants, params, ["e", "f", "h"])
    assert of_subject(windows, moved)["d"] == 0


def test_threshold_and_categories_written_as_numbers(windows, participants):
    cut = LabelParams(kind="participant", column="age", threshold=8)
    values, names = window_labels(windows, participants, cut, SUBJECTS[:4])
    assert names == ("age ≤ 8", "age > 8")
    assert of_subject(windows, values)["c"] == 0
    quality = LabelParams(kind="participant", column="quality")
    assert window_labels(windows, participants, quality, SUBJECTS).names == ("0", "1")


def test_median_equal_to_the_maximum_still_gives_two_classes(windows, participants):
    participants["score"] = [1.0, 2.0, 9.0, 9.0, 9.0, 5.0, 4.0, 3.0]
    params = LabelParams(kind="participant", column="score")
    values, names = window_labels(windows, participants, params, SUBJECTS[:5])
    assert names[1] == "score > 2"
    assert set(values) == {0, 1}


@pytest.mark.parametrize(
    ("changes", "train", "says"),
    [
        ({"kind": "participant", "column": "iq"}, SUBJECTS, "iq .* participants.tsv.* age, sex"),
        ({"kind": "participant", "column": "sex"}, ["a", "c"], "two classes of sex.* found F"),
        ({"kind": "participant", "column": "sex"}, [], "found none"),
        ({"positive": ["sleep"]}, SUBJECTS, "sleep.* rest, sums"),
        (
            {"kind": "participant", "column": "sex", "threshold": 3},
            SUBJECTS,
            "not numbers",
        ),
    ],
)
def test_impossible_labels_are_said_in_one_line(windows, participants, changes, train, says):
    with pytest.raises(UserError, match=says) as caught:
        window_labels(windows, participants, LabelParams(**changes), train)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{"kind": "participant"}, {"column": "sex"}, {"positive": []}, {"kind": "age"}]
)
def test_wrong_parameters_are_refused(changes):
    with pytest.raises(ValidationError):
        LabelParams(**changes)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 4)), min_size=1), st.integers(0, 9))
def test_shuffling_keeps_groups_whole_and_their_counts(groups, seed):
    values = np.repeat([label for label, _ in groups], [n for _, n in groups])
    names = np.repeat(np.arange(len(groups)), [n for _, n in groups])
    shuffled = shuffle_labels(values, names, seed)
    after = [set(shuffled[names == i]) for i in range(len(groups))]
    assert all(len(labels) == 1 for labels in after)
    assert sorted(labels.pop() for labels in after) == sorted(label for label, _ in groups)
    assert (shuffled[values == -1] == -1).all()
    np.testing.assert_array_equal(shuffled, shuffle_labels(values, names, seed))


def test_shuffling_takes_the_truth_away():
    values = np.repeat([0, 1] * 50, 4)
    shuffled = shuffle_labels(values, np.repeat(np.arange(100), 4), seed=1)
    assert 0.3 < (shuffled == values).mean() < 0.7


def test_shuffling_refuses_groups_of_mixed_labels():
    with pytest.raises(ValueError, match="a"):
        shuffle_labels(np.array([0, 1, 1]), ["a", "a", "b"])
