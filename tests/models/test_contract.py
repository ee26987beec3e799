"""This project's encoder in the form of braindecode's models."""

import json

import pytest
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.models.contract import EEGModel
from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.contract import braindecode_model
from hbn_foundation.training.model_building import encoder_params
from small_models import N_SAMPLES, SFREQ, small_encoder


def test_it_has_the_weights_and_is_made_again_from_its_configuration():
    encoder = small_encoder("band", "time").eval()
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    metadata = {
        "parameters": {"encoder": encoder_params(encoder).model_dump(mode="json")},
        "sfreq": SFREQ, "n_samples": N_SAMPLES,
    }  # fmt: skip
    checkpoint = Checkpoint(weights, metadata)
    names = ["O2", "Cz", "T3", "Fp1", "P4"]
    model = braindecode_model(checkpoint, [{"ch_name": name} for name in names], 3).eval()
    assert (model.n_outputs, model.n_chans, model.n_times, model.sfreq) == (3, 5, 100, 100.0)
    windows = torch.randn(4, 5, N_SAMPLES)
    windows[1, 2] = 0
    places = torch.tensor([DIRECTIONS_10_20[{"T3": "T7"}.get(name, name)] for name in names])
    expected = encoder(windows, places, (windows != 0).any(-1))
    found = model(windows, return_features=True)["features"]
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)  # positions to three digits
    model.reset_head(2)
    assert model(windows).shape == (4, 2)
    again = EEGModel.from_config(json.loads(json.dumps(model.get_config()))).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(windows), model(windows))
    with pytest.raises(UserError, match=r"'ECG' has no known position"):
        braindecode_model(checkpoint, [{"ch_name": "ECG"}], 2)
