"""Who is the same person, where subjects of several data sets are named alike."""

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.labels.checks import check_never_seen
from hbn_foundation.labels.people import (
    CHOSEN,
    TRAINED,
    check_people,
    seen_subjects,
    subjects_before,
)

EYES, MATH = "Eyes open and closed", "Mental arithmetic"
ONE, TWO = {"": EYES}, {"eyes": EYES, "math": MATH}


@pytest.mark.parametrize(
    ("trained", "of", "subjects", "datasets", "found"),
    [
        (["01"], ONE, ["01", "02"], ONE, {"01": True}),
        (["01"], {"": MATH}, ["01"], ONE, {}),
        (["NDARWV769JM7"], {"": MATH}, ["NDARWV769JM7"], ONE, {"NDARWV769JM7": True}),
        (["S01"], {"": MATH}, ["S01"], ONE, {}),
        (["eyes-01", "math-02"], TWO, ["01", "02"], ONE, {"01": True}),
        (["01"], ONE, ["eyes-01", "math-01"], TWO, {"eyes-01": True}),
        (["eyes-01"], TWO, ["eyes-01", "math-01"], TWO, {"eyes-01": True}),
        (["01"], {}, ["01"], ONE, {"01": False}),
        (["01"], ONE, ["01"], {}, {"01": False}),
        (["01"], {"": None}, ["01"], ONE, {"01": False}),
    ],
)
def test_people_are_names_in_data_sets(trained, of, subjects, datasets, found):
    metadata = {TRAINED: trained, "datasets": of}
    assert seen_subjects(metadata, TRAINED, subjects, datasets) == found
    later = {TRAINED: [], "datasets": {"": "third"}, "ancestors": [metadata]}
    assert seen_subjects(later, TRAINED, subjects, datasets) == found


def test_seen_subjects_are_refused_and_doubt_is_told():
    metadata = {TRAINED: ["01"], CHOSEN: ["02"], "datasets": ONE}
    check_never_seen(metadata, ["01", "02"], datasets={"": MATH})
    check_never_seen(metadata, ["03"], ["02"], ONE)  # chosen on whom it was chosen on before
    with pytest.raises(UserError, match="trained on 1 of"):
        check_never_seen(metadata, ["03"], ["01"], ONE)
    for tested, what in (("01", "was trained on 1 of"), ("02", "was chosen on 1 of")):
        with pytest.raises(UserError, match=what) as told:
            check_never_seen(metadata, [tested], datasets=ONE)
        assert "equal names" not in str(told.value)
        with pytest.raises(
            UserError, match=f"{what}.*; equal names count as the same people"
        ) as told:
            check_never_seen(metadata, [tested])
        assert "\n" not in str(told.value)


def test_subjects_of_other_data_sets_are_kept_apart():
    parent = {"run_id": "r", TRAINED: ["01"], CHOSEN: ["02"], "datasets": ONE, "sfreq": 100.0}
    assert subjects_before(parent, ONE) == (parent, [])
    own, ancestors = subjects_before(parent, {"": MATH})
    assert own == {}
    assert ancestors == [{key: parent[key] for key in ("run_id", "datasets", TRAINED, CHOSEN)}]
    child = {TRAINED: ["01"], "datasets": {"": MATH}, "ancestors": ancestors}
    assert subjects_before(child, {"": MATH}) == (child, ancestors)
    unknown = {TRAINED: ["01"]}
    assert subjects_before(unknown, ONE) == ({}, [unknown])
    assert subjects_before(unknown, {}) == (unknown, [])


def test_nobody_is_in_two_data_sets_of_a_study():
    check_people(["eyes-01", "math-01", "eyes-01", "eyes-NDARX1Y"], TWO)
    check_people(["a-01", "b-01"], {"a": None, "b": None})
    with pytest.raises(UserError, match=r"1 subject in two .*\(eyes-NDARX1Y as math-NDARX1Y\)"):
        check_people(["eyes-NDARX1Y", "math-NDARX1Y", "math-01"], TWO)
    with pytest.raises(UserError, match=r"\(a-01 as b-01\), and might be both"):
        check_people(["a-01", "b-01"], {"a": EYES, "b": EYES})


def test_what_an_unknown_data_set_was_seen_of_is_remembered_over_a_generation():
    parent = {TRAINED: ["01"], CHOSEN: []}
    own, ancestors = subjects_before(parent, {"": "B"})
    child = {**own, "datasets": {"": "B"}, "ancestors": ancestors}
    assert seen_subjects(child, TRAINED, ["01"], {"": "A"}) == {"01": False}
