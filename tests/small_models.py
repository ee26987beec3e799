"""Small encoders and heads for tests."""

from __future__ import annotations

import torch

from hbn_foundation.models.config import MAIN, BandTokenConfig, InputConfig, TimeTokenConfig
from hbn_foundation.models.heads import Head
from hbn_foundation.training.model_building import (
    HeadOf,
    build_encoder,
    build_finetuned,
    head_config,
)
from hbn_foundation.training.model_params import (
    BandTokenParams,
    EncoderParams,
    HeadParams,
    InputParams,
    TimeTokenParams,
)

N_CHANNELS, N_SAMPLES, SFREQ = 24, 100, 100.0


def small_encoder(*tokens, **more):
    torch.manual_seed(0)
    params = EncoderParams(tokens=tokens, hidden_dim=32, n_heads=4, n_layers=2, **more)
    return build_encoder(params, SFREQ, N_SAMPLES)


def make_head(params, n_tokens, dim, n_outputs, classification, n_time=0):
    return Head(head_config(params, n_outputs, classification), n_tokens, dim, n_time)


def make_finetuned(encoder, params, n_outputs, classification, more=None, **options):
    heads = {MAIN: HeadOf(params, n_outputs, classification), **(more or {})}
    return build_finetuned(encoder, heads, **options)


def band_config(**values):
    return BandTokenConfig(**BandTokenParams(**values).model_dump())


def time_config(**values):
    return TimeTokenConfig(**TimeTokenParams(**values).model_dump())


def input_config(n_channels, reference=None, **values):
    rules = InputParams(unit="volts", **values).model_dump(exclude={"unit"})
    return InputConfig(n_channels, reference, **rules)


def margin_config(n_classes, **values):
    return head_config(HeadParams(**values), n_classes, classification=True)
