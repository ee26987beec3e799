"""One hash per job: what it depends on changes it, nothing else does."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.hashing import canonical_hash
from hbn_foundation.experiments.specs import BaseSpec, FinetuneSpec
from sweep_data import a_base, a_finetuning

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False,
                                                                      allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


def shuffled(value, rng):
    """The same mapping, its fields in another order."""
    if isinstance(value, dict):
        items = [(name, shuffled(part, rng)) for name, part in value.items()]
        rng.shuffle(items)
        return dict(items)
    return [shuffled(part, rng) for part in value] if isinstance(value, list) else value


@given(PLAIN, st.randoms(use_true_random=False))
def test_the_order_of_fields_does_not_count(value, rng):
    assert canonical_hash(shuffled(value, rng)) == canonical_hash(value)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_is_one_number(number):
    assert canonical_hash({"a": number}) == canonical_hash({"a": float(number)})
    assert canonical_hash({"a": number}) != canonical_hash({"a": str(number)})


@given(PLAIN)
def test_the_hash_outlives_a_file(value):
    assert canonical_hash(json.loads(json.dumps(value))) == canonical_hash(value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, {1, 2}, b"x"])
def test_what_has_no_hash_is_refused(bad):
    with pytest.raises(UserError, match=r"trainer\.lr"):
        canonical_hash({"trainer": {"lr": bad}})


def test_golden_hashes():
    # a change here makes every kept base a stranger: raise SCHEMA_VERSION and say so
    assert a_base().hash == "7097d38db5112850"
    assert a_base(kind="supervised", supervised={}).hash == "658206ab512f5644"
    assert a_finetuning(base_hash="0123456789abcdef").hash == "8cf01ff1be6a7ab0"


@given(st.permutations(["S2", "S3", "S5", "S6"]))
def test_the_order_of_subjects_does_not_count(subjects):
    assert a_base(train_subjects=subjects).hash == a_base(train_subjects=sorted(subjects)).hash


@pytest.mark.parametrize(
    "changes",
    [
        {"trainer": {"work_dir": "elsewhere", "checkpoint_keep": 7, "resume": False}},
        {"trainer": {"max_training_time": 5.0, "checkpoint_every": 2, "max_non_finite": 9}},
        {"cleaning": {"chunk_seconds": 30.0}},
        {"supervised": None},
    ],
)
def test_what_the_weights_do_not_depend_on_is_left_out(changes):
    assert a_base(**changes).hash == a_base().hash


def test_one_and_one_point_zero_are_the_same_base():
    assert (
        a_base(trainer={"epochs": 3, "warmup_steps": 10.0}).hash
        == a_base(trainer={"epochs": 3.0, "warmup_steps": 10}).hash
    )
    assert a_base(window={"seconds": 4}).hash == a_base(window={"seconds": 4.0}).hash


def test_the_target_share_counts_where_base_data_join_only():
    alone = {"mode": "target_only_fine_tuning"}
    assert a_finetuning(**alone, target_share=0.2).hash == a_finetuning(**alone).hash


@pytest.mark.parametrize(
    ("model", "changes", "expected"),
    [
        (BaseSpec, {"trainer": {"lr": 1}}, "trainer.lr"),
        (BaseSpec, {"fold": 0}, "fold"),
        (BaseSpec, {"trainer": {"learning_rate": math.nan}}, "learning_rate"),
        (BaseSpec, {"validation_subjects": ["S2"]}, "S2 both trains and validates"),
        (BaseSpec, {"kind": "supervised"}, "supervised"),
        (FinetuneSpec, {"target_data_pct": math.nan}, "target_data_pct"),
        (FinetuneSpec, {"target_data_pct": 1.5}, "target_data_pct"),
        (FinetuneSpec, {"mode": "target_only"}, "base_hash"),
        (FinetuneSpec, {"mode": "half"}, "mode"),
    ],
)
def test_a_wrong_field_is_named(model, changes, expected):
    make = a_base if model is BaseSpec else a_finetuning
    with pytest.raises(UserError, match=expected):
        make(**changes)


def test_a_mismatch_names_the_field():
    first, second = a_base(), a_base(trainer={"learning_rate": 0.01})
    with pytest.raises(UserError, match=r"trainer\.learning_rate is 0\.01 there and 0\.001 here"):
        first.check_same(second, "base")
    first.check_same(a_base(), "base")
    with pytest.raises(UserError, match=f"fields give {first.hash}"):
        first.check_hash(second.hash, "jobs.json")


def test_a_file_gives_the_same_job_back():
    for spec in (a_base(), a_finetuning()):
        content = json.loads(json.dumps(shuffled(spec.model_dump(mode="json"), random.Random(1))))
        assert type(spec).model_validate(content).hash == spec.hash
