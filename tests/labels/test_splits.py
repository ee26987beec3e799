"""Subjects are divided once, by themselves, and never seen on both sides."""

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.labels.checks import check_disjoint, check_reported
from hbn_foundation.labels.params import LabelParams, SplitParams
from hbn_foundation.labels.participants import read_participants
from hbn_foundation.labels.splits import (
    placed_subjects,
    repeated_splits,
    split_subjects,
    with_placed,
)
from hbn_foundation.labels.strata import position, spread_order, strata

NAMES = st.text("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", min_size=1, max_size=8)
GROUP = LabelParams(kind="participant", column="group")


def people(n: int, **columns) -> pd.DataFrame:
    columns = {name: list(values) for name, values in columns.items()}
    return pd.DataFrame({"subject": [f"P{i:03}" for i in range(n)], **columns})


def divided(table: pd.DataFrame, *args, n: int | None = None, **params) -> pd.DataFrame:
    """Splits of the first n subjects of a table; `args` follow the parameters."""
    return split_subjects(table["subject"].tolist()[:n], table, SplitParams(**params), *args)


def places(splits: pd.DataFrame) -> dict[str, str]:
    return dict(zip(splits["subject"], splits["split"], strict=True))


def sizes(splits: pd.DataFrame) -> dict[str, int]:
    return splits["split"].value_counts().to_dict()


@settings(max_examples=60)
@given(
    st.sets(NAMES, min_size=1, max_size=30),
    st.sets(NAMES, min_size=1, max_size=30),
    st.integers(0, 99),
)
def test_hash_moves_nobody_when_subjects_are_added(few: set[str], more: set[str], seed: int):
    filler = [f"filler{i}" for i in range(60)]  # so that no split is empty

    def hashed(names: set[str]) -> dict[str, str]:
        table = pd.DataFrame({"subject": [*names, *filler]})
        return places(divided(table, method="hash", train=0.6, validation=0.2, test=0.2, seed=seed))

    before, after = hashed(few), hashed(few | more)
    assert {name: after[name] for name in before} == before


def test_hash_meets_the_shares_on_average_and_follows_the_seed():
    table = people(2000)
    first = divided(table, method="hash")
    shares = first["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.7, abs=0.04)
    assert shares["validation"] == pytest.approx(0.15, abs=0.03)
    assert places(first) != places(divided(table, method="hash", seed=1))
    assert places(first) == places(divided(table.sample(frac=1), method="hash"))


def test_position_is_fixed_for_ever():
    # A change of the hash would silently put test subjects of old checkpoints into training.
    assert position("NDARAC904DMU", 0) == pytest.approx(0.7128740, abs=1e-6)


@settings(max_examples=100)
@given(st.lists(st.sampled_from("abcd"), min_size=3, max_size=120), st.integers(0, 999))
def test_shares_are_within_one_subject_of_exact(kinds: list[str], seed: int):
    """In all and, with a half more, in every stratum; no split is empty."""
    table = people(len(kinds), site=kinds)
    splits = divided(table, seed=seed)
    counts = sizes(splits)
    assert len(counts) == 3
    assert set(splits["method"]) == {"stratified"}
    merged = splits.merge(table)
    for split, share in SplitParams().shares.items():
        if len(kinds) >= 7:
            assert abs(counts[split] - share * len(kinds)) < 1
        for _, members in merged.groupby("site"):
            assert abs((members["split"] == split).sum() - share * len(members)) < 1.5 + 1e-9


@pytest.mark.parametrize(
    ("n", "expected"), [(3, (1, 1, 1)), (6, (4, 1, 1)), (20, (14, 3, 3)), (40, (28, 6, 6))]
)
def test_few_subjects_are_divided_alike_for_every_seed(n, expected):
    table = people(n, sex=["F", "M"] * 20, age=[5 + i * 0.37 for i in range(n)]) if n == 40 else (
        people(n, sex=["F"] * n)
    )  # fmt: skip
    for seed in range(100 if n < 40 else 10):
        splits = divided(table, seed=seed)
        assert sizes(splits) == dict(zip(("train", "validation", "test"), expected, strict=True))
        ages = table.merge(splits).groupby("split")["age"].mean() if n == 40 else pd.Series([0])
        assert ages.max() - ages.min() < 4


def test_a_data_set_that_grows_moves_nobody():
    """Placed by strata at first, the subjects keep their places beyond 200; so do later ones."""
    table = people(260, sex=["F", "M"] * 130)
    params, placed = SplitParams(), None
    before: dict[str, str] = {}
    for n in (9, 20, 57, 20, 260):
        splits = divided(table, placed, n=n)
        now = places(splits)
        assert all(before.get(name, split) == split for name, split in now.items())
        assert set(splits["method"]) == {"stratified"}
        for split, share in params.shares.items():
            largest = 3 if n == 20 and len(before) > 20 else 1
            assert abs(sizes(splits)[split] - share * n) < largest, n
        new = placed_subjects(splits, params)
        placed = new if placed is None else with_placed(placed, new)
        before |= now
    assert len(placed) == 260
    other = divided(table, placed, n=20, seed=1)
    assert places(other) == places(divided(table, n=20, seed=1))


def test_many_subjects_are_hashed_and_stay_so(caplog):
    table = people(200)
    first = divided(table)
    assert set(first["method"]) == {"hash"}
    with caplog.at_level("INFO"):
        few = divided(table, placed_subjects(first, SplitParams()), n=60)
    assert set(few["method"]) == {"hash"}
    assert places(few).items() <= places(first).items()
    assert "60 keep the place that they had" in caplog.text


def test_places_are_kept_for_one_division_and_by_no_other_method(tmp_path):
    table = people(20)
    first = divided(table)
    placed = placed_subjects(first, SplitParams())
    assert placed["division"].nunique() == 1
    assert placed_subjects(first, SplitParams(method="stratified")).empty
    moved = placed.assign(split=placed["split"].replace({"train": "test", "test": "train"}))
    with pytest.raises(UserError, match="another run has just placed 17 of these subjects"):
        with_placed(placed, moved)
    first.to_csv(tmp_path / "mine.csv", index=False)
    keep = {"keep": str(tmp_path / "mine.csv")}
    assert placed_subjects(first, SplitParams(**keep)).empty
    assert places(divided(table, moved, **keep)) == places(first)
    training = table[table["subject"].isin(first.loc[first["split"] == "train", "subject"])]
    with pytest.raises(UserError, match=r"14 of them keep the place of an earlier .* than 0"):
        divided(training, placed)


def test_stratified_keeps_earlier_places(tmp_path):
    table = people(60, sex=["F", "M", "F"] * 20)
    first = divided(table, n=25, method="stratified")
    first.to_csv(tmp_path / "splits.csv", index=False)
    second = divided(table, method="stratified", keep=str(tmp_path / "splits.csv"))
    assert places(first).items() <= places(second).items()
    assert sizes(second)["train"] == pytest.approx(42, abs=1)
    assert not places(first).items() <= places(divided(table, method="stratified")).items()


@given(st.integers(3, 30), st.integers(0, 99))
@settings(max_examples=50)
def test_every_split_has_every_class_of_a_label_of_subjects(few: int, seed: int):
    table = people(60, group=["patient"] * few + ["control"] * (60 - few), sex=["F", "M"] * 30)
    splits = divided(table, None, (LabelParams(), GROUP), seed=seed).merge(table)
    assert (splits.groupby("split")["group"].nunique() == 2).all()
    assert sizes(splits) == {"train": 42, "validation": 9, "test": 9}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, r"20 subjects, train 14, validation 3, test 3 \(not stratified; age and sex of"),
        ({"age": range(20)}, r"\(stratified by age; sex of these subjects unknown\)"),
        ({"age": range(20), "sex": ["F", "M"] * 10}, r"\(stratified by age, sex\)"),
        ({"age": [None] * 20, "sex": ["F", "M"] * 10}, r"by sex; age of these subjects unknown"),
        ({"group": ["l", "r"] * 10, "age": range(20)}, r"\(stratified by group, age; sex of"),
    ],
)
def test_a_line_says_by_what_subjects_were_divided(columns, says, caplog):
    with caplog.at_level("INFO"):
        divided(people(20, **columns), None, [GROUP])
    assert re.search(says, caplog.text), caplog.text


def test_official_release_split_on_real_participants(hbn_metadata_root):
    roots = sorted(hbn_metadata_root.glob("ds*"))
    table = pd.concat(map(read_participants, roots), ignore_index=True)
    splits = divided(table, method="release")
    release = table.set_index("subject")["release_number"]
    of_split = splits.groupby("split")["subject"].agg(lambda names: set(release[names]))
    assert of_split["validation"] == {"R5"}
    assert of_split["train"] == {"R1", "R2", "R3", "R4"}
    assert "test" not in of_split


def test_strata_name_unknown_values():
    table = people(5, age=[6.0, 9.0, None, 14.0, 7.0], sex=["F", None, "M", "M", "M"])
    names = strata(["P000", "P001", "P002", "P003", "P009"], table, None, 2)
    assert names["P002"] == "age unknown · sex M"
    assert names["P009"] == "age unknown · sex unknown"
    assert names["P000"] == "age 6-9 · sex F"
    assert names["P001"] == "age 6-9 · sex unknown"
    assert names["P003"] == "age 9-14 · sex M"
    assert strata(["P000"], people(1), None, 2).tolist() == ["all"]


@pytest.mark.parametrize(
    ("n", "changes", "says"),
    [
        (2, {}, "2 subjects cannot be divided into train, validation, test"),
        (4, {"method": "hash", "train": 0.98, "validation": 0.01, "test": 0.01}, "stratified"),
        (9, {"method": "release"}, "release_number"),
        (9, {"method": "stratified", "stratify": ["eye"]}, "stratify asks for eye"),
        (9, {"method": "stratified", "keep": "absent.csv"}, "absent.csv"),
        (9, {"train": 0.8}, "must be 1, found 1.1"),
        (9, {"train": -0.1}, "greater than 0"),
        (9, {"shares": [1]}, "no such parameter"),
        (9, {"method": "hash", "keep": "a.csv"}, "keep goes with"),
        (9, {"test_releases": ["R1"]}, "releases in two splits: R1"),
        (9, {"method": "random"}, "method='random'"),
    ],
)
def test_what_cannot_be_divided_is_said_in_one_line(n, changes, says):
    table = people(n, sex=["F"] * n)
    with pytest.raises(UserError, match=says) as caught:
        split_subjects(table["subject"], table, SplitParams.model_validate(changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("subject,split\nP001,train\nP001,test\n", "P001"),
        ("subject,split\nP001,trian\n", "trian"),
        ("subject\nP001\n", "found subject"),
        ("", "not a CSV"),
    ],
)
def test_kept_splits_must_make_sense(tmp_path, text, says):
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(UserError, match=says):
        divided(people(9), method="stratified", keep=str(tmp_path / "splits.csv"))


def test_nobody_is_in_two_splits():
    check_disjoint(pd.DataFrame({"subject": ["a", "b"], "split": ["train", "test"]}))
    both = pd.DataFrame({"subject": ["a", "b", "a"], "split": ["train", "test", "test"]})
    with pytest.raises(UserError, match="found a in two"):
        check_disjoint(both)


def test_nobody_is_reported_on_whom_an_epoch_was_chosen():
    """The official split: R5 validates, and nobody tests."""
    table = people(6, release_number=["R1", "R2", "R4", "R5", "R5", "R12"])
    official = divided(table, method="release")
    with pytest.raises(UserError, match=r"no test subjects, so the 2 .* \(release R5\)"):
        check_reported(official, table)
    with pytest.raises(UserError, match="no test subjects, so the 2 validation subjects, on"):
        check_reported(official)
    for releases in (
        {"validation_releases": ("R4",), "test_releases": ("R5",), "train_releases": ("R1", "R2")},
        {"test_releases": ("R12",)},
    ):
        splits = divided(table, method="release", **releases)
        check_reported(splits, table, chosen_on=["P000"])
    with pytest.raises(UserError, match=r"chosen on 1 of the test subjects \(P005\)"):
        check_reported(splits, chosen_on=["P000", "P005"])


def test_repeated_splits_test_everybody_once_per_repeat():
    names = [f"P{i:02}" for i in range(20)]
    folds = repeated_splits(names, 5, 2, seed=3)
    counts = folds.groupby(["repeat", "fold"])["split"].value_counts().unstack()
    assert (counts == {"test": 4, "validation": 4, "train": 12}).all(axis=None)
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


@pytest.mark.parametrize(("n", "folds"), [(3, 5), (6, 1), (2, 2)])
def test_too_few_subjects_to_repeat(n, folds):
    with pytest.raises(UserError, match="repeats"):
        repeated_splits([str(i) for i in range(n)], folds, 1)


def test_every_fold_tests_and_validates_every_stratum_of_the_scores():
    table = people(70, began=["open"] * 10 + ["closed"] * 60)
    names = table["subject"].tolist()
    found = repeated_splits(names, 5, 2, participants=table, stratify="began")
    counts = found.merge(table).groupby(["repeat", "fold", "split"])["began"].value_counts()
    counts = counts.unstack(["split", "began"])
    assert (counts["test"] == {"open": 2, "closed": 12}).all(axis=None)
    assert counts["validation", "open"].between(1, 2).all()
    with pytest.raises(UserError, match="stratify_scores_by=ended: expected a column"):
        repeated_splits(names, 5, 2, participants=table, stratify="ended")


@settings(max_examples=60)
@given(st.integers(10, 40), st.integers(2, 5), st.integers(0, 9), st.integers(0, 99), st.booleans())
def test_every_fold_tests_validates_and_trains_every_class(n, folds, more, seed, sexes):
    """Of a class with two subjects per fold or more, none of the three parts goes without."""
    few = min(2 * folds + more, n // 2)
    if few < 2 * folds:
        return
    table = people(n, group=["a"] * few + ["b"] * (n - few))
    if sexes:
        table["sex"] = ["F", "M", "M"] * (n // 3) + ["F"] * (n % 3)
    names = table["subject"].tolist()
    found = repeated_splits(names, folds, 1, seed, participants=table, label=GROUP)
    classes = found.merge(table).groupby(["fold", "split"])["group"].nunique()
    assert (classes == 2).all(), classes
    tested = found[found["split"] == "test"]
    assert sorted(tested["subject"]) == names
    assert tested["fold"].value_counts().agg(lambda counts: counts.max() - counts.min()) <= 1


def test_folds_are_spread_over_age_and_sex_and_differ_between_repeats():
    table = people(40, sex=["F", "M"] * 20, age=[5.0] * 20 + [15.0] * 20)
    folds = repeated_splits(table["subject"], 5, 2, participants=table)
    tested = folds[folds["split"] == "test"].merge(table)
    for column in ("sex", "age"):
        counts = tested.groupby(["repeat", "fold"])[column].value_counts().unstack(fill_value=0)
        assert counts.to_numpy().min() >= 3, counts
    each = tested.groupby(["repeat", "fold"])["subject"].agg(frozenset)
    assert not set(each[0]) & set(each[1])
    # labels that cannot be made stratify nothing
    for label in (GROUP, LabelParams(), LabelParams(kind="participant", column="iq")):
        alike = table.assign(group="a")
        other = repeated_splits(table["subject"], 5, 2, participants=alike, label=label)
        pd.testing.assert_frame_equal(other, folds)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 99))
def test_the_first_of_an_order_are_of_every_class_in_step_with_its_size(counts, seed):
    names = [f"P{i:02}" for i in range(sum(counts))]
    classes = pd.Series([k for k, n in enumerate(counts) for _ in range(n)], index=names).map(str)
    order = spread_order(classes, seed)
    assert sorted(order) == names
    assert order == spread_order(classes[::-1], seed)
    assert len(names) < 20 or order != spread_order(classes, seed + 1)
    for n in range(1, len(names) + 1):
        found = classes[order[:n]].value_counts()
        assert len(found) == min(n, len(counts))
        for k, size in enumerate(counts):
            assert abs(found.get(str(k), 0) - size * n / len(names)) < 1 + len(counts)
