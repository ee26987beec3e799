"""Who trains, validates and is tested: parts in time, nested subsets, nobody seen before."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.specs import SplitRules
from hbn_foundation.experiments.study import (
    BATCH_SHARE,
    base_subjects,
    choose_subset,
    finetune_dataset,
    roles,
    split_base,
)
from sweep_data import SAMPLES, SFREQ, a_finetuning, make_data

RULES = SplitRules()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("study"), n_subjects=4).dataset


def test_the_last_run_is_tested_and_of_one_run_its_end(data):
    windows = data.windows.assign(role=roles(data.windows, "S1", RULES, SFREQ, SAMPLES))
    assert set(windows.loc[windows["subject"] != "S1", "role"]) == {""}
    mine = windows[windows["subject"] == "S1"]
    by_run = mine.groupby(["task", "run"])["role"].agg(set)
    assert by_run["count", "2"] == {"test"}
    assert by_run["count", "1"] == {"train", "validation", ""}
    rest = mine[mine["task"] == "rest"].sort_values("start")
    order = {"train": 0, "": 1, "validation": 2, "test": 4}
    parts = [order[role] for role in rest["role"]]
    assert parts[0] == 0
    assert parts[-1] == 4
    assert (rest["role"] == "test").sum() == round(RULES.test_share * len(rest))


@pytest.mark.parametrize("stride", [0.5, 2.0])
@pytest.mark.parametrize("gap", [0.0, 3.0])
def test_parts_never_touch(data, stride, gap):
    starts = np.arange(0, 3800, round(stride * 100))
    windows = pd.DataFrame({"recording": "r", "subject": "S1", "task": "t", "run": None,
                            "start": starts})  # fmt: skip
    rules = SplitRules(gap_seconds=gap)
    role = roles(windows, "S1", rules, SFREQ, SAMPLES)
    for earlier, later in (("train", "validation"), ("validation", "test")):
        last = starts[role == earlier].max() + SAMPLES
        assert last + gap * SFREQ <= starts[role == later].min()


def test_runs_are_in_order_of_their_number():
    windows = pd.DataFrame(
        {"recording": [f"sub-A_task-t_run-{run}" for run in (10, 9, 2)], "subject": "A",
         "task": "t", "run": ["10", "9", "2"], "start": 0}
    )  # fmt: skip
    assert roles(windows, "A", RULES, SFREQ, SAMPLES)[0] == "test"


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 2), min_size=20, max_size=80),
    st.integers(0, 5),
    st.lists(st.floats(0.01, 1.0), min_size=2, max_size=4),
    st.integers(1, 4),
    st.booleans(),
)
def test_subsets_are_nested_stratified_and_never_too_small(classes, seed, shares, least, numbers):
    values = np.array(classes)
    counts = np.bincount(values)
    windows = pd.DataFrame({"recording": "r", "start": np.arange(len(values)) * 200})
    if numbers:
        values = np.random.default_rng(seed).normal(size=len(values))
        least = min(least, 3)
    elif min(counts[counts > 0]) < least:
        with pytest.raises(UserError, match="min_per_class"):
            choose_subset(windows, values, 0.5, seed, least)
        return
    before: set[int] = set()
    for share in sorted(shares):
        chosen = choose_subset(windows, values, share, seed, least)
        assert before <= set(chosen)
        before = set(chosen)
        if not numbers:
            for code in np.unique(values):
                n = int((values[chosen] == code).sum())
                assert n >= least
                assert n == min(counts[code], max(least, int(np.ceil(share * counts[code] - 1e-9))))
    assert len(choose_subset(windows, values, 1.0, seed, least)) == len(values)


def test_a_subset_depends_on_the_seed_and_not_on_the_order_of_the_table(data):
    windows = data.windows.iloc[:40].reset_index(drop=True)
    values = (windows["task"] == "rest").to_numpy().astype(int)

    def names(table, values, seed):
        chosen = table.iloc[choose_subset(table, values, 0.3, seed, 2)]
        return set(zip(chosen["recording"], chosen["start"], strict=True))

    again = windows[::-1].reset_index(drop=True)
    assert names(windows, values, 0) == names(again, values[::-1], 0)
    assert names(windows, values, 0) != names(windows, values, 1)


def tables(data, base=("S2", "S3"), **changes):
    spec = a_finetuning(**changes)
    return finetune_dataset(spec, data, base)


def test_the_target_is_never_in_the_base(data):
    with pytest.raises(UserError, match="trained on the target S1"):
        tables(data, base=("S1", "S2"))


@pytest.mark.parametrize("pct", [0.3, 1.0])
def test_modes_differ_in_the_base_windows_alone(data, pct):
    full = tables(data, target_data_pct=pct)
    alone = tables(data, target_data_pct=pct, mode="target_only_fine_tuning")
    mine = full.windows[full.windows["subject"].str.startswith("S1")].drop(columns=BATCH_SHARE)
    pd.testing.assert_frame_equal(mine, alone.windows, check_dtype=False)
    assert set(full.windows["subject"]) - set(alone.windows["subject"]) == {"S2", "S3"}
    shares = full.windows.groupby("subject")[BATCH_SHARE].agg(["min", "count"])
    assert shares.loc["S1+train", "min"] == 0.5
    assert shares["count"].drop("S1+train").eq(0).all()
    assert dict(alone.splits.to_numpy().tolist()) == {
        "S1+train": "train", "S1+validation": "validation", "S1+test": "test"
    }  # fmt: skip


def test_validation_and_test_do_not_depend_on_share_or_seed(data):
    def held(**changes):
        windows = tables(data, **changes).windows
        rest = windows[windows["subject"].isin(["S1+validation", "S1+test"])]
        return rest[["recording", "start", "subject"]].to_numpy().tolist()

    assert held(target_data_pct=0.3) == held(target_data_pct=1.0) == held(seed_finetune=4)


def test_a_label_of_the_whole_subject_is_refused(data):
    label = {"kind": "participant", "column": "age", "type": "regression"}
    with pytest.raises(UserError, match="changes within a subject"):
        tables(data, tuning={"label": label})


def test_bases_of_a_fold_are_nested_and_folds_differ():
    subjects = [f"S{i}" for i in range(1, 10)]
    orders = {target: base_subjects(subjects, target, 0) for target in subjects}
    for target, order in orders.items():
        assert sorted([*order, target]) == subjects
    assert len({tuple(order[:4]) for order in orders.values()}) > 5
    train, validation = split_base(orders["S1"], 0.25)
    assert (len(train), len(validation)) == (6, 2)
