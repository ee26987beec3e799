"""Hidden blocks are blocks, of the size asked for; noise is white."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.training.augmentation import hide_channels, random_gain, white_noise

POSITIONS = torch.tensor(list(DIRECTIONS_10_20.values()))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    missing=st.floats(0, 1),
    shares=st.tuples(st.floats(0, 0.99), st.floats(0.01, 0.99)).map(sorted),
)
def test_hidden_channels_were_present_and_some_stay(seed, missing, shares):
    torch.manual_seed(seed)
    mask = torch.rand(40, 19) >= missing
    seen = hide_channels(mask, POSITIONS, 0.8, *shares)
    assert not (seen & ~mask).any()
    assert torch.equal(seen.any(1), mask.any(1))


def test_the_shares_are_kept():
    torch.manual_seed(0)
    mask = torch.ones(4000, 19, dtype=torch.bool)
    hidden = ~hide_channels(mask, POSITIONS, 0.8, 0.1, 0.6)
    share = hidden.float().mean(1)
    assert (share > 0).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert share[share > 0].min() >= 1 / 19
    assert share.max() <= 0.6 + 0.5 / 19
    assert share[share > 0].mean().item() == pytest.approx(0.35, abs=0.02)


def test_the_hidden_channels_lie_together():
    torch.manual_seed(0)
    mask = torch.ones(2000, 19, dtype=torch.bool)
    hidden = ~hide_channels(mask, POSITIONS, 1.0, 0.3, 0.3)
    cosines = POSITIONS @ POSITIONS.T
    together = torch.stack([cosines[row][:, row].mean() for row in hidden]).mean()
    assert together > cosines.mean() + 0.2


def test_noise_is_white_and_differs_between_windows():
    torch.manual_seed(0)
    noise = white_noise(torch.zeros(20, 19, 200), 0.5)
    assert noise.std().item() == pytest.approx(0.5, abs=0.01)
    flat = noise.flatten(1)
    correlation = torch.corrcoef(flat) - torch.eye(20)
    assert correlation.abs().max() < 0.1
    lagged = (noise[..., 1:] * noise[..., :-1]).mean() / 0.25
    assert lagged.abs() < 0.02


def test_gain_scales_whole_windows():
    torch.manual_seed(0)
    gains, logs = random_gain(torch.ones(5000, 2, 3), 0.15)
    assert (gains == gains[:, :1, :1]).all()
    torch.testing.assert_close(gains[:, 0, 0].log(), logs)
    assert logs.std().item() == pytest.approx(0.15, abs=0.01)
    still, logs = random_gain(torch.ones(2, 2, 2), 0)
    assert torch.equal(still, torch.ones(2, 2, 2))
    assert not logs.any()


@pytest.mark.parametrize("change", [lambda *given: random_gain(*given)[0], white_noise])
def test_a_share_of_the_windows_is_changed(change):
    torch.manual_seed(0)
    ones = torch.ones(4000, 2, 16)
    changed = (change(ones, 0.3, 0.25) != ones).any(2).any(1)
    assert changed.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(change(ones, 0.3, 0.0), ones)
