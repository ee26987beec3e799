"""Classes and numbers of windows are fitted on training subjects, and say what they mean."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.labels.checks import check_targets
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.participants import read_participants
from hbn_foundation.labels.targets import shuffle_labels, window_labels, window_targets

SUBJECTS = list("abcdefgh")
TRAIN = SUBJECTS[:4]
SPLITS = pd.DataFrame(
    {"subject": SUBJECTS, "split": ["train"] * 4 + ["validation"] * 2 + ["test"] * 2}
)
PEOPLE = {
    "subject": [*SUBJECTS, "without recording"],
    "age": [6.0, 7.0, 8.0, 9.0, 10.0, 11.0, None, 99.0, None],
    "score": [1.0, 2.0, 4.0, np.nan, 7.0, -1.0, 5.0, 6.0, 100.0],
    "grade": [1, 2, 1, 3, 2, 3, 1, 2, 2],
    "quality": [0.0, 1.0, 0.0, 1.0, 1.0, 0.0, None, 1.0, None],
    "sex": ["F", "M", "F", "M", "F", None, "M", "O", "F"],
    "same": [3] * 9,
}


@pytest.fixture
def people() -> pd.DataFrame:
    return pd.DataFrame(PEOPLE)


@pytest.fixture
def windows() -> pd.DataFrame:
    # subjects have different numbers of windows
    rows = [(s, t) for n, s in enumerate(SUBJECTS) for t in ("rest", "sums") for _ in range(n + 1)]
    return pd.DataFrame(rows, columns=["subject", "task"])


@pytest.fixture
def trials() -> pd.DataFrame:
    rows = [
        ("a", 1.0, 1.0, "left", "left"),
        ("a", 1.2, 1.0, "right", "right"),
        ("a", 1.4, 0.0, "left", "right"),
        ("a", 1.6, np.nan, "left", "left"),
        ("a", 1.8, 1.0, "right", "right"),
        ("b", 3.0, 1.0, "right", "right"),
        ("e", 2.0, 0.0, "left", "left"),
    ]
    table = pd.DataFrame(rows, columns=["subject", "rt", "correct", "side", "response_side"])
    return table.assign(task="ccd").astype({"side": "string", "response_side": "string"})


def of_column(column: str, **changes) -> LabelParams:
    return LabelParams(kind="participant", column=column, **changes)


def of_trial(trials: pd.DataFrame, column: str, **changes):
    params = LabelParams(kind="trial", column=column, **changes)
    return window_targets(trials, pd.DataFrame(PEOPLE), params, TRAIN)


def by_subject(windows: pd.DataFrame, values: np.ndarray) -> list[int]:
    classes = dict(zip(windows["subject"], values.tolist(), strict=True))
    return [classes[subject] for subject in SUBJECTS]


def test_tasks_are_classes(windows, people):
    targets = window_targets(windows, people, LabelParams(), TRAIN)
    assert targets.names == ("rest", "sums")
    assert (targets.values.dtype, targets.mean, targets.sd) == (np.int64, 0.0, 1.0)
    assert (targets.values == (windows["task"] == "sums")).all()
    windows.loc[windows["subject"] == "a", "task"] = "film"
    values, names = window_labels(windows, people, LabelParams(positive=["rest"]), TRAIN)
    assert names == ("not rest", "rest")
    assert (values == (windows["task"] == "rest")).all()


@pytest.mark.parametrize(
    ("params", "names", "classes"),
    [
        # what no training subject has is unknown
        (of_column("sex"), ("F", "M"), [0, 1, 0, 1, 0, -1, 1, -1]),
        # each subject counts once for the median, however many windows it has
        (of_column("age"), ("age ≤ 7.5", "age > 7.5"), [0, 0, 1, 1, 1, 1, -1, 1]),
        (of_column("age", threshold=8), ("age ≤ 8", "age > 8"), [0, 0, 0, 1, 1, 1, -1, 1]),
        # a median that is the maximum gives two classes nevertheless
        (of_column("top"), ("top ≤ 1", "top > 1"), [0, 1, 1, 1, 1, 1, 1, 1]),
        # categories that are written as numbers
        (of_column("quality"), ("0", "1"), [0, 1, 0, 1, 1, 0, -1, 1]),
        (of_column("grade"), ("1", "2", "3"), [0, 1, 0, 2, 1, 2, 0, 1]),
        (of_column("grade", type="multiclass"), ("1", "2", "3"), [0, 1, 0, 2, 1, 2, 0, 1]),
        (of_column("grade", type="binary"), ("grade ≤ 1.5", "grade > 1.5"),
         [0, 1, 0, 1, 1, 1, 0, 1]),
    ],
)  # fmt: skip
def test_columns_of_participants_are_classes(windows, people, params, names, classes):
    people["top"] = [1.0, 9.0, 9.0, 9.0, 8.0, 5.0, 4.0, 3.0, 0.0]
    targets = window_targets(windows, people, params, TRAIN)
    assert targets.names == names
    assert by_subject(windows, targets.values) == classes
    assert not targets.is_regression
    assert targets.known.tolist() == (targets.values >= 0).tolist()


def test_the_median_is_that_of_the_training_subjects(windows, people):
    values, _ = window_labels(windows, people, of_column("age"), ["e", "f", "h"])
    assert by_subject(windows, values)[3] == 0


def test_numbers_are_kept_and_each_training_subject_counts_once(windows, people):
    params = of_column("score", type="regression")
    targets = window_targets(windows, people, params, [*TRAIN, "without recording"])
    assert (targets.is_regression, targets.n_outputs, targets.names) == (True, 1, ("score",))
    assert targets.mean == pytest.approx(7 / 3)
    assert targets.sd == pytest.approx(np.std([1, 2, 4]))
    expected = windows["subject"].map(people.set_index("subject")["score"])
    np.testing.assert_array_equal(targets.values, expected)
    assert targets.known[windows["subject"] == "f"].all()  # −1 is a number like any other
    assert not targets.known[windows["subject"] == "d"].any()


@pytest.mark.parametrize(
    ("changes", "train", "says"),
    [
        ({"column": "iq"}, TRAIN, "column iq is not in participants.tsv.* age, score"),
        ({"column": "iq", "type": "regression"}, TRAIN, "column iq is not in participants.tsv"),
        ({"column": "sex"}, ["a", "c"], "two classes of sex.* found F"),
        ({"column": "sex"}, [], "found none"),
        ({"column": "sex", "threshold": 3}, TRAIN, "not numbers; found F, M, O"),
        ({"column": "sex", "type": "regression"}, TRAIN,
         "needs numbers, but 8 of 8 values of sex .* F of subject a"),
        ({"column": "same", "type": "regression"}, TRAIN, "two different values of same.* found 3"),
        ({"column": "score", "type": "multiclass"}, TRAIN,
         "score has 8 different numbers.*regression"),
        ({"kind": "task", "positive": ["sleep"]}, TRAIN, "names sleep, but task .* rest, sums"),
        ({"kind": "task", "type": "binary"}, [*TRAIN, "film"],
         r"has 3: film, rest, sums; name those of class 1"),
    ],
)  # fmt: skip
def test_impossible_targets_are_said_in_one_line(windows, people, changes, train, says):
    windows.loc[len(windows)] = ["film", "film"]
    params = LabelParams(**{"kind": "participant", **changes})
    with pytest.raises(UserError, match=says) as caught:
        window_targets(windows, people, params, train)
    assert "\n" not in str(caught.value)


def test_a_probe_of_classes_refuses_numbers(windows, people):
    with pytest.raises(UserError, match="classes are needed here"):
        window_labels(windows, people, of_column("score", type="regression"), TRAIN)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "participant"}, "needs column"),
        ({"column": "sex"}, "found kind: task"),
        ({"positive": []}, "at least one value"),
        ({"kind": "age"}, "kind='age'"),
        ({"type": "numbers"}, "type='numbers'"),
        ({"type": "regression"}, "needs a column of numbers"),
        ({"type": "regression", "kind": "participant", "column": "age", "threshold": 3},
         "threshold makes two classes"),
        ({"type": "multiclass", "positive": ["rest"]}, "positive makes two classes"),
        ({"kind": "trial"}, "one of rt, correct, side, response_side; found None"),
        ({"kind": "trial", "column": "speed"}, "found speed"),
        ({"kind": "trial", "column": "side", "type": "regression"}, "rt or correct; found side"),
        ({"kind": "trial", "column": "rt", "type": "multiclass", "threshold": 1.5}, "two classes"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused(changes, says):
    with pytest.raises(UserError, match=says):
        LabelParams.model_validate(changes)


def test_response_times_are_learned_trial_by_trial(trials):
    targets = of_trial(trials, "rt", type="regression")
    np.testing.assert_array_equal(targets.values, trials["rt"])
    training = trials["rt"][:6]
    assert targets.mean == pytest.approx(training.mean())
    assert targets.sd == pytest.approx(training.std(ddof=0))
    assert (targets.names, targets.is_regression) == (("rt",), True)
    halves = of_trial(trials, "rt", type="binary")
    assert halves.names == ("rt ≤ 1.5", "rt > 1.5")
    assert halves.values.tolist() == [0, 0, 0, 1, 1, 1, 1]
    cut = of_trial(trials, "rt", type="binary", threshold=1.9)
    assert cut.values.tolist() == [0, 0, 0, 0, 0, 1, 1]
    # the same whatever the rows are called
    renamed = trials.set_index(pd.Index([0, 0, 1, 1, 2, 2, 3]))
    assert of_trial(renamed, "rt", type="binary").names == halves.names


def test_success_and_sides_are_classes(trials):
    success = of_trial(trials, "correct", type="binary")
    assert success.names == ("0", "1")
    assert success.values.tolist() == [1, 1, 0, -1, 1, 1, 0]
    side = of_trial(trials, "side", type="multiclass")
    assert side.names == ("left", "right")
    assert side.values.tolist() == [0, 1, 0, 0, 1, 1, 0]
    pressed = of_trial(trials, "response_side", positive=("right",))
    assert pressed.names == ("left", "right")
    assert pressed.values.tolist() == [0, 1, 1, 0, 1, 1, 0]
    number = of_trial(trials, "correct", type="regression")
    assert number.known.tolist() == [True] * 3 + [False] + [True] * 3


def test_what_the_trials_at_hand_do_not_have(trials):
    with pytest.raises(UserError, match=r"two classes of correct or more .* found none"):
        of_trial(trials.assign(correct=np.nan), "correct")
    with pytest.raises(UserError, match=r"two different values of rt .* found none"):
        of_trial(trials.assign(rt=np.nan), "rt", type="regression")
    with pytest.raises(UserError, match="rt has 7 different numbers"):
        of_trial(trials, "rt", type="multiclass")
    for kind in ("auto", "regression"):  # ordinary windows, as a probe would take them
        with pytest.raises(UserError, match="kind: trial is for windows of trials"):
            of_trial(trials[["subject", "task"]], "rt", type=kind)


@pytest.mark.parametrize(
    ("column", "changes", "says"),
    [
        ("sex", {4: "F", 5: "F"}, "no validation subject has the class M, only F"),
        ("score", {5: 7.0}, "validation subjects, found 7 only"),
        ("score", {4: np.nan, 5: np.nan}, "no window of the validation subjects"),
    ],
)
def test_what_a_split_lacks_is_an_error_where_it_is_needed(windows, people, column, changes, says):
    params = of_column(column, type="regression" if column == "score" else "auto")
    for place, value in {4: "M", 5: "F"}.items() if column == "sex" else ():
        people.loc[place, column] = value
    check_targets(window_targets(windows, people, params, TRAIN), windows, SPLITS)
    for place, value in changes.items():
        people.loc[place, column] = value
    targets = window_targets(windows, people, params, TRAIN)
    with pytest.raises(UserError, match=says):
        check_targets(targets, windows, SPLITS)
    check_targets(targets, windows, SPLITS, needed=["train"])


def test_a_class_without_a_test_subject_is_told(windows, people, caplog):
    people["sex"] = ["F", "M"] * 3 + ["M", "M", "F"]
    targets = window_targets(windows, people, of_column("sex"), TRAIN)
    with caplog.at_level("INFO"):
        check_targets(targets, windows, SPLITS)
    assert "no test subject has the class F: scores that compare classes" in caplog.text


@settings(max_examples=50)
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


def test_shuffling_takes_the_truth_away_and_leaves_gaps():
    values = np.repeat([0, 1] * 50, 4)
    shuffled = shuffle_labels(values, np.repeat(np.arange(100), 4), seed=1)
    assert 0.3 < (shuffled == values).mean() < 0.7
    numbers = np.repeat([1.5, np.nan, -1.0, 4.0], 3)
    seen = {tuple(shuffle_labels(numbers, np.repeat(list("abcd"), 3), k)) for k in range(20)}
    assert len(seen) > 3
    for shuffled in map(np.array, seen):
        assert np.isnan(shuffled[3:6]).all()
        assert sorted(shuffled[[0, 6, 9]]) == [-1.0, 1.5, 4.0]
    with pytest.raises(ValueError, match="more than one label: a"):
        shuffle_labels(np.array([0, 1, 1]), ["a", "a", "b"])


def test_subtractions_of_real_subjects(eegmat_root):
    participants = read_participants(eegmat_root)
    subjects = participants["subject"].tolist()
    windows = pd.DataFrame({"subject": np.repeat(subjects, 2), "task": ["rest", "sums"] * 20})
    params = of_column("n_subtractions", type="regression")
    targets = window_targets(windows, participants, params, subjects)
    assert targets.known.all()
    assert 5 < targets.mean < 30
    cut = of_column("n_subtractions", type="binary")
    assert len(window_targets(windows, participants, cut, subjects).names) == 2
