"""Numbers and classes to learn, by type, and the checks before training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from hbn_foundation.errors import UserError
from hbn_foundation.labels.checks import check_targets
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.participants import read_participants
from hbn_foundation.labels.targets import shuffle_labels, window_labels, window_targets
from hbn_foundation.scores import (
    KNOWN_METRICS,
    check_metric,
    higher_is_better,
    metrics_of,
)

SUBJECTS = ["a", "b", "c", "d", "e", "f", "g", "h"]
SPLITS = pd.DataFrame(
    {"subject": SUBJECTS, "split": ["train"] * 4 + ["validation"] * 2 + ["test"] * 2}
)
TRAIN = SUBJECTS[:4]
REGRESSION = {"kind": "participant", "type": "regression"}


@pytest.fixture
def participants() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": [*SUBJECTS, "without recording"],
            "score": [1.0, 2.0, 4.0, np.nan, 7.0, -1.0, 5.0, 6.0, 100.0],
            "grade": [1, 2, 3, 1, 2, 3, 1, 2, 2],
            "sex": ["F", "M", "F", "M", "F", "F", "M", "O", "F"],
            "same": [3] * 9,
        }
    )


@pytest.fixture
def windows() -> pd.DataFrame:
    # Subjects have different numbers of windows.
    rows = [(s, t) for n, s in enumerate(SUBJECTS) for t in ("rest", "sums") for _ in range(n + 1)]
    return pd.DataFrame(rows, columns=["subject", "task"])


def test_numbers_are_kept_and_each_training_subject_counts_once(windows, participants):
    params = LabelParams(column="score", **REGRESSION)
    targets = window_targets(windows, participants, params, [*TRAIN, "without recording"])
    assert targets.is_regression
    assert targets.values.dtype == np.float64
    assert targets.names == ("score",)
    assert targets.n_outputs == 1
    assert targets.mean == pytest.approx(7 / 3)
    assert targets.sd == pytest.approx(np.std([1, 2, 4]))
    expected = windows["subject"].map(participants.set_index("subject")["score"])
    np.testing.assert_array_equal(targets.values, expected)
    # −1 is a number like any other
    assert targets.known[windows["subject"] == "f"].all()
    assert not targets.known[windows["subject"] == "d"].any()


def test_classes_come_as_they_did(windows, participants):
    params = LabelParams(kind="participant", column="sex")
    targets = window_targets(windows, participants, params, TRAIN)
    labels = window_labels(windows, participants, params, TRAIN)
    np.testing.assert_array_equal(targets.values, labels.values)
    assert targets.values.dtype == np.int64
    assert (targets.names, targets.mean, targets.sd) == (("F", "M"), 0.0, 1.0)
    assert not targets.is_regression
    assert not targets.known[windows["subject"] == "h"].any()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("auto", ("1", "2", "3")),
        ("multiclass", ("1", "2", "3")),
        ("binary", ("grade ≤ 1.5", "grade > 1.5")),
    ],
)
def test_type_decides_what_a_column_of_few_numbers_means(windows, participants, kind, names):
    params = LabelParams(kind="participant", column="grade", type=kind)
    participants.loc[2, "grade"] = 1
    participants.loc[3, "grade"] = 3
    assert window_targets(windows, participants, params, TRAIN).names == names


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {**REGRESSION, "column": "sex"},
            "needs numbers, but 9 of 9 values of sex .* F of subject a",
        ),
        ({**REGRESSION, "column": "same"}, "two different values of same.* found 3"),
        ({**REGRESSION, "column": "iq"}, "column iq is not in participants.tsv"),
        (
            {"kind": "participant", "column": "score", "type": "multiclass"},
            "score has 8 different numbers.*regression",
        ),
    ],
)
def test_impossible_targets_are_said_in_one_line(windows, participants, changes, says):
    with pytest.raises(UserError, match=says) as caught:
        window_targets(windows, participants, LabelParams(**changes), TRAIN)
    assert "\n" not in str(caught.value)


def test_binary_refuses_three_classes(windows, participants):
    windows.loc[0, "task"] = "film"
    params = LabelParams(type="binary")
    with pytest.raises(UserError, match=r"has 3: film, rest, sums; name those of class 1"):
        window_targets(windows, participants, params, TRAIN)
    assert window_targets(
        windows, participants, LabelParams(type="binary", positive=("rest",)), TRAIN
    ).names == ("not rest", "rest")


def test_a_probe_of_classes_refuses_numbers(windows, participants):
    with pytest.raises(UserError, match="classes are needed here"):
        window_labels(windows, participants, LabelParams(column="score", **REGRESSION), TRAIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "regression"},
        {"type": "regression", "kind": "participant", "column": "age", "threshold": 3},
        {"type": "multiclass", "positive": ["rest"]},
        {"type": "numbers"},
    ],
)
def test_wrong_parameters_are_refused(changes):
    with pytest.raises(ValidationError):
        LabelParams(**changes)


def test_a_class_without_a_validation_subject_is_named(windows, participants):
    params = LabelParams(kind="participant", column="sex")
    targets = window_targets(windows, participants, params, TRAIN)
    with pytest.raises(UserError, match="no validation subject has the class M, only F"):
        check_targets(targets, windows, SPLITS)
    check_targets(targets, windows, SPLITS, needed=["train"])
    tasks = window_targets(windows, participants, LabelParams(), TRAIN)
    check_targets(tasks, windows, SPLITS)


def test_a_class_without_a_test_subject_is_told(windows, participants, caplog):
    participants["sex"] = ["F", "M"] * 3 + ["M", "M", "F"]
    params = LabelParams(kind="participant", column="sex")
    targets = window_targets(windows, participants, params, TRAIN)
    with caplog.at_level("INFO"):
        check_targets(targets, windows, SPLITS)
    assert "no test subject has the class F: scores that compare classes" in caplog.text


def test_numbers_must_differ_in_each_split(windows, participants):
    params = LabelParams(column="score", **REGRESSION)
    check_targets(window_targets(windows, participants, params, TRAIN), windows, SPLITS)
    participants.loc[5, "score"] = 7.0
    targets = window_targets(windows, participants, params, TRAIN)
    with pytest.raises(UserError, match="validation subjects, found 7 only"):
        check_targets(targets, windows, SPLITS)
    participants.loc[4:5, "score"] = np.nan
    targets = window_targets(windows, participants, params, TRAIN)
    with pytest.raises(UserError, match="no window of the validation subjects"):
        check_targets(targets, windows, SPLITS)


def test_numbers_are_shuffled_by_subject_and_gaps_stay():
    values = np.repeat([1.5, np.nan, -1.0, 4.0], 3)
    names = np.repeat(list("abcd"), 3)
    seen = {tuple(shuffle_labels(values, names, seed)) for seed in range(20)}
    assert len(seen) > 3
    for shuffled in map(np.array, seen):
        assert np.isnan(shuffled[3:6]).all()
        assert sorted(shuffled[[0, 6, 9]]) == [-1.0, 1.5, 4.0]


def test_metric_names():
    assert "train_f1" in KNOWN_METRICS
    assert "nrmse" in metrics_of(True)
    assert not higher_is_better("train_nrmse")
    assert higher_is_better("auroc")
    check_metric("f1", "plan.gate_metric", is_regression=False)
    check_metric("train_loss", "plan.gate_metric")
    with pytest.raises(UserError, match=r"plan.gate_metric: f1 is not computed for regression"):
        check_metric("f1", "plan.gate_metric", is_regression=True)
    with pytest.raises(UserError, match="kappa is not computed; known: loss, f1"):
        check_metric("kappa", "plan.gate_metric")


def test_subtractions_of_real_subjects(eegmat_root):
    participants = read_participants(eegmat_root)
    subjects = participants["subject"].tolist()
    windows = pd.DataFrame({"subject": np.repeat(subjects, 2), "task": ["rest", "sums"] * 20})
    params = LabelParams(column="n_subtractions", **REGRESSION)
    targets = window_targets(windows, participants, params, subjects)
    assert targets.known.all()
    assert 5 < targets.mean < 30
    cut = LabelParams(kind="participant", column="n_subtractions", type="binary")
    assert len(window_targets(windows, participants, cut, subjects).names) == 2
