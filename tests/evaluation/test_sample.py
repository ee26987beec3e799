"""Which windows are scored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.evaluation.sample import choose_windows, labelled_windows, matched
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.signals.windows import subsample

SEX = EvaluationParams(label=LabelParams(kind="participant", column="sex"))


@given(st.integers(1, 500), st.integers(1, 100), st.integers(0, 5))
def test_subsampling_is_even(n, most, seed):
    chosen = subsample(n, most, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(n, most)
    assert 0 <= chosen.min() <= chosen.max() < n
    if len(chosen) > 1:
        steps = np.diff(chosen)
        assert steps.max() - steps.min() <= 1


@pytest.mark.parametrize("subsample_test", [False, True])
def test_windows_are_labelled_and_subsampled_the_test_where_asked(toy, subsample_test):
    known = np.arange(len(toy.windows)) % 3 > 0
    params = EvaluationParams(max_windows=12)
    windows = toy.windows.assign(known=known)
    table, counts, _ = choose_windows(
        windows, toy.splits, known, params, "label", subsample_test=subsample_test
    )
    assert table["known"].all()
    split = windows["subject"].map(toy.splits.set_index("subject")["split"])
    n_test = int(((split == "test") & known).sum())
    sizes = {"train": 12, "validation": 12, "test": 12 if subsample_test else n_test}
    assert table["split"].value_counts().to_dict() == sizes
    assert {name: one["windows"] for name, one in counts.items()} == sizes
    assert counts["test"] == {"windows": sizes["test"], "of": n_test, "subjects": 3}


def test_every_split_keeps_its_recordings(toy):
    labelled = labelled_windows(*toy[1:], EvaluationParams(max_windows=40))
    assert labelled.table["split"].value_counts().to_dict() == dict.fromkeys(
        ("train", "validation", "test"), 40
    )
    assert labelled.table["recording"].nunique() == toy.windows["recording"].nunique()
    assert labelled.classes == ("count", "rest")


def test_subjects_without_a_split_or_a_label_are_left_out(toy):
    sexes = toy.participants["sex"].where(toy.participants["subject"] != "01")
    participants = toy.participants.assign(sex=sexes)
    labelled = labelled_windows(toy.windows, toy.splits.iloc[1:], participants, SEX)
    table = labelled.table
    assert not table["subject"].isin(["00", "01"]).any()
    expected = table["subject"].map(toy.participants.set_index("subject")["sex"])
    assert [labelled.classes[k] for k in table["label"]] == expected.tolist()


def test_a_split_without_labels_is_one_clear_line(toy):
    test = toy.splits.loc[toy.splits["split"] == "test", "subject"]
    sexes = toy.participants["sex"].where(~toy.participants["subject"].isin(test))
    with pytest.raises(UserError, match="no window of the test subjects has a known sex"):
        labelled_windows(toy.windows, toy.splits, toy.participants.assign(sex=sexes), SEX)


def test_shuffling_keeps_recordings_whole(toy):
    plain = labelled_windows(*toy[1:], EvaluationParams()).table
    table = labelled_windows(*toy[1:], EvaluationParams(shuffle_labels=True)).table
    assert (table.groupby("recording")["label"].nunique() == 1).all()
    assert (table["label"] != plain["label"]).any()
    # inside each split, so that no split tells what is left for another
    for _, part in table.groupby("split"):
        assert part["label"].mean() == 0.5


def test_shuffling_keeps_events_whole(toy):
    number = toy.windows.groupby("recording").cumcount() // 3
    windows = toy.windows.assign(event_number=number, event=np.where(number % 2, "open", "closed"))
    label = LabelParams(kind="event", column="trial_type")
    params = EvaluationParams(shuffle_labels=True, label=label)
    table = labelled_windows(windows, *toy[2:], params).table
    assert (table.groupby(["recording", "event_number"])["label"].nunique() == 1).all()
    assert (table.groupby("recording")["label"].nunique() == 2).any()


@pytest.fixture
def predicted() -> pd.DataFrame:
    return pd.DataFrame({"recording": list("aabb"), "start": [0, 1, 0, 1], "rt": np.arange(4.0)})


def test_predictions_are_brought_into_the_order_of_the_windows(predicted):
    shuffled = predicted.sample(frac=1, random_state=1)
    found = matched(shuffled, predicted, ["rt"], "fine_tuned")
    pd.testing.assert_frame_equal(found, predicted[["rt"]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[1:], "the window of a from sample 0 on has no prediction"),
        (lambda t: pd.concat([t, t.head(1)]), "is predicted twice"),
        (lambda t: pd.concat([t, t.head(1).assign(start=77)]), "is no test window"),
        (lambda t: t.drop(columns="rt"), "predictions of fine-tuned: no column rt"),
        (lambda t: t.assign(rt=t["rt"].where(t.index > 0)), "not finite"),
    ],
)
def test_other_windows_than_those_scored_are_refused(predicted, change, message):
    with pytest.raises(UserError, match=message):
        matched(change(predicted), predicted, ["rt"], "fine_tuned")
