"""Advice is given where it is due, with a recommendation, and nowhere else."""

import pytest

from hbn_foundation.training.finetuning_params import PhaseParams, PlanParams, RateParams
from hbn_foundation.training.preview import advice


def test_the_defaults_need_none():
    assert advice(PlanParams(), RateParams(), 15) == []
    assert advice(PlanParams(strategy="full"), RateParams(head_lr=2e-3, backbone_lr=7e-4), 25) == []


@pytest.mark.parametrize(
    ("plan", "rates", "epochs", "words"),
    [
        ({}, {"schedule": "onecycle"}, 15, ("onecycle", "cosine", "reduce_on_plateau")),
        ({}, {"backbone_lr": 1e-5}, 15, ("backbone_lr=1e-05", "100 times", "consider 0.0001")),
        ({}, {"backbone_lr": 2e-3}, 15, ("2 times above",)),
        ({}, {"backbone_lr_factor": 0.6}, 15, ("1.67 times below", "consider 0.1")),
        ({}, {"backbone_lr_factor": 0.05}, 15, ("20 times below", "consider 0.1")),
        ({"strategy": "full"}, {"backbone_lr": 1e-5}, 15, ("100 times",)),
        ({"phase1_epochs": 6}, {}, 15, ("phase1_epochs=6", "40%", "consider 3")),
        ({"phase1_epochs": 3}, {}, 30, ("10%", "consider 6")),
        (
            {"unfreeze_backbone_epoch": 9, "strategy": "gated"},
            {},
            15,
            ("unfreeze_backbone_epoch=9",),
        ),
        (
            {"strategy": "phases", "phases": (PhaseParams(epochs=9), PhaseParams(epochs=6))},
            {},
            15,
            ("phases.0.epochs=9",),
        ),
        ({"strategy": "gated", "phase1_epochs": 15}, {}, 15, ("never judged", "consider 3")),
        ({"strategy": "gated", "gate_threshold": 1.01}, {}, 15, ("never above 1",)),
        ({"strategy": "gated", "gate_threshold": 80}, {}, 15, ("gate_threshold=80",)),
        (
            {"strategy": "gated", "gate_metric": "loss", "gate_threshold": -0.1},
            {},
            15,
            ("loss is never below 0", "expected above 0"),
        ),
        (
            {"strategy": "gated", "unfreeze_ratio": (0.2, 0.4, 1.0), "stage_epochs": 6},
            {},
            15,
            ("after 15 epochs",),
        ),
    ],
)
def test_one_line_of_advice(plan, rates, epochs, words):
    lines = advice(PlanParams(**plan), RateParams(**rates), epochs)
    assert len(lines) == 1, lines
    assert all(word in lines[0] for word in words), lines
    assert "\n" not in lines[0]


@pytest.mark.parametrize(
    ("plan", "rates"),
    [
        ({"strategy": "head_only", "phase1_epochs": 14}, {"backbone_lr": 1e-6}),
        ({"strategy": "scratch"}, {"schedule": "onecycle", "backbone_lr": 1e-6}),
        ({"strategy": "full"}, {"schedule": "onecycle"}),
        ({}, {"backbone_lr": 2e-4}),
        ({"strategy": "gated", "gate_threshold": 1.0}, {}),
        ({"strategy": "gated", "gate_metric": "fisher_ratio", "gate_threshold": 3}, {}),
        ({"strategy": "gated", "gate_metric": "loss", "gate_threshold": 3}, {}),
        ({"strategy": "plateau"}, {}),
    ],
)
def test_no_advice_where_none_is_due(plan, rates):
    assert advice(PlanParams(**plan), RateParams(**rates), 15, patience=5) == []


@pytest.mark.parametrize("epochs", [2, 3, 5, 7, 10])
def test_in_short_runs_the_recommended_length_is_not_complained_about(epochs):
    assert advice(PlanParams(phase1_epochs=max(1, round(epochs / 5))), RateParams(), epochs) == []


def test_a_plateau_that_comes_after_the_end():
    plan = PlanParams(strategy="plateau", plateau_patience=5)
    (line,) = advice(plan, RateParams(), 15, patience=5)
    assert "consider 3" in line
