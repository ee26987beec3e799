"""A module of another package as an encoder: what it sees, its blocks, its weights, what fails."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from safetensors.torch import save_file

from hbn_foundation.errors import UserError
from hbn_foundation.models.config import MAIN
from hbn_foundation.models.parameter_groups import parameter_groups
from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.training.external import load_published
from hbn_foundation.training.model_building import (
    HeadOf,
    build_encoder,
    build_finetuned,
    encoder_params,
    with_tokens,
)
from hbn_foundation.training.model_params import AddedTokenParams, EncoderParams, HeadParams
from hbn_foundation.training.pretrain import make_pretext
from hbn_foundation.training.recipes import PretrainingRecipe
from small_external import SmallBrain

NAMES = list(DIRECTIONS_10_20)
POSITIONS = torch.nn.functional.normalize(torch.tensor(list(DIRECTIONS_10_20.values())), dim=1)
SMALL = {"head": "head", "layers": "encoder.layers"}


def params(**values):
    given = {"kind": "external", "target": "small_external:SmallBrain", "adapter": SMALL}
    return EncoderParams.model_validate({**given, **values})


def small(**values):
    torch.manual_seed(0)
    return build_encoder(params(**values), 100.0, 200).eval()


def signals(count=3, channels=19, samples=200):
    return torch.randn(count, channels, samples, generator=torch.Generator().manual_seed(1))


def all_present(windows):
    return torch.ones(windows.shape[:2], dtype=torch.bool)


def test_tokens_are_what_the_module_makes_of_the_windows():
    encoder, windows = small(), signals()
    torch.manual_seed(0)
    plain = SmallBrain(n_outputs=2, chs_info=[{"ch_name": n} for n in NAMES], n_times=200).eval()
    expected = plain(windows, return_features=True)["features"].flatten(1, 2)
    found = encoder(windows, POSITIONS, all_present(windows))
    torch.testing.assert_close(found, expected)
    assert (encoder.n_tokens, encoder.config.hidden_dim) == (19 * 4, 16) == tuple(found.shape[1:])
    assert encoder.n_features == found[0].numel()
    parts = encoder.inputs(windows, POSITIONS, all_present(windows))
    torch.testing.assert_close(encoder.summary(parts), expected.flatten(1))


def test_channels_come_by_place_whatever_their_order_and_a_bad_one_from_its_neighbour():
    adapter = {**SMALL, "channels": ["O2", "T3", "Cz"], "scale": 0.5}
    encoder, windows = small(adapter=adapter), signals()
    order = torch.randperm(19, generator=torch.Generator().manual_seed(2))
    shuffled = encoder.inputs(windows[:, order], POSITIONS[order], all_present(windows))
    own = [NAMES.index(name) for name in ("O2", "T7", "Cz")]
    torch.testing.assert_close(shuffled["external"], 0.5 * windows[:, own])
    mask = all_present(windows)
    mask[:, own[0]] = False
    found = encoder.inputs(windows, POSITIONS, mask)["external"]
    torch.testing.assert_close(found[:, 0], 0.5 * windows[:, NAMES.index("O1")], atol=1e-2, rtol=0)


def test_blocks_go_from_input_to_output_and_hold_each_used_parameter_once():
    encoder = small()
    blocks = encoder.blocks()
    assert [name for name, _ in blocks] == ["input_layers", "block_1", "block_2", "output_layers"]
    held = [id(p) for _, block in blocks for p in block.parameters()]
    used = {n: p for n, p in encoder.named_parameters() if p.requires_grad}
    assert sorted(held) == sorted(map(id, used.values()))
    assert {n.split(".")[1] for n, p in encoder.named_parameters() if not p.requires_grad} == {
        "decoder"
    }
    assert parameter_groups(blocks, 0.1)
    assert {id(p) for p in dict(blocks)["output_layers"].parameters()} == {
        id(p) for p in encoder.module.proj_out.parameters()
    }
    # found without being told, too
    again = small(adapter={"head": "head"})
    assert [name for name, _ in again.blocks()] == [name for name, _ in blocks]


def test_a_module_without_a_list_has_its_children_as_blocks():
    arguments = {"ch_names": "channels", "pos": "positions"}
    adapter = {"feature_axis": 1, "arguments": arguments}
    encoder = small(target="small_external:Convolutions", adapter=adapter)
    assert [name for name, _ in encoder.blocks()] == ["block_1", "block_2"]
    windows = signals()
    found = encoder(windows, POSITIONS, all_present(windows))
    assert found.shape == (3, encoder.n_tokens, 6)
    assert encoder.n_tokens == 16


def test_frozen_blocks_do_not_move_in_training_their_batch_norm_included():
    encoder = small()
    torch.manual_seed(3)
    head = HeadOf(HeadParams(pooling="mean"), 2, True)
    model = build_finetuned(encoder, {MAIN: head}).train()
    assert [name for name, _ in model.blocks()][-1] == "head"
    model.set_trainable(["block_2", "output_layers", "head"])
    before = copy.deepcopy(encoder.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    windows = signals()
    model.features(windows, POSITIONS, all_present(windows)).square().sum().backward()
    optimizer.step()
    moved = {n for n, value in encoder.state_dict().items() if not torch.equal(value, before[n])}
    assert {"module.proj_out.weight", "module.encoder.layers.1.linear1.weight"} <= moved
    assert not [name for name in moved if "embed" in name or "layers.0" in name]
    assert not encoder.module.embed[1].training
    assert encoder.module.encoder.layers[1].dropout.training
    model.unfreeze_backbone()
    assert encoder.module.embed[1].training
    assert copy.deepcopy(model).trainable() == model.trainable()


def test_published_weights_are_loaded_without_their_head(tmp_path):
    donor = SmallBrain(n_outputs=5, chs_info=[{"ch_name": n} for n in NAMES], n_times=200)
    weights = donor.state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "w.pth")
    for file in ("w.safetensors", "w.pth"):
        recipe = PretrainingRecipe(
            encoder=params(weights=str(tmp_path / file)), objective={"name": "none"}
        )
        encoder, _ = make_pretext(recipe, 100.0, 200)
        for name, value in encoder.module.state_dict().items():
            assert torch.equal(value, weights[name])
    by_content = recipe.identity()["encoder"]["weights"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "w.pth").rename(tmp_path / "elsewhere" / "x.pth")
    moved = params(weights=str(tmp_path / "elsewhere" / "x.pth"))
    assert by_content == moved.by_content()["weights"]


def test_an_adapter_is_stored_with_all_its_values_and_ours_as_it_was():
    named = params(adapter={"name": "CBraMod", "channels": ["Cz"]}).adapter
    assert (named.name, named.sfreq, named.unit, named.channels) == ("cbramod", 200, "uV", ("Cz",))
    encoder = small()
    assert EncoderParams(**encoder_params(encoder).model_dump(mode="json")) == params()
    own = PretrainingRecipe().identity()["encoder"]
    assert not {"kind", "target", "kwargs", "weights", "adapter"} & set(own)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: small(target="no_such_package:Thing"), "cannot be imported (No module named"),
        (lambda: small(target="small_external:Nothing"), "cannot be imported (module"),
        (lambda: small(target="small_external"), "expected package.module:Class"),
        (lambda: small(kwargs={"heads": 2}), "unexpected keyword argument 'heads'"),
        (lambda: small(target="small_external:OneNumber", adapter=None), "it returned [1] for"),
        (lambda: small(target="small_external:Counts", adapter=None), "it returned torch.int64"),
        (lambda: small(adapter={"head": "tail"}), "has no head 'tail'"),
        (lambda: small(adapter={**SMALL, "layers": "proj_out"}), "layers='proj_out': no list"),
        (lambda: small(adapter={**SMALL, "channels": ["Cz", "ECG"]}), "'ECG' has no known"),
        (lambda: small(adapter="cbramod"), "ingestion.cleaning.sfreq=200 (with l_freq=0.3"),
        (lambda: small(adapter={"patch_seconds": 1.5}), "whole patches of 1.5 s, found 2 s"),
        (lambda: small(adapter={"needs": "nowhere.json"}), "which it would fetch; put it there"),
        (lambda: with_tokens(small(), AddedTokenParams(tokens=("time",))), "tokens of its own"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(made, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        made()
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_and_unknown_adapters_are_named(tmp_path):
    torch.save({"embed.0.weight": torch.zeros(3, 3)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"position is absent in the file and .19, 1, 16. in the"):
        load_published(small(), params(weights=str(tmp_path / "w.pt")))
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"bad.pt: no safetensors and no file of tensors"):
        load_published(small(), params(weights=str(tmp_path / "bad.pt")))
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    with pytest.raises(UserError, match=r"list.pt: holds a list, expected tensors by name"):
        load_published(small(), params(weights=str(tmp_path / "list.pt")))
    with pytest.raises(
        UserError, match=r"adapter='cbrmod': no such adapter; known: plain, cbramod"
    ):
        params(adapter="cbrmod")
    with pytest.raises(UserError, match=r"target .* goes with kind: external"):
        EncoderParams.model_validate({"kind": "external"})
    for own in ({"adapter": "cbramod"}, {"weights": "w.pt"}, {"kwargs": {"heads": 2}}):
        with pytest.raises(UserError, match=r"adapter go with kind: external"):
            EncoderParams.model_validate(own)
    recipe = PretrainingRecipe(encoder=params())
    with pytest.raises(UserError, match=r"objective.name=band_completion: .*expected one of none"):
        make_pretext(recipe, 100.0, 200)
