from __future__ import annotations

import torch
from torch import Tensor, nn

from hbn_foundation.models.trunk import Dropout
from toy_models import layers
from toy_models.layers import Pool as ChannelPool
from toy_models.params import ModelParams


class Pool(nn.Module):
    """A name that another module has, too."""

    def forward(self, numbers: Tensor) -> Tensor:
        return numbers.clamp(-50.0, 50.0)


class ToyModel(nn.Module):
    """Windows (B, 129, 200) in volts to (B, 1)."""

    positions: Tensor

    def __init__(self, params: ModelParams, positions: Tensor, names: list[str]) -> None:
        super().__init__()
        wider = params.pool.model_copy(update={"factor": 2 * params.pool.factor})
        self.register_buffer("positions", positions)
        self.names = names
        self.channels = ChannelPool(wider)
        self.limits = Pool()
        self.dropout = Dropout(0.5)
        self.out = nn.Linear(len(positions) * wider.n_numbers, 1)

    @classmethod
    def of(cls, **arguments: object) -> ToyModel:
        return cls(**arguments)

    def forward(self, volts: Tensor) -> Tensor:
        numbers = self.limits(self.channels(volts + self.positions[:, :1]))
        return self.out(self.dropout(numbers)) + layers.mean(torch.zeros(len(volts), 3))[:, None]

    def unused(self) -> float:
        from toy_models.maths import never_needed

        return never_needed()
