"""What trials tell is learned trial by trial: every one counts once, whoever's it is."""

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.labels.checks import check_targets
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.targets import window_labels, window_targets

PEOPLE = pd.DataFrame({"subject": ["a", "b", "c"], "rt": [9.0, 9.0, 9.0]})
TRAIN = ["a", "b"]


@pytest.fixture
def windows() -> pd.DataFrame:
    rows = [
        ("a", 1.0, 1.0, "left", "left"),
        ("a", 1.2, 1.0, "right", "right"),
        ("a", 1.4, 0.0, "left", "right"),
        ("a", 1.6, np.nan, "left", "left"),
        ("a", 1.8, 1.0, "right", "right"),
        ("b", 3.0, 1.0, "right", "right"),
        ("c", 2.0, 0.0, "left", "left"),
    ]
    table = pd.DataFrame(rows, columns=["subject", "rt", "correct", "side", "response_side"])
    return table.assign(task="ccd").astype({"side": "string", "response_side": "string"})


def learned(windows: pd.DataFrame, column: str, **changes):
    params = LabelParams(kind="trial", column=column, **changes)
    return window_targets(windows, PEOPLE, params, TRAIN)


def test_response_times_are_standardised_over_training_trials(windows):
    targets = learned(windows, "rt", type="regression")
    np.testing.assert_array_equal(targets.values, windows["rt"])
    training = windows["rt"][:6]
    assert targets.mean == pytest.approx(training.mean())
    assert targets.sd == pytest.approx(training.std(ddof=0))
    assert (targets.names, targets.is_regression) == (("rt",), True)


def test_slow_and_fast_are_parted_at_the_median_of_training_trials(windows):
    targets = learned(windows, "rt", type="binary")
    assert targets.names == ("rt ≤ 1.5", "rt > 1.5")
    assert targets.values.tolist() == [0, 0, 0, 1, 1, 1, 1]
    cut = learned(windows, "rt", type="binary", threshold=1.9)
    assert cut.values.tolist() == [0, 0, 0, 0, 0, 1, 1]
    # the same whatever the rows are called
    renamed = windows.set_index(pd.Index([0, 0, 1, 1, 2, 2, 3]))
    assert learned(renamed, "rt", type="binary").names == targets.names


def test_success_and_sides_are_classes(windows):
    success = learned(windows, "correct", type="binary")
    assert success.names == ("0", "1")
    assert success.values.tolist() == [1, 1, 0, -1, 1, 1, 0]
    side = learned(windows, "side", type="multiclass")
    assert side.names == ("left", "right")
    assert side.values.tolist() == [0, 1, 0, 0, 1, 1, 0]
    pressed = learned(windows, "response_side", positive=("right",))
    assert pressed.names == ("left", "right")
    assert pressed.values.tolist() == [0, 1, 1, 0, 1, 1, 0]
    number = learned(windows, "correct", type="regression")
    assert number.known.tolist() == [True] * 3 + [False] + [True] * 3


def test_a_split_without_both_is_told(windows):
    splits = pd.DataFrame({"subject": ["a", "b", "c"], "split": ["train", "train", "validation"]})
    with pytest.raises(UserError, match="no validation subject has the class right, only left"):
        check_targets(learned(windows, "side"), windows, splits)
    with pytest.raises(UserError, match=r"rt or more are needed among the validation .* 2 only"):
        check_targets(learned(windows, "rt", type="regression"), windows, splits)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "kind: trial needs column, one of rt, correct, side, response_side; found None"),
        ({"column": "speed"}, "found speed"),
        ({"column": "side", "type": "regression"}, "numbers, rt or correct; found side"),
        ({"column": "rt", "type": "multiclass", "threshold": 1.5}, "threshold makes two classes"),
    ],
)
def test_what_trials_do_not_tell_is_refused(changes, says):
    with pytest.raises(UserError, match=says):
        LabelParams.model_validate({"kind": "trial", **changes})


def test_what_the_trials_at_hand_do_not_tell(windows):
    with pytest.raises(UserError, match=r"two classes of correct or more .* found none"):
        learned(windows.assign(correct=np.nan), "correct")
    with pytest.raises(UserError, match=r"two different values of rt .* found none"):
        learned(windows.assign(rt=np.nan), "rt", type="regression")
    with pytest.raises(UserError, match="rt has 7 different numbers"):
        learned(windows, "rt", type="multiclass")


def test_windows_of_no_trial_are_told(windows):
    """As a probe in the foundation pipeline would take them."""
    ordinary = windows[["subject", "task"]]
    for params in (
        LabelParams(kind="trial", column="rt"),
        LabelParams(kind="trial", column="side"),
    ):
        with pytest.raises(UserError, match="kind: trial is for fine-tuning") as caught:
            window_labels(ordinary, PEOPLE, params, TRAIN)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="kind: trial is for fine-tuning"):
        learned(ordinary, "rt", type="regression")
