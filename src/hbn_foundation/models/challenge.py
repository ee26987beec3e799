"""A whole model as it is exported: windows in volts in, one value out.

`describe` gives the plain values that `make_model` makes the same model from, without its weights.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from .config import EncoderConfig, HeadConfig, InputConfig
from .encoder import Encoder
from .finetuned import FineTuned, make_finetuned
from .voltage import VoltageInput


class ChallengeModel(nn.Module):
    """One value of each window in volts, in the unit of its label, whatever the other windows are.

    The model has a `VoltageInput`, positions are (C, 3) unit vectors in head coordinates, `target`
    is what is answered, within `limits` (lowest and highest) if given.
    """

    positions: Tensor
    limits: Tensor

    def __init__(
        self,
        model: FineTuned,
        positions: Tensor,
        target: str,
        limits: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model.input, VoltageInput):
            raise ValueError("the model takes signals of the store; expected one that takes volts")
        self.model = model
        self.target = target
        self.register_buffer("positions", positions)
        lowest, highest = limits or (-torch.inf, torch.inf)
        self.register_buffer("limits", torch.tensor([lowest, highest]))

    @property
    def input(self) -> VoltageInput:
        """The input module of the model."""
        assert isinstance(self.model.input, VoltageInput)
        return self.model.input

    def forward(self, volts: Tensor) -> Tensor:
        """Values (B, 1) of windows (B, C, T) in volts."""
        present = torch.ones(len(volts), len(self.positions), dtype=torch.bool, device=volts.device)
        signals, mask = self.model.prepare(self.input.complete(volts), present)
        outputs = self.model(signals, self.positions, mask)
        values = self.model.value(outputs, self.target)
        return torch.clamp(values, self.limits[0], self.limits[1])[:, None]


class ReorderChannels(nn.Module):
    """A model that is given channels in another order than its own.

    `places` says where each of its channels is among the `n_given` ones; -1 for one that is not
    there, which is put in as zeros and so counts as flat. The last of those given, the reference,
    may be missing.
    """

    places: Tensor

    def __init__(self, model: ChallengeModel, places: list[int], n_given: int) -> None:
        super().__init__()
        self.model = model
        self.n_given = n_given
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def forward(self, volts: Tensor) -> Tensor:
        """Values (B, 1) of windows (B, n_given, T), or (B, n_given - 1, T) without reference."""
        missing = self.n_given - volts.shape[1]
        if missing not in (0, 1):
            raise ValueError(f"{volts.shape[1]} channels; expected {self.n_given}")
        zeros = torch.zeros_like(volts[:, :1])
        complete = torch.cat([volts, *[zeros] * missing, zeros], 1)  # -1 is the last
        return self.model(complete[:, self.places])


def describe(model: ChallengeModel | ReorderChannels) -> dict[str, Any]:
    """Return the arguments that a model was made with, as JSON values."""
    if isinstance(model, ReorderChannels):
        order = {"places": model.places.tolist(), "n_given": model.n_given}
        return {**describe(model.model), "order": order}
    limits = model.limits.tolist()
    arithmetic = model.model.encoder.arithmetic
    return {
        **({} if arithmetic == "float32" else {"arithmetic": arithmetic}),
        "encoder": asdict(model.model.encoder.config),
        "heads": {name: asdict(head.config) for name, head in model.model.head.parts.items()},
        "input": asdict(model.input.config),
        "target": model.target,
        "limits": limits if all(map(math.isfinite, limits)) else None,
        "order": None,
    }


def make_model(values: dict[str, Any]) -> ChallengeModel | ReorderChannels:
    """Make a model with random weights from what `describe` gives."""
    heads = {name: HeadConfig(**head) for name, head in values["heads"].items()}
    volts = VoltageInput(InputConfig(**values["input"]))
    encoder = Encoder(EncoderConfig.of(values["encoder"]))
    encoder.set_arithmetic(values.get("arithmetic", "float32"))
    positions = torch.zeros(len(volts.scale), 3)
    model = ChallengeModel(
        make_finetuned(encoder, heads, input=volts), positions, values["target"], values["limits"]
    )
    return model if values["order"] is None else ReorderChannels(model, **values["order"])
