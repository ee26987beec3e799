"""Subjects are divided once, by themselves, and never seen on both sides."""

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hbn_foundation.errors import UserError
from hbn_foundation.labels.checks import (
    check_disjoint,
    check_never_seen,
    check_reported,
    check_unseen,
)
from hbn_foundation.labels.params import LabelParams, SplitParams
from hbn_foundation.labels.splits import placed_subjects, split_subjects, with_placed
from hbn_foundation.labels.strata import position, strata

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
    params = SplitParams(method="hash", train=0.6, validation=0.2, test=0.2, seed=seed)
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
    params = SplitParams(method="hash")
    first = split_subjects(table["subject"].tolist(), table, params)
    shares = first["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.7, abs=0.04)
    assert shares["validation"] == pytest.approx(0.15, abs=0.03)
    second = split_subjects(table["subject"].tolist(), table, SplitParams(method="hash", seed=1))
    assert places(first) != places(second)
    assert places(first) == places(
        split_subjects(table["subject"].tolist()[::-1], table.sample(frac=1), params)
    )


def test_position_is_fixed_for_ever():
    # A change of the hash would silently put test subjects of old checkpoints into training.
    assert position("NDARAC904DMU", 0) == pytest.approx(0.7128740, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=3, max_size=120), st.integers(0, 999))
def test_shares_are_within_one_subject_of_exact(kinds: list[str], seed: int):
    """In all and, with a half more, in every stratum; no split is empty."""
    table = people(len(kinds), site=kinds)
    splits = split_subjects(table["subject"].tolist(), table, SplitParams(seed=seed))
    counts = splits["split"].value_counts()
    assert counts.size == 3
    assert set(splits["method"]) == {"stratified"}
    merged = splits.merge(table)
    for split, share in SplitParams().shares.items():
        if len(kinds) >= 7:
            assert abs(counts[split] - share * len(kinds)) < 1
        for _, members in merged.groupby("site"):
            assert abs((members["split"] == split).sum() - share * len(members)) < 1.5 + 1e-9


@pytest.mark.parametrize(("n", "sizes"), [(3, (1, 1, 1)), (6, (4, 1, 1)), (20, (14, 3, 3))])
def test_few_subjects_are_divided_alike_for_every_seed(n, sizes):
    table = people(n, sex=["F"] * n)
    for seed in range(100):
        counts = split_subjects(table["subject"].tolist(), table, SplitParams(seed=seed))[
            "split"
        ].value_counts()
        assert (counts["train"], counts["validation"], counts["test"]) == sizes


def test_a_data_set_that_grows_moves_nobody():
    """Placed by strata at first, the subjects keep their places beyond 200; so do later ones."""
    table = people(260, sex=["F", "M"] * 130)
    params, placed = SplitParams(), None
    before: dict[str, str] = {}
    for n in (9, 20, 57, 20, 260):
        splits = split_subjects(table["subject"].tolist()[:n], table, params, placed)
        now = places(splits)
        assert {name: now[name] for name in before if name in now} == {
            name: split for name, split in before.items() if name in now
        }
        assert set(splits["method"]) == {"stratified"}
        counts = splits["split"].value_counts()
        for split, share in params.shares.items():
            assert abs(counts[split] - share * n) < (3 if n == 20 and len(before) > 20 else 1), n
        new = placed_subjects(splits, params)
        placed = new if placed is None else with_placed(placed, new)
        before |= now
    assert len(placed) == 260
    other = split_subjects(table["subject"].tolist()[:20], table, SplitParams(seed=1), placed)
    assert places(other) == places(
        split_subjects(table["subject"].tolist()[:20], table, SplitParams(seed=1))
    )


def test_many_subjects_are_hashed_and_stay_so(caplog):
    table = people(200)
    first = split_subjects(table["subject"].tolist(), table, SplitParams())
    assert set(first["method"]) == {"hash"}
    placed = placed_subjects(first, SplitParams())
    with caplog.at_level("INFO"):
        few = split_subjects(table["subject"].tolist()[:60], table, SplitParams(), placed)
    assert set(few["method"]) == {"hash"}
    assert places(few).items() <= places(first).items()
    assert "60 keep the place that they had" in caplog.text


def test_places_are_kept_for_one_division_and_by_no_other_method(tmp_path):
    table = people(20)
    first = split_subjects(table["subject"].tolist(), table, SplitParams())
    placed = placed_subjects(first, SplitParams())
    assert placed["division"].nunique() == 1
    assert placed_subjects(first, SplitParams(method="stratified")).empty
    moved = placed.assign(split=placed["split"].replace({"train": "test", "test": "train"}))
    with pytest.raises(UserError, match="another run has just placed 17 of these subjects"):
        with_placed(placed, moved)
    first.to_csv(tmp_path / "mine.csv", index=False)
    keep = SplitParams(keep=str(tmp_path / "mine.csv"))
    assert placed_subjects(first, keep).empty
    again = split_subjects(table["subject"].tolist(), table, keep, moved)
    assert places(again) == places(first)


def test_places_that_leave_a_split_empty_are_named():
    table = people(20)
    placed = placed_subjects(
        split_subjects(table["subject"].tolist(), table, SplitParams()), SplitParams()
    )
    training = placed.loc[placed["split"] == "train", "subject"].tolist()
    with pytest.raises(UserError, match=r"14 of them keep the place of an earlier .* than 0"):
        split_subjects(training, table, SplitParams(), placed)


@given(st.integers(3, 30), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_every_split_has_every_class_of_a_label_of_subjects(few: int, seed: int):
    table = people(60, group=["patient"] * few + ["control"] * (60 - few), sex=["F", "M"] * 30)
    label = LabelParams(kind="participant", column="group")
    splits = split_subjects(
        table["subject"].tolist(), table, SplitParams(seed=seed), None, (LabelParams(), label)
    ).merge(table)
    assert (splits.groupby("split")["group"].nunique() == 2).all()
    assert splits["split"].value_counts().to_dict() == {"train": 42, "validation": 9, "test": 9}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, r"20 subjects, train 14, validation 3, test 3 \(not stratified; age and sex of"),
        ({"age": range(20)}, r"\(stratified by age; sex of these subjects unknown\)"),
        ({"age": range(20), "sex": ["F", "M"] * 10}, r"\(stratified by age, sex\)"),
        ({"age": [None] * 20, "sex": ["F", "M"] * 10}, r"by sex; age of these subjects unknown"),
        ({"eye": ["l", "r"] * 10, "age": range(20)}, r"\(stratified by eye, age; sex of these"),
    ],
)
def test_a_line_says_by_what_subjects_were_divided(columns, says, caplog):
    table = people(20, **{name: list(values) for name, values in columns.items()})
    labels = [LabelParams(kind="participant", column="eye")]
    with caplog.at_level("INFO"):
        split_subjects(table["subject"].tolist(), table, SplitParams(), None, labels)
    assert re.search(says, caplog.text), caplog.text


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
        (4, {"method": "hash", "train": 0.98, "validation": 0.01, "test": 0.01}, "stratified"),
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
        {"method": "hash", "keep": "a.csv"},
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


def test_a_model_is_not_tested_on_who_chose_its_epoch():
    metadata = {"training_subjects": ["a"], "validation_subjects": ["b"]}
    check_never_seen(metadata, ["c"], ["b"])
    with pytest.raises(UserError, match=r"epoch was chosen on 1 of the test subjects .b."):
        check_never_seen(metadata, ["b", "c"])
    with pytest.raises(UserError, match=r"trained on 1 .*a"):
        check_never_seen(metadata, ["c"], ["a"])


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
