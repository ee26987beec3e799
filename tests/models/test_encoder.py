"""The encoder does not care which channels there are, in what order, nor beside which windows."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import BandTokenParams, EncoderParams
from small_models import N_CHANNELS, N_SAMPLES, SFREQ, small_encoder

CLOSE = {"atol": 2e-4, "rtol": 1e-3}


def run(encoder, signals, positions, mask):
    with torch.no_grad():
        return encoder(signals, positions, mask)


def test_shapes(encoder, windows, positions):
    tokens = run(encoder, windows.signals, positions, windows.mask)
    n_tokens = {("band",): 8, ("time",): 5, ("band", "time"): 13}[encoder.config.tokens]
    assert tokens.shape == (8, n_tokens, 32)
    features = encoder.features(windows.signals, positions, windows.mask)
    assert features.shape == (8, encoder.n_features)
    torch.testing.assert_close(encoder.final_norm(features.view(tokens.shape)), tokens)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_channels_does_not_matter(encoder, windows, positions, seed):
    order = torch.randperm(N_CHANNELS, generator=torch.Generator().manual_seed(seed))
    expected = run(encoder, windows.signals, positions, windows.mask)
    found = run(encoder, windows.signals[:, order], positions[order], windows.mask[:, order])
    torch.testing.assert_close(found, expected, **CLOSE)


def test_a_masked_channel_is_the_same_as_an_absent_one(encoder, windows, positions):
    mask = torch.ones_like(windows.mask)
    mask[:, 5] = False
    kept = mask[0]
    found = run(encoder, windows.signals[:, kept], positions[kept], mask[:, kept])
    expected = run(encoder, windows.signals, positions, mask)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_values_of_present_channels_matter_and_of_masked_ones_do_not(encoder, windows, positions):
    changed = torch.where(windows.mask[..., None], windows.signals, torch.tensor(1e4))
    expected = run(encoder, windows.signals, positions, windows.mask)
    torch.testing.assert_close(run(encoder, changed, positions, windows.mask), expected)
    changed = windows.signals.flip(-1).roll(1, 1) * 2
    assert not torch.allclose(run(encoder, changed, positions, windows.mask), expected, atol=0.01)


def test_a_window_does_not_depend_on_its_batch(encoder, windows, positions):
    expected = run(encoder, windows.signals, positions, windows.mask)
    for number in range(8):
        one = slice(number, number + 1)
        found = run(encoder, windows.signals[one], positions, windows.mask[one])
        torch.testing.assert_close(found, expected[one], **CLOSE)


def test_a_window_without_channels_is_finite_and_alone(encoder, windows, positions):
    mask = windows.mask.clone()
    mask[3] = False
    tokens = run(encoder, windows.signals, positions, mask)
    assert tokens.isfinite().all()
    others = [0, 1, 2, 4, 5, 6, 7]
    expected = run(encoder, windows.signals, positions, windows.mask)
    torch.testing.assert_close(tokens[others], expected[others], **CLOSE)
    flat = torch.zeros_like(windows.signals)
    assert run(encoder, flat, positions, windows.mask).isfinite().all()


def test_blocks_hold_every_parameter_once_and_all_learn(encoder, windows, positions):
    encoder.zero_grad()
    # not the sum: behind a layer norm it is constant
    encoder(windows.signals, positions, windows.mask)[..., 0].square().sum().backward()
    names = [name for name, _ in encoder.blocks()]
    assert names == [f"{f}_tokens" for f in encoder.config.tokens] + [
        "block_1",
        "block_2",
        "final_norm",
    ]
    in_blocks = [id(p) for _, block in encoder.blocks() for p in block.parameters()]
    assert sorted(in_blocks) == sorted(id(p) for p in encoder.parameters())
    for name, block in encoder.blocks():
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in block.parameters()), name


def test_the_normalisation_travels_with_the_weights_and_skips_empty_windows(
    windows, positions, encoder
):
    copy = small_encoder(*encoder.config.tokens).eval()
    fresh = run(copy, windows.signals, positions, windows.mask)
    copy.load_state_dict(encoder.state_dict())
    expected = run(encoder, windows.signals, positions, windows.mask)
    assert not torch.allclose(fresh, expected, atol=1e-3)
    torch.testing.assert_close(run(copy, windows.signals, positions, windows.mask), expected)
    more = SimpleNamespace(
        signals=torch.cat([windows.signals, torch.zeros_like(windows.signals)]),
        mask=torch.cat([windows.mask, torch.zeros_like(windows.mask)]),
    )
    copy.fit_normalisation([more], positions)
    for name, buffer in encoder.named_buffers():
        torch.testing.assert_close(dict(copy.named_buffers())[name], buffer, **CLOSE)


@pytest.mark.parametrize(
    ("params", "n_samples", "told"),
    [
        ({"band": BandTokenParams(edges=((60.0, 70.0),))}, N_SAMPLES, "holds no frequency"),
        ({"tokens": ("time",)}, 16, "is 20 samples at 100 Hz"),
    ],
)
def test_what_does_not_fit_into_the_window_is_told(params, n_samples, told):
    with pytest.raises(ValueError, match=told):
        build_encoder(EncoderParams(**params), SFREQ, n_samples)
