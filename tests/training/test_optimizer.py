"""Parameter groups divide the parameters; the learning rate is a function of the step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.models.parameter_groups import parameter_groups
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.objectives.make import make_objective
from hbn_foundation.training.optim import make_optimizer
from hbn_foundation.training.params import ObjectiveParams
from hbn_foundation.training.rates import warmup_cosine


@pytest.fixture(scope="module")
def blocks():
    encoder = build_encoder(
        EncoderParams(tokens=("band", "time"), hidden_dim=32, n_heads=4, n_layers=2), 100, 200
    )
    objective = make_objective(ObjectiveParams(name="masked"), encoder)
    return [*encoder.blocks(), ("objective", objective)]


def test_groups_divide_the_parameters(blocks):
    groups = parameter_groups(blocks, 1e-3, 0.05)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    expected = {id(p) for _, block in blocks for p in block.parameters()}
    assert len(found) == len(set(found)) == len(expected)
    assert set(found) == expected
    names = [group["name"] for group in groups]
    assert len(set(names)) == len(names)
    assert {"band_tokens/decay", "block_1/no_decay", "final_norm/no_decay"} <= set(names)


def test_only_weight_matrices_decay(blocks):
    decayed = {
        id(parameter)
        for group in parameter_groups(blocks, 1e-3, 0.05)
        if group["weight_decay"]
        for parameter in group["params"]
    }
    for _, block in blocks:
        for name, parameter in block.named_parameters():
            plain = parameter.ndim < 2 or "position" in name
            assert (id(parameter) in decayed) != plain, name


def test_a_parameter_in_two_blocks_is_refused(blocks):
    with pytest.raises(ValueError, match="already in block"):
        parameter_groups([*blocks, ("again", blocks[0][1])], 1e-3, 0.05)


def test_the_optimizer_keeps_names(blocks):
    groups = parameter_groups(blocks, 1e-3, 0.05)
    optimizer = make_optimizer(groups, (0.9, 0.98))
    assert [group["name"] for group in optimizer.param_groups] == [g["name"] for g in groups]


@given(
    total=st.integers(1, 500),
    warmup=st.integers(0, 100),
    floor=st.floats(0, 1),
)
def test_the_rate_rises_then_falls_to_the_floor(total, warmup, floor):
    rates = [warmup_cosine(step, total, warmup, floor) for step in range(total + 1)]
    assert all(0 <= rate <= 1 + 1e-9 for rate in rates)
    peak = rates.index(max(rates))
    assert peak <= min(warmup, total // 3)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(floor)


def test_the_cosine_is_torchs():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 80, eta_min=0.01)
    for step in range(80):
        assert warmup_cosine(step, 80, 0, 0.01) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
