"""A few numbers of a window that change slowly within a recording."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SlowOutputs(nn.Module):
    """A linear map of the band tangents, and one of the tokens behind the trunk.

    The first begins as the linear slow features, the second at zero: before any training the
    outputs are those of the linear method.
    """

    def __init__(self, n_inputs: int, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_inputs, n_outputs)
        self.beside = nn.Linear(n_features, n_outputs, bias=False)
        nn.init.zeros_(self.beside.weight)

    def forward(self, tangents: Tensor, tokens: Tensor) -> Tensor:
        """Compute outputs (B, n_outputs) of tangents (B, bands, 190) and tokens (B, N, D)."""
        with torch.autocast(tangents.device.type, enabled=False):  # small differences count
            straight = self.linear(tangents.float().flatten(1))
        return straight + self.beside(tokens.flatten(1)).float()
