"""Folds of a cross-validation: everybody is tested once per repeat, every class in every fold."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.splits import repeated_splits
from hbn_foundation.labels.strata import spread_order

GROUP = LabelParams(kind="participant", column="group")


def test_repeated_splits_test_everybody_once_per_repeat():
    names = [f"P{i:02}" for i in range(20)]
    folds = repeated_splits(names, 5, 2, seed=3)
    counts = folds.groupby(["repeat", "fold"])["split"].value_counts().unstack()
    assert (counts["test"] == 4).all()
    assert (counts["validation"] == 4).all()
    assert (counts["train"] == 12).all()
    tested = folds[folds["split"] == "test"]
    assert (tested.groupby("repeat")["subject"].nunique() == 20).all()
    assert not folds.duplicated(["repeat", "fold", "subject"]).any()
    pd.testing.assert_frame_equal(folds, repeated_splits(names[::-1], 5, 2, seed=3))
    tests = tested.groupby(["repeat", "fold"])["subject"].agg(frozenset)
    assert set(tests[0]) != set(tests[1])


@pytest.mark.parametrize("n", [4, 5, 6, 12, 20])
def test_two_folds_leave_most_of_the_other_half_to_train(n):
    folds = repeated_splits([f"P{i:02}" for i in range(n)], 2, 1)
    counts = folds.groupby("fold")["split"].value_counts().unstack()
    assert (counts["validation"] >= 1).all()
    assert (counts["train"] >= counts["validation"]).all()
    assert counts["test"].sum() == n


@pytest.mark.parametrize(
    ("n", "folds", "held"), [(3, 5, None), (6, 1, None), (6, 3, 4), (4, 2, 2), (9, 3, 0)]
)
def test_too_few_subjects_to_repeat(n, folds, held):
    with pytest.raises(UserError, match="repeats"):
        repeated_splits([str(i) for i in range(n)], folds, 1, n_validation=held)


@settings(max_examples=60, deadline=None)
@given(st.integers(10, 40), st.integers(2, 5), st.integers(0, 9), st.integers(0, 99), st.booleans())
def test_every_fold_tests_validates_and_trains_every_class(n, folds, more, seed, sexes):
    """Of a class with two subjects per fold or more, none of the three parts goes without."""
    few = min(2 * folds + more, n // 2)
    if few < 2 * folds:
        return
    names = [f"P{i:02}" for i in range(n)]
    people = pd.DataFrame({"subject": names, "group": ["a"] * few + ["b"] * (n - few)})
    if sexes:
        people["sex"] = ["F", "M", "M"] * (n // 3) + ["F"] * (n % 3)
    table = repeated_splits(names, folds, 1, seed, participants=people, label=GROUP)
    classes = table.merge(people).groupby(["fold", "split"])["group"].nunique()
    assert (classes == 2).all(), classes
    tested = table[table["split"] == "test"]
    assert sorted(tested["subject"]) == names
    assert tested["fold"].value_counts().agg(lambda sizes: sizes.max() - sizes.min()) <= 1


def test_folds_are_spread_over_age_and_sex_and_differ_between_repeats():
    names = [f"P{i:02}" for i in range(40)]
    people = pd.DataFrame(
        {"subject": names, "sex": ["F", "M"] * 20, "age": [5.0] * 20 + [15.0] * 20}
    )
    table = repeated_splits(names, 5, 2, participants=people)
    tested = table[table["split"] == "test"].merge(people)
    for column in ("sex", "age"):
        counts = tested.groupby(["repeat", "fold"])[column].value_counts().unstack(fill_value=0)
        assert counts.to_numpy().min() >= 3, counts
    folds = tested.groupby(["repeat", "fold"])["subject"].agg(frozenset)
    assert not set(folds[0]) & set(folds[1])


def test_a_label_that_cannot_be_made_stratifies_nothing():
    names = [f"P{i:02}" for i in range(10)]
    people = pd.DataFrame({"subject": names, "group": "a"})
    for label in (GROUP, LabelParams(), LabelParams(kind="participant", column="iq")):
        table = repeated_splits(names, 5, 1, participants=people, label=label)
        assert table.groupby("fold")["split"].value_counts().unstack()["test"].tolist() == [2] * 5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 99))
def test_the_first_of_an_order_are_of_every_class_in_step_with_its_size(sizes, seed):
    names = [f"P{i:02}" for i in range(sum(sizes))]
    classes = pd.Series([k for k, n in enumerate(sizes) for _ in range(n)], index=names).map(str)
    order = spread_order(classes, seed)
    assert sorted(order) == names
    assert order == spread_order(classes[::-1], seed)
    for n in range(1, len(names) + 1):
        counts = classes[order[:n]].value_counts()
        assert len(counts) == min(n, len(sizes))
        for k, size in enumerate(sizes):
            assert abs(counts.get(str(k), 0) - size * n / len(names)) < 1 + len(sizes)


def test_other_seeds_draw_other_orders():
    classes = pd.Series("all", index=[f"P{i:02}" for i in range(20)])
    assert spread_order(classes, 0) != spread_order(classes, 1)
