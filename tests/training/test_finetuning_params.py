"""Advice on a plan and its rates, and wrong values of both."""

import pytest

from finetuning_runs import recipe_of
from hbn_foundation.errors import UserError
from hbn_foundation.training.finetuning_params import PhaseParams, PlanParams, RateParams
from hbn_foundation.training.preview import advice

GATE = {"strategy": "gated"}
LISTED = (PhaseParams(epochs=9), PhaseParams(epochs=6))


@pytest.mark.parametrize(
    ("plan", "rates", "epochs", "words"),
    [
        ({"strategy": "full"}, {"backbone_lr": 1e-5}, 15, ("100 times",)),
        ({**GATE, "unfreeze_backbone_epoch": 9}, {}, 15, ("unfreeze_backbone_epoch=9",)),
        (
            {"strategy": "phases", "phases": (PhaseParams(epochs=9), PhaseParams(epochs=6))},
            {},
            15,
            ("phases.0.epochs=9",),
        ),
        ({**GATE, "phase1_epochs": 15}, {}, 15, ("never judged", "consider 3")),
        ({**GATE, "gate_threshold": 1.01}, {}, 15, ("never above 1",)),
        (
            {**GATE, "gate_metric": "loss", "gate_threshold": -0.1},
            {},
            15,
            ("loss is never below 0", "expected above 0"),
        ),
        (
            {**GATE, "unfreeze_ratio": (0.2, 0.4, 1.0), "stage_epochs": 6},
            {},
            15,
            ("after 15 epochs",),
        ),
        ({"strategy": "plateau", "plateau_patience": 5}, {}, 15, ("consider 3",)),
    ],
)
def test_one_line_of_advice(plan, rates, epochs, words):
    (line,) = advice(recipe_of({"phase1_epochs": 3, **plan}, {"epochs": epochs}, rates=rates))
    assert all(word in line for word in words), line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("plan", "rates", "epochs"),
    [
        ({}, {}, 15),
        ({"strategy": "head_only", "phase1_epochs": 14}, {"backbone_lr": 1e-6}, 15),
        ({"strategy": "scratch"}, {"schedule": "onecycle", "backbone_lr": 1e-6}, 15),
        ({"strategy": "full"}, {"schedule": "onecycle"}, 15),
        ({**GATE, "gate_threshold": 1.0}, {}, 15),
        ({**GATE, "gate_metric": "fisher_ratio", "gate_threshold": 3}, {}, 15),
        ({**GATE, "gate_metric": "loss", "gate_threshold": 3}, {}, 15),
        ({"strategy": "plateau"}, {}, 15),
    ],
)
def test_no_advice_where_none_is_due(plan, rates, epochs):
    assert advice(recipe_of({"phase1_epochs": 3, **plan}, {"epochs": epochs}, rates=rates)) == []


@pytest.mark.parametrize("text", ["False", "false", "no", "off", "0"])
def test_false_as_a_text_is_false(text):
    assert PlanParams.model_validate({"restore_best": text}).restore_best is False


def test_values_as_yaml_and_the_command_line_give_them():
    assert PlanParams(strategy="partial").ratios == (0.5,)
    assert PlanParams(strategy="gated").ratios == (1.0,)
    assert PlanParams(unfreeze_ratio=0.3).ratios == (0.3,)
    assert RateParams().backbone_peak == 1e-4
    assert RateParams(backbone_lr=3e-5, backbone_lr_factor=0.05).backbone_peak == 3e-5
    listed = [{"epochs": 2}, {"epochs": 3, "unfreeze": ["block_1"]}]
    plan = PlanParams.model_validate(
        {"strategy": "phases", "unfreeze_ratio": "0.5", "phases": listed}
    )
    assert plan.ratios == (0.5,)
    assert plan.phases[1].unfreeze == ("block_1",)
    assert RateParams.model_validate({"head_lr": "1e-4"}).head_lr == 1e-4


@pytest.mark.parametrize(
    ("group", "values", "words"),
    [
        (PlanParams, {"strategy": "discriminative"}, "strategy='discriminative': expected one of"),
        (PlanParams, {"restore_best": "Falsch"}, "restore_best='Falsch'"),
        (PlanParams, {"phase1_epochs": True}, "expected no true or false"),
        (PlanParams, {"phase1_epochs": "False"}, "phase1_epochs='False'"),
        (PlanParams, {"phase1_epochs": 0}, "greater than or equal to 1"),
        (PlanParams, {"unfreeze_ratio": 1.5}, "at most 1"),
        (PlanParams, {"unfreeze_ratio": [0.5, 0.5]}, "shares that grow"),
        (PlanParams, {"unfreeze_ratio": []}, "shares"),
        (PlanParams, {"strategy": "phases"}, "needs phases"),
        (PlanParams, {"phases": [{"epochs": 0}]}, "phases.0.epochs=0"),
        (PlanParams, {"phases": [{"unfreeze": ["a"]}]}, "phases.0.epochs"),
        (PlanParams, {"phase1_epoch": 3}, "did you mean phase1_epochs?"),
        (RateParams, {"schedule": "step"}, "schedule='step'"),
        (RateParams, {"head_lr": 0}, "greater than 0"),
        (RateParams, {"head_lr": float("nan")}, "head_lr"),
        (RateParams, {"backbone_lr": "small"}, "backbone_lr='small'"),
        (RateParams, {"plateau_factor": 1.0}, "less than 1"),
        (RateParams, {"floor": 0.1}, "floor=0.1: this parameter is now called min_lr_ratio"),
    ],
)
def test_a_wrong_value_is_one_line(group, values, words):
    with pytest.raises(UserError) as error:
        group.model_validate(values)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
