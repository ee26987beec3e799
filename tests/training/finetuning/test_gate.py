"""The gate between the head and the encoder: passed, extended, stopped, and by which value."""

import json

import pytest
from finetuning_plan_runs import NAMES, accuracies, carried_out, plan_of

BACKBONE = NAMES[:-1]


def gated(**params):
    return plan_of(strategy="gated", gate_threshold=0.8, **params)


@pytest.mark.parametrize("on_fail", ["extend", "stop", "proceed"])
def test_a_gate_that_is_passed_opens_at_its_epoch(on_fail):
    rows = accuracies(0.7, 0.75, 0.85, 0.9, 0.9)
    assert carried_out(gated(gate_on_fail=on_fail), rows) == {3: BACKBONE}


def test_nothing_opens_before_its_epoch():
    rows = accuracies(0.99, 0.99, 0.99, 0.99, 0.99, 0.99)
    assert carried_out(gated(unfreeze_backbone_epoch=5), rows) == {5: BACKBONE}


@pytest.mark.parametrize("value", ["best", "last", "smoothed"])
def test_the_threshold_itself_is_enough(value):
    rows = accuracies(0.8, 0.8, 0.8)
    assert carried_out(gated(gate_value=value, gate_on_fail="stop"), rows) == {3: BACKBONE}
    below = accuracies(0.7999, 0.7999, 0.7999)
    assert carried_out(gated(gate_value=value, gate_on_fail="stop"), below) == {3: "stop"}


def test_for_a_loss_lower_is_better():
    plan = gated(gate_metric="loss", gate_on_fail="stop")
    rows = [{"validation_loss": value} for value in (1.0, 0.9, 0.8)]
    assert carried_out(plan, rows) == {3: BACKBONE}
    plan = gated(gate_metric="loss", gate_on_fail="stop")
    rows = [{"validation_loss": value} for value in (1.0, 0.9, 0.81)]
    assert carried_out(plan, rows) == {3: "stop"}


def test_a_failed_gate_gives_the_head_more_time():
    rows = accuracies(0.5, 0.6, 0.7, 0.75, 0.82, 0.5)
    assert carried_out(gated(gate_value="last"), rows) == {5: BACKBONE}


def test_more_time_comes_to_an_end():
    rows = accuracies(*[0.5] * 10)
    assert carried_out(gated(gate_extend_epochs=4), rows) == {7: "stop"}


def test_the_last_epoch_of_the_extension_counts():
    rows = accuracies(0.5, 0.5, 0.5, 0.5, 0.9, 0.9)
    assert carried_out(gated(gate_extend_epochs=2), rows) == {5: BACKBONE}


def test_a_failed_gate_stops_the_run():
    plan = gated(gate_on_fail="stop")
    history = [{"epoch": n + 1, "balanced_accuracy": 0.61} for n in range(3)]
    decision = plan.after_epoch(history, {"head"}, None)
    assert decision.stop
    assert not decision.unfreeze
    assert "best balanced_accuracy 0.61, wanted 0.8" in decision.reason


def test_a_failed_gate_goes_on_all_the_same():
    assert carried_out(gated(gate_on_fail="proceed"), accuracies(*[0.5] * 6)) == {3: BACKBONE}


@pytest.mark.parametrize(
    ("value", "rows", "opens"),
    [
        ("best", (0.5, 0.9, 0.5), True),
        ("last", (0.5, 0.9, 0.5), False),
        ("smoothed", (0.5, 0.9, 0.5), False),
        ("last", (0.5, 0.5, 0.9), True),
        ("smoothed", (0.5, 0.5, 0.9), False),
        ("smoothed", (0.75, 0.8, 0.86), True),
    ],
)
def test_one_lucky_epoch(value, rows, opens):
    found = carried_out(gated(gate_value=value, gate_on_fail="stop"), accuracies(*rows))
    assert found == ({3: BACKBONE} if opens else {3: "stop"})


def test_a_gate_stays_passed():
    """Growing shares follow by the epoch, although the metric has fallen; also after a resume."""
    params = {"unfreeze_ratio": (0.5, 1.0), "stage_epochs": 2, "gate_value": "last"}
    rows = accuracies(0.7, 0.7, 0.85, 0.2, 0.2, 0.2)
    expected = {3: ("block_2", "block_3", "block_4"), 5: NAMES[:3]}
    assert carried_out(gated(**params), rows) == expected
    first, second = gated(**params), gated(**params)
    assert carried_out(first, rows[:3]) == {3: expected[3]}
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    history = [{"epoch": epoch + 1, **row} for epoch, row in enumerate(rows)]
    trained = {"head", *expected[3]}
    assert second.after_epoch(history[:4], trained, None).unfreeze == ()
    assert second.after_epoch(history[:5], trained, None).unfreeze == expected[5]


def test_without_a_value_there_is_nothing_to_judge():
    rows = [{}, {}, {}, {}, *accuracies(0.9), {}]
    assert carried_out(gated(gate_on_fail="stop"), rows) == {5: BACKBONE}
