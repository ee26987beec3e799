"""Slow outputs: read by probes and, where a head asks for them, instead of the tokens."""

import pytest
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.training.model_params import HeadParams
from small_models import make_finetuned, small_encoder


def test_a_window_alone_is_read_by_the_fixed_map_and_the_other_one_begins_linear(
    windows, positions
):
    encoder = small_encoder("band", n_slow=3).eval()
    encoder.slow.weight.normal_()
    parts = encoder.inputs(windows.signals, positions, windows.mask)
    flat = parts["band"].flatten(1)
    torch.testing.assert_close(encoder.summary(parts), flat @ encoder.slow.weight.T)
    relative = encoder.slow_outputs(parts["band"])
    torch.testing.assert_close(relative, encoder.slow.linear(flat))
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
