"""A submission of small models, and zips that do what a submission must not do."""

from __future__ import annotations

import io

import torch
from torch import nn
from toy_models.model import ToyModel
from toy_models.params import ModelParams, PoolParams

from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.calls import Call
from hbn_foundation.submission.export import ExportedModel, export_submission

PACKAGES = ("hbn_foundation", "toy_models")


def toy_call(*kinds: str) -> Call:
    pool = PoolParams(kinds=kinds, factor=0.5)
    params = ModelParams(pool=pool, kinds=("mean",), width=None)
    arguments = {"params": params, "positions": torch.zeros(129, 3), "names": ["a", 'b"c']}
    return Call(ToyModel, arguments)


def toy_model(seed: int, *kinds: str) -> nn.Module:
    torch.manual_seed(seed)
    model = toy_call(*kinds).build()
    model.positions.normal_(std=1e-6)
    return model.eval()


def toy_models() -> dict[int, nn.Module]:
    return {1: toy_model(1, "mean", "spread"), 2: toy_model(2, "spread")}


def exported(models: dict[int, nn.Module]) -> dict[int, ExportedModel]:
    calls = {1: toy_call("mean", "spread"), 2: toy_call("spread")}
    return {n: ExportedModel(calls[n], models[n].state_dict(), f"toy {n}") for n in models}


def toy_submission() -> tuple[Submission, dict[int, nn.Module]]:
    models = toy_models()
    return export_submission(exported(models), PACKAGES), models


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
