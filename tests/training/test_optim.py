"""Parameter groups divide the parameters; only weight matrices decay."""

import pytest

from hbn_foundation.models.parameter_groups import parameter_groups
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.objectives.make import make_objective
from hbn_foundation.training.optim import make_optimizer
from hbn_foundation.training.params import ObjectiveParams


def test_groups_divide_the_parameters_by_block_and_decay():
    params = EncoderParams(tokens=("band", "time"), hidden_dim=32, n_heads=4, n_layers=2)
    encoder = build_encoder(params, 100, 200)
    objective = make_objective(ObjectiveParams(name="masked"), encoder)
    blocks = [*encoder.blocks(), ("objective", objective)]
    groups = make_optimizer(parameter_groups(blocks, 1e-3, 0.05), (0.9, 0.98)).param_groups
    decay_of = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(decay_of) == sum(len(group["params"]) for group in groups)
    named = [pair for _, block in blocks for pair in block.named_parameters()]
    assert decay_of.keys() == {id(parameter) for _, parameter in named}
    for name, parameter in named:
        plain = parameter.ndim < 2 or "position" in name
        assert (decay_of[id(parameter)] > 0) != plain, name
    names = [group["name"] for group in groups]
    assert len(set(names)) == len(names)
    assert {"band_tokens/decay", "block_1/no_decay", "final_norm/no_decay"} <= set(names)
    with pytest.raises(ValueError, match="already in block"):
        parameter_groups([*blocks, ("again", blocks[0][1])], 1e-3, 0.05)
