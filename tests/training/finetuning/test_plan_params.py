"""Wrong values of a plan or of rates end in one line; the defaults are those of the documents."""

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.training.finetuning_params import PlanParams, RateParams


def test_defaults():
    plan, rates = PlanParams(), RateParams()
    assert (plan.strategy, plan.switch_epoch, plan.restore_best) == ("two_phase", 3, True)
    assert (rates.head_lr, rates.backbone_peak) == (1e-3, 1e-4)
    assert RateParams(backbone_lr_factor=0.05).backbone_peak == pytest.approx(5e-5)
    assert RateParams(backbone_lr=3e-5, backbone_lr_factor=0.05).backbone_peak == 3e-5
    assert PlanParams(strategy="partial").ratios == (0.5,)
    assert PlanParams(strategy="gated").ratios == (1.0,)
    assert PlanParams(unfreeze_ratio=0.3).ratios == (0.3,)


@pytest.mark.parametrize("text", ["False", "false", "no", "off", "0"])
def test_false_as_a_text_is_false(text):
    assert PlanParams.model_validate({"restore_best": text}).restore_best is False


@pytest.mark.parametrize(
    ("group", "values", "words"),
    [
        (PlanParams, {"strategy": "discriminative"}, "strategy='discriminative': Input should be"),
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
    ],
)
def test_a_wrong_value_is_one_line(group, values, words):
    with pytest.raises(UserError) as error:
        group.model_validate(values)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_values_as_yaml_and_the_command_line_give_them():
    plan = PlanParams.model_validate(
        {
            "strategy": "phases",
            "unfreeze_ratio": "0.5",
            "phases": [{"epochs": 2}, {"epochs": 3, "unfreeze": ["block_1"]}],
        }
    )
    assert plan.ratios == (0.5,)
    assert plan.phases[1].unfreeze == ("block_1",)
    assert RateParams.model_validate({"head_lr": "1e-4"}).head_lr == 1e-4
    assert RateParams.model_validate({"backbone_lr": None}).backbone_lr is None
