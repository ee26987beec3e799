"""Tokens from convolutions: their shape, and that what moves in time moves in the tokens."""

import pytest
import torch

from hbn_foundation.models.time_tokens import ConvTokens
from hbn_foundation.training.model_building import (
    build_encoder,
    encoder_params,
    lacking_tokens,
    with_tokens,
)
from hbn_foundation.training.model_params import AddedTokenParams, EncoderParams, TimeTokenParams
from small_models import N_CHANNELS, N_SAMPLES, SFREQ, time_config

SMALL = {"hidden_dim": 32, "n_heads": 4, "n_layers": 2}


def some_tokens(**more):
    torch.manual_seed(0)
    config = time_config(kind="conv", width=8, kernel=5, depth=1, **more)
    return ConvTokens(config, SFREQ, N_SAMPLES, 32).eval()


@pytest.mark.parametrize(
    ("seconds", "steps", "n_patches", "n_steps"), [(0.2, 4, 5, 4), (0.05, 1, 20, 1), (0.3, 4, 3, 2)]
)
def test_a_token_per_stretch(positions, windows, seconds, steps, n_patches, n_steps):
    tokens = some_tokens(patch_seconds=seconds, steps=steps)
    made = tokens(tokens.features(windows.signals, positions, windows.mask))
    assert made.shape == (8, n_patches, 32)
    assert (len(tokens), tokens.steps) == (n_patches, n_steps)


def test_what_comes_a_stretch_later_is_in_the_next_token(positions):
    tokens = some_tokens()
    signals = torch.zeros(2, N_CHANNELS, N_SAMPLES)
    pulse = torch.hann_window(10)
    signals[0, :, 40:50] = pulse
    signals[1, :, 60:70] = pulse
    mask = torch.ones(2, N_CHANNELS, dtype=torch.bool)
    with torch.no_grad():
        early, late = tokens(tokens.features(signals, positions, mask)) - tokens.position
    torch.testing.assert_close(early[1:3], late[2:4], atol=1e-4, rtol=1e-4)
    assert (early[2] - late[2]).abs().max() > 1e-2


def test_hidden_channels_do_not_matter(positions, windows):
    tokens = some_tokens()
    other = windows.signals.clone()
    other[~windows.mask] = 1e3
    with torch.no_grad():
        assert torch.equal(
            tokens.features(windows.signals, positions, windows.mask),
            tokens.features(other, positions, windows.mask),
        )


def test_added_tokens_leave_the_encoder_as_it_is(positions, windows):
    torch.manual_seed(0)
    encoder = build_encoder(EncoderParams(tokens=("band",), **SMALL), SFREQ, N_SAMPLES).eval()
    encoder.fit_normalisation([windows], positions)
    added = AddedTokenParams(tokens=("band", "time"), time=TimeTokenParams(kind="conv", width=8))
    assert lacking_tokens(encoder, added) == ("time",)
    more = with_tokens(encoder, added)
    assert isinstance(more.time, ConvTokens)
    assert more.config.tokens == ("band", "time")
    assert encoder_params(more).time == added.time
    before = {name: value.clone() for name, value in more.band.state_dict().items()}
    more.fit_normalisation([windows], positions, ["time"])
    assert all(torch.equal(value, before[name]) for name, value in more.band.state_dict().items())
    courses = more.time.features(windows.signals, positions, windows.mask)
    torch.testing.assert_close(courses.mean((0, 1)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(courses.std((0, 1), correction=0), torch.ones(8), atol=1e-3, rtol=0)
    with torch.no_grad():
        parts = encoder.inputs(windows.signals, positions, windows.mask)
        assert torch.equal(encoder.embed(parts)["band"], more.embed(parts)["band"])
    assert with_tokens(encoder, AddedTokenParams(tokens=("band",))) is encoder


def test_what_is_left_out_reaches_no_other_token(positions, windows):
    tokens = some_tokens(patch_seconds=0.3)  # three patches, and ten samples after the last
    features = tokens.features(windows.signals, positions, windows.mask)
    hidden = torch.tensor([[0, 2]] * len(features))
    other = features.clone()
    other[:, :30] = 7.0
    other[:, 60:90] = -7.0
    blank = tokens.without(features, hidden)
    assert torch.equal(blank, tokens.without(other, hidden))
    assert not blank[:, :30].any()
    assert not blank[:, 60:90].any()
    assert torch.equal(blank[:, 30:60], features[:, 30:60])
    with torch.no_grad():
        assert (tokens(features)[:, 1] - tokens(other)[:, 1]).abs().max() > 1e-2


def test_a_kernel_has_a_middle():
    with pytest.raises(ValueError, match="kernel 4 must be odd"):
        TimeTokenParams(kernel=4)


def test_whitening_is_fitted_before_the_courses_are_scaled(positions, windows):
    torch.manual_seed(0)
    time = TimeTokenParams(kind="conv", width=8, n_components=4, n_whitened=6)
    encoder = build_encoder(
        EncoderParams(tokens=("time",), time=time, **SMALL), SFREQ, N_SAMPLES
    ).eval()
    before = encoder.time.components.whitener.clone()
    encoder.fit_normalisation([windows, windows], positions)
    assert not torch.equal(encoder.time.components.whitener, before)
    courses = encoder.time.features(windows.signals, positions, windows.mask).detach()
    usable = windows.mask.any(-1)
    torch.testing.assert_close(
        courses[usable].flatten(0, 1).std(0), torch.ones(4), atol=0.01, rtol=0
    )
    with pytest.raises(ValueError, match="n_whitened 20 exceeds the 16 Fourier features"):
        TimeTokenParams(n_whitened=20, n_frequencies=8)
