"""Slow outputs: read by probes and, where a head asks for them, instead of the tokens."""

import pytest
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.models.config import SequenceConfig
from hbn_foundation.training.model_params import HeadParams
from small_models import make_finetuned, small_encoder

SEQUENCE = SequenceConfig(
    recentre=True, seconds=6.0, running=False, n_heads=2, n_layers=1, dropout=0.1, share=0.8
)


def test_a_window_alone_is_read_by_the_fixed_map_and_the_other_one_begins_linear(
    windows, positions
):
    encoder = small_encoder("band", n_slow=3).eval()
    encoder.slow.weight.normal_()
    parts = encoder.inputs(windows.signals, positions, windows.mask)
    flat = parts["band"].flatten(1)
    expected, close = flat @ encoder.slow.weight[:3].T, {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(encoder.summary(parts), expected, **close)
    torch.testing.assert_close(encoder.slow_outputs(parts["band"]), expected, **close)
    plain = small_encoder("band").eval()
    torch.testing.assert_close(
        plain.summary(parts), plain.features(windows.signals, positions, windows.mask)
    )
    with pytest.raises(ValueError, match="no slow outputs"):
        plain.slow_outputs(parts["band"])


@pytest.mark.parametrize("pooling", ["slow", "concat"])
def test_blocks_hold_what_the_head_reads(windows, positions, pooling):
    head = HeadParams(pooling=pooling)
    model = make_finetuned(small_encoder("band", n_slow=3), head, 2, classification=True)
    names = [name for name, _ in model.blocks()]
    assert ("slow_outputs" in names) == (pooling == "slow")
    model.set_trainable(names)
    outputs = model(windows.signals, positions, windows.mask)
    outputs.square().sum().backward()
    trained = {name for name, part in model.named_parameters() if part.requires_grad}
    moved = {name for name, part in model.named_parameters() if part.grad is not None}
    assert trained == moved
    assert any(".slow." in name for name in moved) == (pooling == "slow")


def test_a_head_cannot_read_what_is_not_there():
    with pytest.raises(UserError, match=r"head.pooling=slow: the encoder has no slow outputs"):
        make_finetuned(small_encoder("band"), HeadParams(pooling="slow"), 2, classification=True)
    both = small_encoder("band", "time", n_slow=3)
    with pytest.raises(UserError, match=r"tokens.tokens: .* slow outputs of band tokens alone"):
        make_finetuned(both, HeadParams(pooling="slow"), 2, classification=True, added=("time",))


@pytest.mark.parametrize("pooling", ["slow", "concat"])
def test_what_is_constant_in_a_recording_does_not_count_where_the_context_is_known(pooling):
    model = make_finetuned(
        small_encoder("band", n_slow=3), HeadParams(pooling=pooling), 2, classification=True,
        sequence=SEQUENCE,
    ).eval()  # fmt: skip
    tangents = torch.randn(6, 8, 190, generator=torch.Generator().manual_seed(0))
    recording = torch.tensor([0, 0, 0, 1, 1, 1])
    places = torch.stack([recording, recording, torch.arange(6) % 3 * 2, torch.ones(6)], 1).float()
    trait = 5 * torch.randn(2, 8, 190)[recording]
    with torch.inference_mode():
        found, expected = (
            model.tokens({"band": part}, places) for part in (tangents + trait, tangents)
        )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
