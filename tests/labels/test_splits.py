"""Subjects are divided once, by themselves, and never seen on both sides."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import SplitParams
from hbn_foundation.labels.splits import (
    check_disjoint,
    check_reported,
    check_unseen,
    position,
    repeated_splits,
    split_subjects,
)
from hbn_foundation.labels.strata import fill_quotas, strata

NAMES = st.text("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", min_size=1, max_size=8)


def people(n: int, **columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"subject": [f"P{i:03}" for i in range(n)], **columns})


def places(splits: pd.DataFrame) -> dict[str, str]:
    return dict(zip(splits["subject"], splits["split"], strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.sets(NAMES, min_size=1, max_size=30),
    st.sets(NAMES, min_size=1, max_size=30),
    st.integers(0, 99),
)
def test_hash_moves_nobody_when_subjects_are_added(few: set[str], more: set[str], seed: int):
    params = SplitParams(train=0.6, validation=0.2, test=0.2, seed=seed)
    before = _by_hash_alone(few, params)
    after = _by_hash_alone(few | more, params)
    assert {name: after[name] for name in before} == before


def _by_hash_alone(names: set[str], params: SplitParams) -> dict[str, str]:
    # Filling up makes sure that no split is empty, whatever hypothesis finds.
    filler = [f"filler{i}" for i in range(60)]
    table = pd.DataFrame({"subject": sorted(names) + filler})
    return places(split_subjects([*names, *filler], table, params))


def test_hash_meets_the_shares_on_average_and_follows_the_seed():
    table = people(2000)
    first = split_subjects(table["subject"].tolist(), table, SplitParams())
    shares = first["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.7, abs=0.04)
    assert shares["validation"] == pytest.approx(0.15, abs=0.03)
    second = split_subjects(table["subject"].tolist(), table, SplitParams(seed=1))
    assert places(first) != places(second)
    assert places(first) == places(
        split_subjects(table["subject"].tolist()[::-1], table.sample(frac=1), SplitParams())
    )


def test_position_is_fixed_for_ever():
    # A change of the hash would silently put test subjects of old checkpoints into training.
    assert position("NDARAC904DMU", 0) == pytest.approx(0.7128740, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=8, max_size=120), st.integers(0, 5))
def test_every_stratum_is_within_one_person_of_its_share(kinds: list[str], seed: int):
    shares = {"train": 0.7, "validation": 0.15, "test": 0.15}
    names = sorted((f"P{i}" for i in range(len(kinds))), key=lambda name: position(name, seed))
    ordered = pd.Series(dict(zip(names, kinds, strict=True)))
    given_places = pd.Series(fill_quotas(ordered, shares, {}))
    for kind, members in ordered.groupby(ordered):
        counts = given_places[members.index].value_counts()
        for split, share in shares.items():
            assert abs(counts.get(split, 0) - share * len(members)) < 1, (kind, split)
    for split, share in shares.items():
        assert abs((given_places == split).sum() - share * len(kinds)) < 2


def test_stratified_totals_are_exact_although_strata_are_small():
    ages = [5 + i * 0.37 for i in range(40)]
    table = people(40, age=ages, sex=["F", "M"] * 20)
    splits = split_subjects(table["subject"].tolist(), table, SplitParams(method="stratified"))
    assert splits["split"].value_counts().to_dict() == {"train": 28, "validation": 6, "test": 6}
    assert splits["stratum"].nunique() == 6
    mean = table.merge(splits).groupby("split")["age"].mean()
    assert mean.max() - mean.min() < 4


def test_stratified_keeps_earlier_places(tmp_path):
    table = people(60, sex=["F", "M", "F"] * 20)
    params = SplitParams(method="stratified")
    first = split_subjects(table["subject"].tolist()[:25], table, params)
    path = tmp_path / "splits.csv"
    first.to_csv(path, index=False)
    second = split_subjects(
        table["subject"].tolist(), table, params.model_copy(update={"keep": str(path)})
    )
    assert {name: places(second)[name] for name in first["subject"]} == places(first)
    counts = second["split"].value_counts()
    assert counts["train"] == pytest.approx(42, abs=1)
    free = split_subjects(table["subject"].tolist(), table, params)
    assert {name: places(free)[name] for name in first["subject"]} != places(first)


def test_official_release_split_on_real_participants(hbn_metadata_root):
    from hbn_foundation.labels.participants import read_participants

    table = pd.concat(
        [read_participants(root) for root in sorted(hbn_metadata_root.glob("ds*"))],
        ignore_index=True,
    )
    splits = split_subjects(table["subject"].tolist(), table, SplitParams(method="release"))
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
        (4, {"train": 0.98, "validation": 0.01, "test": 0.01}, "method: stratified"),
        (9, {"method": "release"}, "release_number"),
        (9, {"method": "stratified", "stratify": ["eye"]}, "stratify asks for eye"),
        (9, {"method": "stratified", "keep": "absent.csv"}, "absent.csv"),
    ],
)
def test_what_cannot_be_divided_is_said_in_one_line(n, changes, says):
    table = people(n, sex=["F"] * n)
    with pytest.raises(UserError, match=says) as caught:
        split_subjects(table["subject"].tolist(), table, SplitParams(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"train": 0.8},
        {"train": -0.1},
        {"shares": [1]},
        {"keep": "a.csv"},
        {"test_releases": ["R1"]},
        {"method": "random"},
    ],
)
def test_wrong_parameters_are_refused(changes):
    with pytest.raises(ValidationError):
        SplitParams(**changes)


def test_kept_splits_must_make_sense(tmp_path):
    table = people(9)
    for text, says in [
        ("subject,split\nP001,train\nP001,test\n", "P001"),
        ("subject,split\nP001,trian\n", "trian"),
        ("subject\nP001\n", "found subject"),
        ("", "not a CSV"),
    ]:
        (tmp_path / "splits.csv").write_text(text)
        params = SplitParams(method="stratified", keep=str(tmp_path / "splits.csv"))
        with pytest.raises(UserError, match=says):
            split_subjects(table["subject"].tolist(), table, params)


def test_overlap_is_an_error():
    fine = pd.DataFrame({"subject": ["a", "b"], "split": ["train", "test"]})
    check_disjoint(fine)
    both = pd.DataFrame({"subject": ["a", "b", "a"], "split": ["train", "test", "test"]})
    with pytest.raises(UserError, match="found a in two"):
        check_disjoint(both)
    check_unseen(["a"], ["b"])
    with pytest.raises(UserError, match=r"1 of the subjects .* \(b\)"):
        check_unseen(["a", "b"], ["b", "c"])


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


@pytest.mark.parametrize(("n", "folds", "held"), [(3, 5, None), (6, 1, None), (6, 3, 4), (4, 2, 2)])
def test_too_few_subjects_to_repeat(n, folds, held):
    with pytest.raises(UserError, match="repeats"):
        repeated_splits([str(i) for i in range(n)], folds, 1, n_validation=held)


def test_nobody_is_reported_who_has_chosen_the_epoch():
    """The official split: R5 validates, and nobody tests."""
    people = pd.DataFrame(
        {"subject": list("abcdef"), "release_number": ["R1", "R2", "R4", "R5", "R5", "R12"]}
    )
    official = split_subjects(people["subject"], people, SplitParams(method="release"))
    with pytest.raises(UserError, match=r"no test subjects, so the 2 .* \(release R5\)"):
        check_reported(official, people)
    with pytest.raises(UserError, match="no test subjects, so the 2 validation subjects, on"):
        check_reported(official)
    for releases in (
        {"validation_releases": ("R4",), "test_releases": ("R5",), "train_releases": ("R1", "R2")},
        {"test_releases": ("R12",)},
    ):
        params = SplitParams(method="release", **releases)
        check_reported(split_subjects(people["subject"], people, params), people)
    with pytest.raises(ValueError, match="releases in two splits: R5"):
        SplitParams(method="release", test_releases=("R5",))


def test_nobody_is_reported_who_has_chosen_an_earlier_epoch():
    splits = pd.DataFrame({"subject": list("abc"), "split": ["train", "validation", "test"]})
    check_reported(splits, chosen_on=["b"])
    with pytest.raises(UserError, match=r"chosen on 1 of the test subjects \(c\)"):
        check_reported(splits, chosen_on=["b", "c"])
