"""Each strategy unfreezes the blocks it says, when it says, and never twice."""

import json
import math
import subprocess
import sys
from typing import get_args

import pytest
from finetuning_plan_runs import BLOCKS, NAMES, carried_out, plan_of, without_metrics
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.training.finetuning_params import PhaseParams, PlanParams, Strategy
from hbn_foundation.training.plans import PLANS, make_plan
from hbn_foundation.training.rates import THRESHOLD, Stall
from hbn_foundation.training.unfreezing import Block, last_blocks

BACKBONE = NAMES[:-1]


def test_head_only_trains_the_head_and_nothing_else():
    plan = plan_of(strategy="head_only")
    assert plan.start() == {"head"}
    assert carried_out(plan, without_metrics()) == {}


@pytest.mark.parametrize("strategy", ["full", "scratch"])
def test_full_trains_all_from_the_start(strategy):
    plan = plan_of(strategy=strategy)
    assert plan.start() == set(NAMES)
    assert carried_out(plan, without_metrics()) == {}


def test_two_phases_by_default_after_three_epochs():
    plan = plan_of()
    assert plan.start() == {"head"}
    assert carried_out(plan, without_metrics()) == {3: BACKBONE}


def test_the_epoch_of_unfreezing_wins_over_the_length_of_the_first_phase():
    plan = plan_of(unfreeze_backbone_epoch=5)
    assert carried_out(plan, without_metrics()) == {5: BACKBONE}


def test_gradual_goes_from_the_back_up_to_its_share():
    plan = plan_of(strategy="gradual", phase1_epochs=2, every=3, target_share=0.5)
    assert carried_out(plan, without_metrics()) == {
        2: ("block_4",),
        5: ("block_3",),
        8: ("block_2",),
    }


def test_partial_unfreezes_growing_shares_of_the_blocks():
    plan = plan_of(strategy="partial", unfreeze_ratio=(0.3, 1.0), stage_epochs=4)
    assert carried_out(plan, without_metrics()) == {
        3: ("block_3", "block_4"),
        7: ("band_tokens", "time_tokens", "block_1", "block_2"),
    }


def test_a_share_of_the_parameters_is_another_one():
    plan = plan_of(strategy="partial", unfreeze_ratio=0.81, ratio_by="parameters")
    assert carried_out(plan, without_metrics()) == {3: NAMES[1:-1]}
    half = plan_of(strategy="partial", ratio_by="parameters")
    assert carried_out(half, without_metrics()) == {3: ("block_2", "block_3", "block_4")}


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=12),
    st.floats(0.001, 1),
    st.sampled_from(["blocks", "parameters"]),
)
def test_a_share_is_made_up_by_the_fewest_last_blocks(sizes, share, by):
    blocks = [Block(f"b{number}", size) for number, size in enumerate(sizes)]
    names = last_blocks(blocks, share, by)
    assert names == tuple(block.name for block in reversed(blocks))[: len(names)]
    counted = [size if by == "parameters" else 1 for size in sizes]
    assert sum(counted[-len(names) :]) >= share * sum(counted) * (1 - 1e-6)
    if len(names) > 1:
        assert sum(counted[1 - len(names) :]) < share * sum(counted)


def test_a_list_of_phases():
    plan = plan_of(
        strategy="phases",
        phases=(
            PhaseParams(epochs=2, unfreeze=("block_4",)),
            PhaseParams(epochs=3),
            PhaseParams(epochs=1, unfreeze=("block_1", "band_tokens")),
            PhaseParams(epochs=2, unfreeze=("all",)),
        ),
    )
    assert plan.start() == {"head", "block_4"}
    assert carried_out(plan, without_metrics()) == {
        5: ("band_tokens", "block_1"),
        6: ("time_tokens", "block_2", "block_3"),
    }


def losses(*values):
    return [{"validation_loss": value} for value in values]


def test_a_plateau_unfreezes_the_next_block():
    plan = plan_of(strategy="plateau", plateau_patience=1)
    # A drop after the unfreezing is the new standard; it needs two bad epochs again.
    rows = losses(1.0, 0.9, 0.95, 0.95, 1.5, 1.4, 1.45, 1.39, 1.5, 1.6)
    assert carried_out(plan, rows) == {4: ("block_4",), 10: ("block_3",)}


def test_a_plateau_of_a_metric_that_should_rise():
    plan = plan_of(strategy="plateau", plateau_metric="f1", plateau_patience=0, target_share=0.1)
    rows = [{"f1": value} for value in (0.5, 0.6, 0.7, 0.7, 0.7, 0.7)]
    assert carried_out(plan, rows) == {4: ("block_4",)}


def test_a_plateau_below_zero():
    """A metric that falls stands still, and a loss that rises a little: neither is better."""
    plan = plan_of(strategy="plateau", plateau_metric="r2", plateau_patience=0, target_share=0.1)
    rows = [{"r2": value} for value in (-0.5, -0.4, -0.3, -0.300_02, -0.2)]
    assert carried_out(plan, rows) == {4: ("block_4",)}
    plan = plan_of(strategy="plateau", plateau_patience=0, target_share=0.1)
    assert carried_out(plan, losses(-2.0, -2.5, -3.0, -2.999_9, -4.0)) == {4: ("block_4",)}


@given(st.floats(-100, 100), st.floats(1e-3, 10), st.booleans())
def test_what_is_better_does_not_depend_on_the_sign(best, step, higher):
    stall = Stall(0)
    stall.add(best, higher)
    better = best + step if higher else best - step
    if step > 2 * THRESHOLD * abs(best):
        assert not stall.add(better, higher)
        stall = Stall(0)
        stall.add(best, higher)
    assert stall.add(2 * best - better, higher)
    stall = Stall(0)
    stall.add(best, higher)
    assert stall.add(best, higher)


def test_epochs_without_a_validation_stall_nothing():
    plan = plan_of(strategy="plateau", plateau_patience=0)
    rows = losses(1.0, math.nan, math.nan, 0.5, math.nan, 0.6)
    assert carried_out(plan, rows) == {6: ("block_4",)}


def test_gradients_choose_the_block_that_matters():
    asked = []

    def scores():
        asked.append(True)
        return dict.fromkeys(NAMES, 0.01) | {"block_2": 1.0, "head": 50.0}

    plan = plan_of(strategy="gradient_guided", phase1_epochs=1, every=2, gradient_share=0.5)
    # Once block_2 is trained the others stay too far below it.
    assert carried_out(plan, without_metrics(8), scores) == {1: ("block_2",)}
    assert len(asked) == 4, "after 1, 3, 5 and 7 epochs"


def test_equal_gradients_go_from_the_back_up_to_the_share():
    plan = plan_of(strategy="gradient_guided", every=1, target_share=0.5)
    found = carried_out(plan, without_metrics(), lambda: dict.fromkeys(NAMES, 1.0))
    assert found == {3: ("block_4",), 4: ("block_3",), 5: ("block_2",)}


@pytest.mark.parametrize("score", [0.0, math.nan, math.inf])
def test_gradients_that_say_nothing_unfreeze_nothing(score):
    plan = plan_of(strategy="gradient_guided")
    assert carried_out(plan, without_metrics(), lambda: dict.fromkeys(NAMES, score)) == {}


def test_a_missing_probe_is_an_error_of_the_program():
    with pytest.raises(ValueError, match="scores"):
        carried_out(plan_of(strategy="gradient_guided"), without_metrics())


def test_nothing_is_decided_twice_and_nothing_after_the_last_epoch():
    plan = plan_of(epochs=4)
    history = [{"epoch": epoch + 1} for epoch in range(3)]
    assert plan.after_epoch(history, {"head"}, None).unfreeze == BACKBONE
    assert plan.after_epoch(history, {"head"}, None) == ((), False, "")
    assert plan.after_epoch([], {"head"}, None) == ((), False, "")
    late = plan_of(epochs=3, phase1_epochs=2)
    assert late.after_epoch([{"epoch": 3}], {"head"}, None) == ((), False, "")


def test_what_was_missed_is_made_up_for():
    plan = plan_of(strategy="gradual", phase1_epochs=1, every=1)
    decision = plan.after_epoch([{"epoch": 3}], {"head"}, None)
    assert decision.unfreeze == ("block_2", "block_3", "block_4")


def waiting(plan, rows):
    """Whether a plan waits for an unfreezing, before the first epoch and after each."""
    trainable, history, found = set(plan.start()), [], [plan.is_waiting()]
    for epoch, row in enumerate(rows):
        history.append({"epoch": epoch + 1, **row})
        trainable |= set(plan.after_epoch(history, trainable, None).unfreeze)
        found.append(plan.is_waiting())
    return found


def test_patience_waits_for_what_is_due_and_only_for_that():
    yes, no = True, False
    assert waiting(plan_of(), without_metrics(5)) == [yes, yes, yes, no, no, no]
    gradual = plan_of(epochs=6, strategy="gradual", phase1_epochs=1, every=4)
    assert waiting(gradual, without_metrics(6)) == [yes, yes, yes, yes, yes, no, no]
    for strategy in ("full", "head_only", "plateau"):
        assert not any(waiting(plan_of(strategy=strategy), without_metrics(5)))
    gated = {"strategy": "gated", "gate_value": "last", "gate_extend_epochs": 2}
    rows = [{"balanced_accuracy": value} for value in (0.5, 0.5, 0.5, 0.9, 0.5)]
    assert waiting(plan_of(**gated), rows) == [yes, yes, yes, yes, no, no]
    assert waiting(plan_of(**gated, gate_on_fail="stop"), rows) == [yes, yes, yes, no, no, no]
    shares = {"unfreeze_ratio": (0.5, 1.0), "stage_epochs": 1}
    assert waiting(plan_of(**gated, **shares), rows) == [yes, yes, yes, yes, yes, no]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"phase1_epochs": 12}, "plan.phase1_epochs=12"),
        ({"unfreeze_backbone_epoch": 20}, "plan.unfreeze_backbone_epoch=20"),
        ({"strategy": "gradual", "phase1_epochs": 12}, "plan.phase1_epochs=12"),
        ({"strategy": "gradient_guided", "phase1_epochs": 12}, "plan.phase1_epochs=12"),
        (
            {"strategy": "partial", "unfreeze_ratio": (0.2, 0.5, 1.0), "stage_epochs": 5},
            "after 13 epochs, but there are only 12",
        ),
        (
            {"strategy": "phases", "phases": (PhaseParams(epochs=5), PhaseParams(epochs=8))},
            "last 13 epochs together, but there are only 12",
        ),
        (
            {"strategy": "phases", "phases": (PhaseParams(epochs=5, unfreeze=("block_9",)),)},
            "plan.phases.0.unfreeze: no block block_9; the model has band_tokens, time_tokens",
        ),
        (
            {
                "strategy": "phases",
                "phases": (
                    PhaseParams(epochs=2, unfreeze=("block_4",)),
                    PhaseParams(epochs=2, unfreeze=("block_4",)),
                ),
            },
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


def test_parameters_of_other_strategies_are_not_judged():
    assert plan_of(strategy="full", gate_metric="kappa", phase1_epochs=99)


def test_plans_need_no_torch():
    code = (
        "import sys; import hbn_foundation.training.preview; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_strategy_has_its_plan():
    assert set(PLANS) == set(get_args(Strategy))


ANY_PLAN = st.builds(
    PlanParams,
    strategy=st.sampled_from([name for name in PLANS if name != "phases"]),
    phase1_epochs=st.integers(1, 5),
    unfreeze_backbone_epoch=st.none() | st.integers(1, 5),
    gate_threshold=st.floats(0, 1),
    gate_value=st.sampled_from(["best", "last", "smoothed"]),
    gate_on_fail=st.sampled_from(["extend", "stop", "proceed"]),
    gate_extend_epochs=st.integers(1, 4),
    every=st.integers(1, 3),
    target_share=st.floats(0.1, 1),
    unfreeze_ratio=st.none() | st.floats(0.1, 1) | st.just((0.2, 0.5, 1.0)),
    ratio_by=st.sampled_from(["blocks", "parameters"]),
    stage_epochs=st.integers(1, 3),
    plateau_metric=st.sampled_from(["loss", "f1"]),
    plateau_patience=st.integers(0, 3),
    gradient_share=st.floats(0, 1),
)
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
