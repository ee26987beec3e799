"""Scale down the directions of features in which subjects of one class differ.

With a dozen subjects a head finds directions that separate the classes in these subjects alone.
Such directions vary between subjects of one class, and are scaled down before the head sees them:
within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006), used softly, and only in
the few directions that the training subjects show.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attenuation(nn.Module):
    """Scale features (B, F) down along at most `n_directions`; at first it changes nothing."""

    removed: Tensor

    def __init__(self, n_features: int, n_directions: int) -> None:
        super().__init__()
        self.register_buffer("removed", torch.zeros(n_directions, n_features))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) with the fitted directions scaled down."""
        return features - (features @ self.removed.T) @ self.removed

    @torch.no_grad()
    def fit(self, means: Tensor, weights: Tensor, strength: float) -> None:
        """Fit the directions to how subjects of the same class differ.

        A direction that holds the share s of the variance as differences between subjects is
        multiplied by (1 + strength · s)^-½. `means` (G, F) are mean features of each subject in
        each class, less the mean of the class, where the mean variance of a feature is one;
        `weights` (G,) are shares of these groups that sum to one.
        """
        n_features = means.shape[1]
        scaled = means.double() * weights.double().sqrt()[:, None]
        _, values, directions = torch.linalg.svd(scaled, full_matrices=False)
        shares = (values.square() / n_features)[: len(self.removed)]
        kept = (1 + strength * shares).rsqrt()
        rows = (1 - kept).sqrt()[:, None] * directions[: len(self.removed)]
        self.removed.zero_()
        self.removed[: len(rows)] = rows.to(self.removed)
