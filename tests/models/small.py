"""A small encoder for tests."""

from __future__ import annotations

import torch

from hbn_foundation.models.encoder import Encoder
from hbn_foundation.models.params import EncoderParams

N_CHANNELS, N_SAMPLES, SFREQ = 24, 100, 100.0


def small_encoder(*tokens: str) -> Encoder:
    torch.manual_seed(0)
    params = EncoderParams(tokens=tokens, hidden_dim=32, n_heads=4, n_layers=2)
    return Encoder(params, SFREQ, N_SAMPLES)
