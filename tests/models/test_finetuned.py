"""Freezing: what is frozen stands still to the bit, and nothing is kept for its gradient."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from hbn_foundation.models.config import SequenceConfig
from hbn_foundation.models.finetuned import FineTuned
from hbn_foundation.training.model_params import HeadParams
from small_models import make_finetuned, small_encoder

SEQUENCE = SequenceConfig(
    recentre=True, seconds=6.0, running=False, n_heads=2, n_layers=1, dropout=0.1, share=0.8
)
NAMES = ["band_tokens", "time_tokens", "block_1", "block_2", "head"]


class ToyBlock(nn.Module):
    """A block with everything that moves by itself: batch statistics, dropout, a parameter."""

    def __init__(self, dim):
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)
        self.linear = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(0.5)

    def forward(self, tokens):
        normed = self.norm(tokens.flatten(0, 1)).view(tokens.shape)
        return tokens + self.dropout(self.linear(normed))


def some_model(toy=False, n_outputs=2, sequence=None, **head) -> FineTuned:
    encoder = small_encoder("band", "time")
    if toy:
        encoder.trunk[0] = ToyBlock(32)
    return make_finetuned(
        encoder, HeadParams(**head), n_outputs, classification=True, sequence=sequence
    )


@pytest.fixture
def run(windows, positions):
    def run(model, **more):
        return model(windows.signals, positions, windows.mask, **more)

    return run


def train(model, run, steps=3, optimizer=None):
    labels = torch.arange(8) % 2
    optimizer = optimizer or torch.optim.AdamW(model.get_param_groups(), weight_decay=0.5)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(run(model), labels).backward()
        optimizer.step()
    return optimizer


def state(model, names):
    blocks = dict(model.blocks())
    return {n: {k: v.clone() for k, v in blocks[n].state_dict().items()} for n in names}


def same(first, second):
    return all(torch.equal(first[k], second[k]) for k in first) and first.keys() == second.keys()


def test_blocks_hold_every_parameter_once_but_an_unused_norm():
    model = some_model()
    assert [name for name, _ in model.blocks()] == NAMES
    held = [id(p) for _, block in model.blocks() for p in block.parameters()]
    norm = {id(p) for p in model.encoder.final_norm.parameters()}
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters()} - norm
    assert all(p.requires_grad for p in model.parameters())  # what wraps the model meets all
    model.unfreeze_backbone()
    assert not any(p.requires_grad for p in model.encoder.final_norm.parameters())
    assert sum(model.sizes().values()) == sum(p.numel() for p in model.parameters()) - 64
    assert model.sizes()["head"] == 13 * 32 * 2 + 2


def test_the_final_norm_is_a_block_where_it_is_used(run, windows, positions):
    plain, normed = some_model(), some_model(final_norm=True)
    assert [name for name, _ in normed.blocks()] == [*NAMES[:-1], "final_norm", "head"]
    assert normed.trainable()[-2:] == ("final_norm", "head")
    parts = normed.eval().encoder.inputs(windows.signals, positions, windows.mask)
    expected = normed.encoder(windows.signals, positions, windows.mask)
    assert torch.equal(normed.tokens(parts), expected)
    expected = plain.eval().encoder.features(windows.signals, positions, windows.mask)
    assert torch.equal(plain.tokens(parts).flatten(1), expected)


@pytest.mark.parametrize(
    "trainable", [["head"], ["block_2", "head"], ["time_tokens", "head"], [], NAMES]
)
def test_frozen_blocks_stay_to_the_bit(run, trainable):
    """With batch norm, dropout, weight decay and the momentum of earlier steps."""
    model = some_model(toy=True)
    optimizer = train(model, run)  # everything moves, and AdamW gathers momentum
    model.train()
    functional.cross_entropy(run(model), torch.arange(8) % 2).backward()  # a gradient left over
    model.set_trainable(trainable)
    frozen = [name for name in NAMES if name not in trainable]
    before = state(model, NAMES)
    if trainable:
        train(model, run, optimizer=optimizer)
    else:
        optimizer.step()
        run(model)
    after = state(model, NAMES)
    for name in frozen:
        assert same(before[name], after[name]), name
    for name in trainable:
        assert not same(before[name], after[name]), name


def test_frozen_blocks_stay_in_evaluation_mode(run):
    model = some_model(toy=True, dropout=0.0).train()
    toy, other = model.encoder.trunk
    model.freeze_backbone()
    assert torch.equal(run(model), run(model))  # there is no chance in a frozen model
    for mode in (True, False):
        model.train(mode)
        assert not any(part.training for part in toy.modules())
        assert model.head.training is mode
    model.unfreeze_backbone()
    assert not toy.training  # unfrozen, but the model is in evaluation
    model.train()
    assert toy.norm.training
    model.set_trainable(["block_1", "head"])
    assert toy.norm.training
    assert not other.training


@pytest.mark.parametrize("first", range(5))
def test_nothing_is_kept_for_the_gradient_of_a_frozen_prefix(run, first):
    model = some_model().train()
    model.set_trainable(NAMES[first:])
    needs_gradient = {}
    for name, block in model.blocks()[:-1]:
        block.register_forward_hook(
            lambda _, __, output, name=name: needs_gradient.update({name: output.requires_grad})
        )
    needs_gradient["head"] = run(model).requires_grad
    expected = {name: number >= first for number, name in enumerate(NAMES)}
    expected["band_tokens"] = first == 0  # the two families stand side by side
    assert needs_gradient == expected


def test_gradient_passes_through_a_frozen_block(run):
    model = some_model()
    nn.init.normal_(model.head.output.linear.weight)
    model.set_trainable(["block_1", "head"])
    run(model).logsumexp(1).sum().backward()
    assert model.encoder.trunk[0].attention.out.weight.grad.any()
    assert all(p.grad is None for p in model.encoder.trunk[1].parameters())
    assert all(p.grad is None for p in model.encoder.tokenisers.parameters())


@settings(max_examples=20)
@given(st.lists(st.sets(st.sampled_from(NAMES)), max_size=4))
def test_any_sequence_of_freezing_ends_as_its_last(choices):
    model = some_model(toy=True)
    for names in choices:
        model.set_trainable(names)
    last = choices[-1] if choices else set(NAMES)
    for one in (model, copy.deepcopy(model).train()):
        assert one.trainable() == tuple(name for name in NAMES if name in last)
        for name, block in one.blocks():
            assert all(p.requires_grad == (name in last) for p in block.parameters())
            assert all(module.training == (name in last) for module in block.modules())


def test_an_unknown_block_changes_nothing():
    model = some_model()
    model.freeze_backbone()
    with pytest.raises(ValueError, match="no block 'blokc_1'; known: band_tokens"):
        model.set_trainable(["blokc_1"])
    assert model.trainable() == ("head",)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("sequence", [None, SEQUENCE])
def test_groups_partition_the_parameters_and_decay_matrices_only(frozen, sequence):
    model = some_model(sequence=sequence, kind="mlp", pooling="attention", final_norm=True)
    new = ("head",) if sequence is None else ("sequence_encoder", "head")
    if frozen:
        model.set_progressive_unfreezing_mode(1)
        assert model.trainable() == new
    groups = model.get_param_groups(head_lr=2e-3)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert len({group["name"] for group in groups}) == len(groups)
    for group in groups:
        assert group["lr"] == (2e-3 if group["block"] in new else pytest.approx(2e-4))
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {
        names[id(p)]
        for group in torch.optim.AdamW(groups, weight_decay=0.05).param_groups
        for p in group["params"]
        if group["weight_decay"] == 0.05
    }
    assert {"encoder.trunk.0.attention.out.weight", "head.output.linear.weight"} < decayed
    plain = ("bias", "position", "norm.weight", "scale")
    assert not [name for name in decayed if name.endswith(plain)]


def test_labels_reach_the_margin(run):
    model = some_model(margin="cosface", dropout=0.0).train()
    model.freeze_backbone()
    labels = torch.zeros(8, dtype=torch.int64)
    lowered = run(model) - run(model, labels=labels, margin_share=0.5)
    torch.testing.assert_close(lowered, torch.tensor([[1.6, 0.0]]).expand(8, 2))
    model.eval()
    assert torch.equal(run(model, labels=labels), run(model))
