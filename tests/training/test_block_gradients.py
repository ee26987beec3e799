"""The gradients of blocks find the one that matters, and move nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from finetuning_runs import tune
from hbn_foundation.training.block_gradients import gradient_scores
from hbn_foundation.training.finetuning_module import FineTuningModule
from hbn_foundation.training.finetuning_params import PlanParams
from hbn_foundation.training.plans import make_plan
from hbn_foundation.training.unfreezing import Block
from runs import same

N_BLOCKS = 4


class Toy(nn.Module):
    """Blocks side by side, of which the target depends on one."""

    def __init__(self, matters: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
            for _ in range(N_BLOCKS)
        )
        self.matters = matters

    def loss(self, batch):
        signals, targets = batch
        outputs = [
            part(signals) * (1.0 if number == self.matters else 1e-3)
            for number, part in enumerate(self.parts)
        ]
        return functional.mse_loss(sum(outputs), targets)

    def blocks(self):
        return [(f"block_{number}", part) for number, part in enumerate(self.parts)]

    def scores(self, batches):
        return gradient_scores(self.blocks(), batches, lambda batch: [self.loss(batch)])


def batches():
    torch.manual_seed(1)
    return [(torch.randn(8, 4), torch.randn(8, 4)) for _ in range(3)]


@pytest.mark.parametrize("matters", range(N_BLOCKS))
def test_the_block_that_matters_is_picked(matters):
    toy = Toy(matters).train()
    toy.requires_grad_(False)
    blocks = [*(Block(name, 20) for name, _ in toy.blocks()), Block("head", 2)]
    plan = make_plan(PlanParams(strategy="gradient_guided", phase1_epochs=1), blocks, 10)
    decision = plan.after_epoch([{"epoch": 1}], plan.start(), lambda: toy.scores(batches()))
    assert decision.unfreeze == (f"block_{matters}",)


def test_scores_are_relative_gradient_norms():
    toy = Toy(0).eval()
    batch = batches()[:1]
    scores = toy.scores(batch)
    toy.loss(batch[0]).backward()
    for name, part in toy.blocks():
        gradient = torch.cat([p.grad.flatten() for p in part.parameters()]).norm()
        weights = torch.cat([p.detach().flatten() for p in part.parameters()]).norm()
        assert scores[name] == pytest.approx(float(gradient / weights), rel=1e-5)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_moves(fails):
    toy = Toy(1).train()
    toy.parts[0].requires_grad_(False).eval()
    toy.parts[1][0].weight.grad = torch.full((4, 4), 7.0)
    weights = {name: value.clone() for name, value in toy.state_dict().items()}
    modes = [module.training for module in toy.modules()]
    required = [parameter.requires_grad for parameter in toy.parameters()]
    given = batches()
    chance = torch.get_rng_state()

    def losses(batch):
        if fails:
            raise RuntimeError("out of memory")
        return [toy.loss(batch) + torch.rand(()) * 0]

    try:
        gradient_scores(toy.blocks(), given, losses)
    except RuntimeError:
        assert fails
    assert torch.equal(torch.get_rng_state(), chance)
    assert same(toy.state_dict(), weights)
    assert [module.training for module in toy.modules()] == modes
    assert [parameter.requires_grad for parameter in toy.parameters()] == required
    assert sum(parameter.grad is not None for parameter in toy.parameters()) == 1
    assert torch.equal(toy.parts[1][0].weight.grad, torch.full((4, 4), 7.0))


def test_a_training_that_scores_gradients_is_one_without(short_run, data, tmp_path, monkeypatch):
    """Scored after each epoch with a share that none reaches: as if only the head were trained."""
    scored = []
    score = FineTuningModule.score_gradients

    def nothing_unfrozen(module, n_batches):
        scored.append(score(module, n_batches))
        return dict.fromkeys(scored[-1], 0.0)

    monkeypatch.setattr(FineTuningModule, "score_gradients", nothing_unfrozen)
    guided = {"strategy": "gradient_guided", "phase1_epochs": 1, "every": 1, "gradient_share": 1.0}
    (probed, history), (plain, expected) = (
        tune(short_run[0], data, tmp_path / plan["strategy"], plan=plan, trainer={"epochs": 3})
        for plan in (guided, {"strategy": "head_only"})
    )
    assert len(scored) == 2
    assert all(value > 0 for scores in scored for value in scores.values())
    assert history["train_loss"].tolist() == expected["train_loss"].tolist()
    assert same(probed.weights, plain.weights)
