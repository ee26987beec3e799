"""The losses against formulas written out."""

import math

import pytest
import torch
from torch import nn

from hbn_foundation.training.finetuning_params import RegularisationParams
from hbn_foundation.training.losses import L2SP, TargetLoss
from hbn_foundation.training.model_params import HeadParams
from small_models import make_head


def rules(**values):
    return RegularisationParams(**{"label_smoothing": 0.0, **values})


def by_hand(outputs, targets, weights):
    total = sum(
        -weights[k] * torch.log_softmax(row, 0)[k]
        for row, k in zip(outputs, targets.tolist(), strict=True)
    )
    return total / sum(weights[k] for k in targets.tolist())


@pytest.mark.parametrize("margin", ["none", "cosface", "arcface"])
def test_class_weights_hold_with_any_head(margin):
    torch.manual_seed(0)
    head = make_head(HeadParams(margin=margin, dropout=0.0), 3, 4, 2, True).train()
    nn.init.normal_(next(p for name, p in head.output.named_parameters() if "weight" in name))
    tokens, targets = torch.randn(8, 3, 4), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    outputs = head(tokens, targets, 1.0).detach()
    loss = TargetLoss(rules(), torch.tensor([6.0, 2.0]))(outputs, targets)
    weights = [8 / (2 * 6), 8 / (2 * 2)]
    assert float(loss) == pytest.approx(float(by_hand(outputs, targets, weights)), rel=1e-5)
    plain = TargetLoss(rules(class_weights=False), torch.tensor([6.0, 2.0]))(outputs, targets)
    assert float(plain) == pytest.approx(float(by_hand(outputs, targets, [1, 1])), rel=1e-5)
    assert float(plain) != pytest.approx(float(loss), rel=1e-3)


def test_labels_are_smoothed_in_training_only():
    outputs, targets = torch.tensor([[4.0, -4.0]]), torch.tensor([0])
    loss = TargetLoss(rules(label_smoothing=0.2), torch.tensor([1.0, 1.0]))
    sharp = math.log1p(math.exp(-8.0))
    assert float(loss.train()(outputs, targets)) == pytest.approx(sharp + 0.1 * 8.0, rel=1e-4)
    assert float(loss.eval()(outputs, targets)) == pytest.approx(sharp, rel=1e-4)


def test_losses_of_values():
    outputs, values = torch.tensor([[0.5], [3.0]]), torch.tensor([0.0, 0.0])
    huber = TargetLoss(rules(), None)(outputs, values)
    assert float(huber) == pytest.approx((0.125 + 2.5) / 2)
    square = TargetLoss(rules(regression_loss="mse"), None)(outputs, values)
    assert float(square) == pytest.approx((0.25 + 9.0) / 2)


def test_outputs_elsewhere_than_the_weights():
    """As those of a validation are, which come back from the device of the training."""
    loss = TargetLoss(rules(), torch.tensor([6.0, 2.0])).to("meta")
    outputs = torch.zeros(3, 2, device="meta")
    assert loss(outputs, torch.zeros(3, dtype=torch.int64, device="meta")).device.type == "meta"
    loss.weights = loss.weights.to("meta")
    moved = TargetLoss(rules(), torch.tensor([6.0, 2.0]))
    targets = torch.zeros(3, dtype=torch.int64, device="meta")
    assert moved(outputs, targets).device.type == "meta"


def test_the_anchor_is_where_the_weights_began():
    layer = nn.Linear(3, 2)
    anchor = L2SP(layer.parameters(), 0.4)
    assert not anchor().any()
    with torch.no_grad():
        layer.weight += 1.0
        layer.bias += 2.0
    assert anchor().item() == pytest.approx(0.5 * 0.4 * (6 * 1 + 2 * 4), rel=1e-5)
    layer.bias.requires_grad_(False)  # frozen
    assert anchor().item() == pytest.approx(0.5 * 0.4 * 6, rel=1e-5)
    layer.weight.requires_grad_(False)
    assert anchor() == 0.0
    assert L2SP(layer.parameters(), 0.0)() == 0.0
