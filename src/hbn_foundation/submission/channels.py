"""The challenge's channels in the order that a model has. This module is carried into submissions.

The challenge gives E1 to E128 and Cz, in this order; a model has the order of the recordings it was
trained on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rearranged(nn.Module):
    """A model that is given the challenge's channels in another order than its own.

    Parameters
    ----------
    model
        Windows in volts (B, C, T), in its own order, to (B, 1).
    places
        Where each of its C channels is among those given; -1 for one that is not there, which is
        put in as zeros and so counts as flat.
    n_given
        How many are given; the last of them, the reference, may be missing.
    """

    places: Tensor

    def __init__(self, model: nn.Module, places: list[int], n_given: int) -> None:
        super().__init__()
        self.model = model
        self.n_given = n_given
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def forward(self, volts: Tensor) -> Tensor:
        """Values (B, 1) of windows (B, n_given, T), or (B, n_given - 1, T) without reference."""
        missing = self.n_given - volts.shape[1]
        if missing not in (0, 1):
            raise ValueError(f"{volts.shape[1]} channels; expected {self.n_given}")
        nothing = torch.zeros_like(volts[:, :1])
        complete = torch.cat([volts, *[nothing] * missing, nothing], 1)  # -1 is the last
        return self.model(complete[:, self.places])
