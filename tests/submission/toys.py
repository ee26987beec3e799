"""Submissions whose models do what is written."""

from __future__ import annotations

import io

import torch

from hbn_foundation.submission.archive import Submission

SOURCE = """
import torch
from torch import nn
{top}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        {init}

    def forward(self, volts):
        {forward}


class Second(Model):
    def forward(self, volts):
        {second}


class Submission:
    def __init__(self, SFREQ, DEVICE):
        {made}

    def get_model_challenge_1(self):
        return Model()

    def get_model_challenge_2(self):
        return Second()
"""


def written(
    forward: str = "return volts.mean((1, 2))[:, None]",
    second: str = "return super().forward(volts)",
    top: str = "",
    init: str = "pass",
    made: str = "pass",
    **files: bytes,
) -> Submission:
    """A submission whose models do what is written."""
    source = SOURCE.format(top=top, init=init, forward=forward, second=second, made=made)
    return Submission({"submission.py": source.encode(), **files})


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
