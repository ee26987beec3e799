"""Submission to the 2025 EEG Foundation Challenge, in plain torch.

A model takes windows in volts (B, 129, 200) at 100 Hz, channels E1 to E128 and Cz, and gives one
value each (B, 1). Beside this file lie `models.zip`, the source of the models, `models.json`, the
arguments that they are made with, and their weights.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

import torch
from torch import nn

MODEL_SFREQ = 100
#: Folders that the challenge unpacks a submission into; elsewhere it lies beside this file.
PLACES = ("/app/input/res", "/app/input")


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
        self.device = DEVICE

    def get_model_challenge_1(self) -> nn.Module:
        """Windows (B, 129, 200) in volts to response times (B, 1) in seconds."""
        return self._load("challenge_1")

    def get_model_challenge_2(self) -> nn.Module:
        """Windows (B, 129, 200) in volts to the externalizing factor (B, 1)."""
        return self._load("challenge_2")

    def _load(self, name: str) -> nn.Module:
        source = find_file("models.zip")
        if source not in sys.path:
            sys.path.insert(0, source)
        with open(find_file("models.json"), encoding="utf-8") as file:
            arguments = json.load(file)[name]
        model = importlib.import_module("hbn_models.challenge").make_model(arguments)
        path = find_file(f"weights_{name}.pt")
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return model.to(self.device).eval()
