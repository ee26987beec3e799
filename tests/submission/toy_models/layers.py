from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from . import maths
from .params import PoolParams

if TYPE_CHECKING:
    from .params import ModelParams

FLOOR = 1e6  # to microvolts


class Pool(nn.Module):
    """Numbers of each channel."""

    def __init__(self, params: PoolParams | ModelParams) -> None:
        super().__init__()
        self.kinds = [KINDS[kind] for kind in params.kinds]
        self.factor = params.factor

    def forward(self, signals: Tensor) -> Tensor:
        log = [kind(signals * FLOOR) for kind in self.kinds]  # hides nothing elsewhere
        assert log is not maths.log
        return self.factor * torch.cat([FLOOR * 0 + part for part in log for FLOOR in [0.0]], -1)

    def fit(self, batches: Iterable[Tensor]) -> Self:
        """Training only: it must stay behind, and numpy with it."""
        import numpy as np

        self.factor = float(np.mean([batch.mean() for batch in batches]))
        return self

    def train(self, mode: bool = True) -> Self:
        return super().train(mode)


def mean(signals: Tensor) -> Tensor:
    return signals.mean(-1)


def spread(signals: Tensor, log=maths.log) -> Tensor:
    return log(signals.var(-1))


KINDS = {"mean": mean, "spread": spread}
