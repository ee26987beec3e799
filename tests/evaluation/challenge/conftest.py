"""What is planted, and encoders that have learned something of it, or nothing."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from hbn_foundation.evaluation.challenge.features import Unlearned
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams
from planted_trials import N_SAMPLES, Planted, plant, pretrained_on, tuned_for_times


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def tuned(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, pd.DataFrame]:
    """Checkpoint and history of a model of response times and success."""
    foundation = pretrained_on(planted, tmp_path_factory.mktemp("pretrained"))
    return tuned_for_times(planted, foundation, tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="session")
def random_encoder() -> Unlearned:
    """A small encoder with both families of tokens that has learned nothing."""
    import torch

    torch.manual_seed(0)
    params = EncoderParams(tokens=("band", "time"), hidden_dim=32, n_heads=4, n_layers=1)
    return Unlearned(build_encoder(params, 100.0, N_SAMPLES).eval())
