"""Each strategy unfreezes the blocks it says, when it says, and never twice."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.training.finetuning_params import STRATEGIES, PlanParams
from hbn_foundation.training.plans import PLANS, make_plan
from plan_courses import (
    BACKBONE,
    BLOCKS,
    NAMES,
    NO_METRICS,
    accuracies,
    carried_out,
    metrics,
    phases,
    plan_of,
)
from processes import imported_by

LISTED = phases((2, "block_4"), (3,), (1, "block_1", "band_tokens"), (2, "all"))


@pytest.mark.parametrize(
    ("params", "start", "later"),
    [
        ({"strategy": "head_only"}, {"head"}, {}),
        ({"strategy": "full"}, set(NAMES), {}),
        ({"strategy": "scratch"}, set(NAMES), {}),
        ({}, {"head"}, {3: BACKBONE}),
        ({"unfreeze_backbone_epoch": 5}, {"head"}, {4: BACKBONE}),
        (
            {"strategy": "gradual", "phase1_epochs": 2, "every": 3, "target_share": 0.5},
            {"head"},
            {2: ("block_4",), 5: ("block_3",), 8: ("block_2",)},
        ),
        ({"strategy": "partial", "unfreeze_ratio": 1.0}, {"head"}, {3: BACKBONE}),
        (
            {"strategy": "partial", "unfreeze_ratio": (0.3, 1.0), "stage_epochs": 4},
            {"head"},
            {3: ("block_4",), 7: NAMES[:5]},
        ),
        (
            {"strategy": "phases", "phases": LISTED},
            {"head", "block_4"},
            {5: ("band_tokens", "block_1"), 6: ("time_tokens", "block_2", "block_3")},
        ),
    ],
)
def test_plans_whose_epochs_are_known(params, start, later):
    plan = plan_of(**params)
    assert plan.start() == start
    assert carried_out(plan, NO_METRICS) == later


LOSSES = (1.0, 0.9, 0.95, 0.95, 1.5, 1.4, 1.45, 1.39, 1.5, 1.6)
R2 = {"plateau_metric": "r2", "target_share": 0.1}


@pytest.mark.parametrize(
    ("patience", "params", "rows", "expected"),
    [
        # a drop after the unfreezing is the new standard; it needs two bad epochs again
        (1, {}, metrics("validation_loss", *LOSSES), {4: ("block_4",), 10: ("block_3",)}),
        (
            0,
            {"plateau_metric": "f1", "target_share": 0.1},
            metrics("f1", 0.5, 0.6, 0.7, 0.7, 0.7, 0.7),
            {4: ("block_4",)},
        ),
        # below zero: a metric that falls a little and a loss that rises a little are not better
        (0, R2, metrics("r2", -0.5, -0.4, -0.3, -0.300_02, -0.2), {4: ("block_4",)}),
        (
            0,
            {"target_share": 0.1},
            metrics("validation_loss", -2.0, -2.5, -3.0, -2.999_9, -4.0),
            {4: ("block_4",)},
        ),
        # epochs without a validation stall nothing
        (
            0,
            {},
            metrics("validation_loss", 1.0, math.nan, math.nan, 0.5, math.nan, 0.6),
            {6: ("block_4",)},
        ),
    ],
)
def test_a_plateau_unfreezes_the_next_block(patience, params, rows, expected):
    plan = plan_of(strategy="plateau", plateau_patience=patience, **params)
    assert carried_out(plan, rows) == expected


def test_gradients_choose_the_block_that_matters():
    asked = []

    def scores():
        asked.append(True)
        return dict.fromkeys(NAMES, 0.01) | {"block_2": 1.0, "head": 50.0}

    guided = {"strategy": "gradient_guided", "every": 2, "gradient_share": 0.5}
    # once block_2 is trained the others stay too far below it
    found = carried_out(plan_of(phase1_epochs=1, **guided), NO_METRICS[:8], scores)
    assert found == {1: ("block_2",)}
    assert len(asked) == 4, "after 1, 3, 5 and 7 epochs"
    equal = plan_of(strategy="gradient_guided", every=1, target_share=0.5)
    found = carried_out(equal, NO_METRICS, lambda: dict.fromkeys(NAMES, 1.0))
    assert found == {3: ("block_4",), 4: ("block_3",), 5: ("block_2",)}
    for useless in (0.0, math.nan, math.inf):
        plan = plan_of(strategy="gradient_guided")
        assert carried_out(plan, NO_METRICS, lambda: dict.fromkeys(NAMES, useless)) == {}  # noqa: B023
    with pytest.raises(ValueError, match="scores"):
        carried_out(plan_of(strategy="gradient_guided"), NO_METRICS)


def test_nothing_is_decided_twice_and_nothing_after_the_last_epoch():
    plan = plan_of(epochs=4)
    history = [{"epoch": epoch + 1} for epoch in range(3)]
    assert plan.after_epoch(history, {"head"}, None).unfreeze == BACKBONE
    assert plan.after_epoch(history, {"head"}, None) == ((), False, "")
    assert plan.after_epoch([], {"head"}, None) == ((), False, "")
    late = plan_of(epochs=3, phase1_epochs=2)
    assert late.after_epoch([{"epoch": 3}], {"head"}, None) == ((), False, "")
    missed = plan_of(strategy="gradual", phase1_epochs=1, every=1)
    decision = missed.after_epoch([{"epoch": 3}], {"head"}, None)
    assert decision.unfreeze == ("block_2", "block_3", "block_4")


STOPS = {"gate_on_fail": "stop"}
GATED = {"strategy": "gated", "gate_value": "last", "gate_extend_epochs": 2}
PASSED_LATE = accuracies(0.5, 0.5, 0.5, 0.9, 0.5)


@pytest.mark.parametrize(
    ("params", "rows", "epochs_waited"),
    [
        ({}, NO_METRICS[:5], 3),
        ({"epochs": 6, "strategy": "gradual", "phase1_epochs": 1, "every": 4}, NO_METRICS[:6], 5),
        ({"strategy": "full"}, NO_METRICS[:5], 0),
        ({"strategy": "head_only"}, NO_METRICS[:5], 0),
        ({"strategy": "plateau"}, NO_METRICS[:5], 0),
        (GATED, PASSED_LATE, 4),
        ({**GATED, **STOPS}, PASSED_LATE, 3),
        ({**GATED, "unfreeze_ratio": (0.5, 1.0), "stage_epochs": 1}, PASSED_LATE, 5),
    ],
)
def test_patience_waits_for_what_is_due_and_only_for_that(params, rows, epochs_waited):
    plan = plan_of(**params)
    trainable, history, found = set(plan.start()), [], [plan.is_waiting()]
    for epoch, row in enumerate(rows):
        history.append({"epoch": epoch + 1, **row})
        trainable |= set(plan.after_epoch(history, trainable, None).unfreeze)
        found.append(plan.is_waiting())
    assert found == [number < epochs_waited for number in range(len(rows) + 1)]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"phase1_epochs": 12}, "plan.phase1_epochs=12"),
        ({"unfreeze_backbone_epoch": 13}, "plan.unfreeze_backbone_epoch=13"),
        *[
            (
                {"strategy": name, "phase1_epochs": 8, "unfreeze_backbone_epoch": 5},
                "plan.phase1_epochs=8: plan.unfreeze_backbone_epoch=5 sets the epoch",
            )
            for name in ("two_phase", "gated")
        ],
        *[
            (
                {"strategy": name, "phase2_epochs": 8},
                f"plan.phase2_epochs=8: plan.strategy={name} has no first phase of a set length",
            )
            for name in ("full", "head_only", "scratch", "plateau")
        ],
        ({"strategy": "gradual", "phase1_epochs": 12}, "plan.phase1_epochs=12"),
        ({"strategy": "gradient_guided", "phase1_epochs": 12}, "plan.phase1_epochs=12"),
        (
            {"strategy": "partial", "unfreeze_ratio": (0.2, 0.5, 1.0), "stage_epochs": 5},
            "after 13 epochs, but there are only 12",
        ),
        (
            {"strategy": "phases", "phases": phases((5,), (8,))},
            "last 13 epochs together, but there are only 12",
        ),
        (
            {"strategy": "phases", "phases": phases((5, "block_9"))},
            "plan.phases.0.unfreeze: no block block_9; the model has band_tokens, time_tokens",
        ),
        (
            {"strategy": "phases", "phases": phases((2, "block_4"), (2, "block_4"))},
            "plan.phases.1.unfreeze: block_4 is unfrozen already in phase 0",
        ),
        ({"strategy": "gated", "gate_metric": "kappa"}, "plan.gate_metric: kappa is not computed"),
        ({"strategy": "plateau", "plateau_metric": "x"}, "plan.plateau_metric: x is not computed"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_in_one_line(params, words):
    with pytest.raises(UserError) as error:
        plan_of(**params)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_metric_has_to_belong_to_what_is_learned():
    params = PlanParams(strategy="gated")
    make_plan(params, BLOCKS, 12, is_regression=False)
    with pytest.raises(UserError, match="balanced_accuracy is not computed for regression"):
        make_plan(params, BLOCKS, 12, is_regression=True)
    # parameters of other strategies are not judged
    assert plan_of(strategy="full", gate_metric="kappa", phase1_epochs=99)
    assert plan_of(strategy="partial", unfreeze_backbone_epoch=11, phase1_epochs=1)


def test_plans_need_no_torch():
    found = imported_by("import hbn_foundation.training.preview")
    assert not found & {"torch", "lightning", "matplotlib"}
    assert set(PLANS) == set(STRATEGIES)


def has_one_length(params):
    """`phase1_epochs` and `unfreeze_backbone_epoch` do not contradict each other."""
    switch = params.unfreeze_backbone_epoch
    return switch is None or params.phase1_epochs in (3, switch - 1)


ANY_PLAN = st.builds(
    PlanParams,
    strategy=st.sampled_from([name for name in PLANS if name != "phases"]),
    phase1_epochs=st.integers(1, 5),
    unfreeze_backbone_epoch=st.none() | st.integers(2, 6),
    gate_threshold=st.floats(0, 1),
    gate_value=st.sampled_from(["best", "last", "smoothed"]),
    gate_on_fail=st.sampled_from(["extend", "stop", "proceed"]),
    gate_extend_epochs=st.integers(1, 4),
    every=st.integers(1, 3),
    target_share=st.floats(0.1, 1),
    unfreeze_ratio=st.none() | st.floats(0.1, 1) | st.just((0.2, 0.5, 1.0)),
    stage_epochs=st.integers(1, 3),
    plateau_metric=st.sampled_from(["loss", "f1"]),
    plateau_patience=st.integers(0, 3),
    gradient_share=st.floats(0, 1),
).filter(has_one_length)
ROW = st.fixed_dictionaries(
    {
        "validation_loss": st.floats(0, 3) | st.just(math.nan),
        "f1": st.floats(0, 1),
        "balanced_accuracy": st.floats(0, 1),
        "scores": st.lists(st.floats(0, 1), min_size=len(NAMES), max_size=len(NAMES)),
    }
)


@given(ANY_PLAN, st.lists(ROW, min_size=1, max_size=12), st.data())
def test_every_block_is_unfrozen_at_most_once_and_a_resumed_plan_goes_on_alike(params, rows, data):
    """With kills at random epochs, the state going through JSON each time."""
    killed_after = data.draw(st.sets(st.integers(0, len(rows) - 1)))
    plan, whole = make_plan(params, BLOCKS, 20), make_plan(params, BLOCKS, 20)
    trainable, named, history = set(plan.start()), [], []
    assert "head" in trainable
    for epoch, row in enumerate(rows):
        history.append({"epoch": epoch + 1, **row})
        scores = dict(zip(NAMES, row["scores"], strict=True))
        decision = plan.after_epoch(history, frozenset(trainable), lambda: scores)  # noqa: B023
        same = whole.after_epoch(history, frozenset(trainable), lambda: scores)  # noqa: B023
        assert decision == same
        assert not set(decision.unfreeze) & trainable
        named += decision.unfreeze
        trainable |= set(decision.unfreeze)
        if epoch in killed_after:
            state = json.dumps(plan.state_dict(), allow_nan=False)
            plan = make_plan(params, BLOCKS, 20)
            plan.load_state_dict(json.loads(state))
            again = plan.after_epoch(history, frozenset(trainable), lambda: scores)  # noqa: B023
            assert again == ((), False, "")
        if decision.stop:
            break
    assert len(named) == len(set(named))
    assert set(named) <= set(BACKBONE)
