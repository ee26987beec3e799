"""A few numbers of a window that change slowly within a recording."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

N_LINEAR = 20
"""Linear slow features that are kept, though fewer are read: what denoises knows noise by them."""


class SlowOutputs(nn.Module):
    """Slow outputs of band tangents: of a window alone, or relative to its recording.

    Of a window alone they are linear slow features, which are fitted and not learned: what tells
    people apart moves them by a constant for each recording, but any other function in a way of its
    own. Of tangents minus their mean over the recording they are learned: a share of each linear
    feature, and a map of the tokens behind the trunk. The linear map itself stays as it is fitted:
    training it, too, gains nothing.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, n_inputs: int, n_features: int, n_outputs: int) -> None:
        super().__init__()
        n_linear = max(n_outputs, N_LINEAR)
        self.register_buffer("weight", torch.randn(n_linear, n_inputs) / n_inputs**0.5)
        self.register_buffer("bias", torch.zeros(n_linear))
        self.gain = nn.Parameter(torch.ones(n_outputs))
        self.beside = nn.Linear(n_features, n_outputs, bias=False)
        nn.init.zeros_(self.beside.weight)

    def linear_features(self, tangents: Tensor) -> Tensor:
        """Compute linear slow features (B, n ≥ 20) of tangents (B, bands, 190)."""
        return functional.linear(tangents.float().flatten(1), self.weight, self.bias)

    def alone(self, tangents: Tensor) -> Tensor:
        """Compute outputs (B, n_outputs) of tangents (B, bands, 190): the slowest features."""
        return self.linear_features(tangents)[:, : len(self.gain)]

    def forward(self, tangents: Tensor, tokens: Tensor) -> Tensor:
        """Compute outputs (B, n_outputs) of tangents relative to their recording and their tokens.

        Tangents are (B, bands, 190), tokens (B, N, D).
        """
        with torch.autocast(tangents.device.type, enabled=False):  # small differences count
            weight = self.weight[: len(self.gain)]
            straight = self.gain * functional.linear(tangents.float().flatten(1), weight)
        return straight + self.beside(tokens.flatten(1)).float()
