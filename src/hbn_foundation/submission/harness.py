"""What the challenge's harness calls. This module is carried into a submission with the models.

The harness makes a `Submission`, asks it for each model, calls `.eval()` and gives single windows
in volts (1, 129, 200) at 100 Hz; it has torch and nothing of this project.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import nn

MODEL_SFREQ = 100
#: Where the challenge unpacks a submission, before the places that hold elsewhere.
PLACES = ("/app/input/res", "/app/input")
#: What makes each model, without its weights; filled at the end of the file.
MODELS: dict[str, Callable[[], nn.Module]] = {}


def weights_name(model: str) -> str:
    """Name of the file with the weights of a model."""
    return f"weights_{model}.pt"


def find_file(name: str) -> str:
    """Return the path of a file of the submission, wherever it was unpacked."""
    places = [*PLACES, os.getcwd(), os.path.dirname(os.path.abspath(__file__))]
    for place in places:
        path = os.path.join(place, name)
        if os.path.exists(path):
            return path
    raise FileNotFoundError(f"{name} is in none of {', '.join(places)}")


class Submission:
    """Gives the models of both challenges.

    Parameters
    ----------
    SFREQ
        Sampling rate of the windows in Hz.
    DEVICE
        Where the models are to run.
    """

    def __init__(self, SFREQ: float, DEVICE: torch.device | str) -> None:
        if SFREQ != MODEL_SFREQ:
            raise ValueError(f"the models are for windows at {MODEL_SFREQ} Hz, not {SFREQ} Hz")
        self.sfreq = SFREQ
        self.device = DEVICE

    def get_model_challenge_1(self) -> nn.Module:
        """Windows (B, 129, 200) in volts to response times (B, 1) in seconds."""
        return self._load("challenge_1")

    def get_model_challenge_2(self) -> nn.Module:
        """Windows (B, 129, 200) in volts to the externalizing factor (B, 1)."""
        return self._load("challenge_2")

    def _load(self, name: str) -> nn.Module:
        model = MODELS[name]()
        path = find_file(weights_name(name))
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return model.to(self.device).eval()
