"""Which windows are scored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.evaluation.sample import labelled_windows
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.signals.windows import subsample


@given(st.integers(1, 500), st.integers(1, 100), st.integers(0, 5))
def test_thinning_is_even(n, most, seed):
    chosen = subsample(n, most, seed)
    assert len(chosen) == min(n, most)
    assert len(set(chosen.tolist())) == len(chosen)
    assert 0 <= chosen.min() <= chosen.max() < n
    if len(chosen) > 1:
        steps = np.diff(chosen)
        assert steps.max() - steps.min() <= 1


def test_every_split_is_thinned_and_keeps_its_recordings(toy):
    windows, splits, participants = toy.windows, toy.splits, toy.participants
    params = EvaluationParams(max_windows=40)
    labelled = labelled_windows(windows, splits, participants, params)
    assert labelled.table["split"].value_counts().to_dict() == dict.fromkeys(
        ("train", "validation", "test"), 40
    )
    assert labelled.table["recording"].nunique() == windows["recording"].nunique()
    assert labelled.classes == ("count", "rest")


def test_labels_of_participants(toy):
    params = EvaluationParams(label=LabelParams(kind="participant", column="sex"))
    labelled = labelled_windows(toy.windows, toy.splits, toy.participants, params)
    sexes = labelled.table["subject"].map(toy.participants.set_index("subject")["sex"])
    assert [labelled.classes[k] for k in labelled.labels] == sexes.tolist()


def test_subjects_without_a_split_or_a_label_are_left_out(toy):
    participants = toy.participants.assign(
        sex=toy.participants["sex"].where(toy.participants["subject"] != "01")
    )
    params = EvaluationParams(label=LabelParams(kind="participant", column="sex"))
    table = labelled_windows(toy.windows, toy.splits.iloc[1:], participants, params).table
    assert not table["subject"].isin(["00", "01"]).any()


def test_a_split_without_labels_is_one_clear_line(toy):
    test = toy.splits.loc[toy.splits["split"] == "test", "subject"]
    participants = toy.participants.assign(
        sex=toy.participants["sex"].where(~toy.participants["subject"].isin(test))
    )
    params = EvaluationParams(label=LabelParams(kind="participant", column="sex"))
    with pytest.raises(UserError, match="no window of the test subjects has a known sex"):
        labelled_windows(toy.windows, toy.splits, participants, params)


def test_shuffling_keeps_recordings_whole(toy):
    plain = labelled_windows(toy.windows, toy.splits, toy.participants, EvaluationParams())
    params = EvaluationParams(shuffle_labels=True)
    table = labelled_windows(toy.windows, toy.splits, toy.participants, params).table
    assert (table.groupby("recording")["label"].nunique() == 1).all()
    assert (table["label"] != plain.table["label"]).any()
    # inside each split, so that no split tells what is left for another
    for _, part in table.groupby("split"):
        assert part["label"].mean() == 0.5
