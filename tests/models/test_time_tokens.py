"""Time tokens say when."""

import torch

from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.models.time_tokens import PatchSpectrum, PatchTokens, cut_patches
from small_models import time_config

POSITIONS = torch.tensor(list(DIRECTIONS_10_20.values()))


def test_the_spectrum_is_that_of_the_fft():
    patches = torch.randn(5, 20)
    taper = torch.hann_window(22, periodic=False)[1:-1]
    expected = torch.fft.rfft(patches * taper / taper.norm()).abs().square()
    found = PatchSpectrum(20)(patches).exp() - 1e-4
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_patches_follow_each_other():
    signals = torch.arange(2 * 3 * 50.0).view(2, 3, 50)
    patches = cut_patches(signals, 20)
    assert patches.shape == (2, 2, 3, 20)  # the last ten samples make no patch
    assert torch.equal(patches[1, 1, 2], signals[1, 2, 20:40])


def test_an_event_changes_only_its_patch():
    tokens = PatchTokens(time_config(), 100.0, 200, 16)
    mask = torch.ones(1, 19, dtype=torch.bool)
    signals = torch.randn(1, 19, 200)
    later = signals.clone()
    later[:, :, 125:135] += 3
    changed = tokens(tokens.features(signals, POSITIONS, mask)) - tokens(
        tokens.features(later, POSITIONS, mask)
    )
    moved = changed[0].abs().amax(1) > 1e-6
    assert moved.nonzero().flatten().tolist() == [6]
