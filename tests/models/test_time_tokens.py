"""Time tokens say when: from patches and from convolutions; tokens that are added later."""

import pytest
import torch

from hbn_foundation.models.time_tokens import ConvTokens, PatchSpectrum, PatchTokens, cut_patches
from hbn_foundation.training.model_building import (
    build_encoder,
    encoder_params,
    lacking_tokens,
    with_tokens,
)
from hbn_foundation.training.model_params import AddedTokenParams, EncoderParams, TimeTokenParams
from small_models import N_CHANNELS, N_SAMPLES, SFREQ, small_encoder, time_config


def conv_tokens(**more):
    torch.manual_seed(0)
    config = time_config(kind="conv", width=8, kernel=5, depth=1, **more)
    return ConvTokens(config, SFREQ, N_SAMPLES, 32).eval()


def test_patches_follow_each_other_and_their_spectrum_is_that_of_the_fft():
    signals = torch.arange(2 * 3 * 50.0).view(2, 3, 50)
    patches = cut_patches(signals, 20)
    assert patches.shape == (2, 2, 3, 20)  # the last ten samples make no patch
    assert torch.equal(patches[1, 1, 2], signals[1, 2, 20:40])
    patches = torch.randn(5, 20)
    taper = torch.hann_window(22, periodic=False)[1:-1]
    expected = torch.fft.rfft(patches * taper / taper.norm()).abs().square()
    found = PatchSpectrum(20)(patches).exp() - 1e-4
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_an_event_changes_only_the_token_of_its_patch(positions):
    tokens = PatchTokens(time_config(), SFREQ, 200, 16)
    mask = torch.ones(2, N_CHANNELS, dtype=torch.bool)
    signals = torch.randn(1, N_CHANNELS, 200).repeat(2, 1, 1)
    signals[1, :, 125:135] += 3
    first, second = tokens(tokens.features(signals, positions, mask))
    moved = (first - second).abs().amax(1) > 1e-6
    assert moved.nonzero().flatten().tolist() == [6]


@pytest.mark.parametrize(
    ("seconds", "steps", "n_patches", "n_steps"), [(0.2, 4, 5, 4), (0.05, 1, 20, 1), (0.3, 4, 3, 2)]
)
def test_convolutions_give_a_token_per_stretch(
    positions, windows, seconds, steps, n_patches, n_steps
):
    tokens = conv_tokens(patch_seconds=seconds, steps=steps)
    features = tokens.features(windows.signals, positions, windows.mask)
    assert tokens(features).shape == (8, n_patches, 32)
    assert (len(tokens), tokens.steps) == (n_patches, n_steps)
    hidden = torch.where(windows.mask[..., None], windows.signals, torch.tensor(1e3))
    assert torch.equal(features, tokens.features(hidden, positions, windows.mask))


def test_what_comes_a_stretch_later_is_in_the_next_token(positions):
    tokens = conv_tokens()
    signals = torch.zeros(2, N_CHANNELS, N_SAMPLES)
    signals[0, :, 40:50] = signals[1, :, 60:70] = torch.hann_window(10)
    mask = torch.ones(2, N_CHANNELS, dtype=torch.bool)
    with torch.no_grad():
        early, late = tokens(tokens.features(signals, positions, mask)) - tokens.position
    torch.testing.assert_close(early[1:3], late[2:4], atol=1e-4, rtol=1e-4)
    assert (early[2] - late[2]).abs().max() > 1e-2


def test_what_is_left_out_reaches_no_other_token(positions, windows):
    tokens = conv_tokens(patch_seconds=0.3)  # three patches, and ten samples after the last
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


def test_added_tokens_leave_the_encoder_as_it_is(positions, windows):
    encoder = small_encoder("band").eval()
    encoder.fit_normalisation([windows], positions)
    added = AddedTokenParams(tokens=("band", "time"), time=TimeTokenParams(kind="conv", width=8))
    assert lacking_tokens(encoder, added) == ("time",)
    more = with_tokens(encoder, added)
    assert isinstance(more.time, ConvTokens)
    assert encoder_params(more).tokens == ("band", "time")
    assert encoder_params(more).time == added.time
    more.fit_normalisation([windows], positions, ["time"])
    courses = more.time.features(windows.signals, positions, windows.mask)
    torch.testing.assert_close(courses.mean((0, 1)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(courses.std((0, 1), correction=0), torch.ones(8), atol=1e-3, rtol=0)
    with torch.no_grad():
        parts = encoder.inputs(windows.signals, positions, windows.mask)
        assert torch.equal(encoder.embed(parts)["band"], more.embed(parts)["band"])
    for name, value in encoder.state_dict().items():
        assert torch.equal(more.state_dict()[name], value), name
    assert with_tokens(encoder, AddedTokenParams(tokens=("band",))) is encoder


def test_whitening_is_fitted_before_the_courses_are_scaled(positions, windows):
    torch.manual_seed(0)
    time = TimeTokenParams(kind="conv", width=8, n_components=4, n_whitened=6)
    params = EncoderParams(tokens=("time",), time=time, hidden_dim=32, n_heads=4, n_layers=1)
    encoder = build_encoder(params, SFREQ, N_SAMPLES).eval()
    before = encoder.time.components.whitener.clone()
    encoder.fit_normalisation([windows, windows], positions)
    assert not torch.equal(encoder.time.components.whitener, before)
    courses = encoder.time.features(windows.signals, positions, windows.mask).detach()
    torch.testing.assert_close(courses.flatten(0, 1).std(0), torch.ones(4), atol=0.01, rtol=0)
