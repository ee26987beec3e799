"""Encoders and windows that the tests of the models share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from small_models import N_CHANNELS, N_SAMPLES, small_encoder


@pytest.fixture(scope="session")
def positions():
    directions = torch.randn(N_CHANNELS, 3, generator=torch.Generator().manual_seed(1))
    directions[:, 2] = directions[:, 2].abs()
    return torch.nn.functional.normalize(directions, dim=1)


@pytest.fixture(scope="session")
def windows():
    """Eight windows with a different channel missing in each."""
    random = torch.Generator().manual_seed(2)
    signals = torch.randn(8, N_CHANNELS, N_SAMPLES, generator=random)
    mask = torch.ones(8, N_CHANNELS, dtype=torch.bool)
    mask[torch.arange(8), torch.arange(8)] = False
    return SimpleNamespace(signals=signals, mask=mask)


@pytest.fixture(scope="session", params=[("band",), ("time",), ("band", "time")], ids="+".join)
def encoder(request, windows, positions):
    """A fitted encoder in evaluation mode, once for each choice of tokens."""
    encoder = small_encoder(*request.param).eval()
    encoder.fit_normalisation([windows], positions)
    return encoder
