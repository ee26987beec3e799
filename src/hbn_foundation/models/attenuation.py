"""Turn down the directions of features in which subjects differ for reasons that are not the label.

With a dozen subjects a head finds directions that tell the classes apart in these subjects and mean
something else in the next one. What varies between subjects of one class is known to be of that
kind, and is scaled down before the head sees it. The idea is that of within-class covariance
normalisation in speaker recognition (Hatch, Kajarekar and Stolcke 2006), used softly, and only in
the few directions that the training subjects show.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attenuation(nn.Module):
    """Scale features down along some directions; at first it changes nothing.

    Parameters
    ----------
    n_features
        Length F of a feature vector.
    n_directions
        At most so many directions.
    """

    removed: Tensor

    def __init__(self, n_features: int, n_directions: int) -> None:
        super().__init__()
        self.register_buffer("removed", torch.zeros(n_directions, n_features))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) without what is removed of each direction."""
        return features - (features @ self.removed.T) @ self.removed

    @torch.no_grad()
    def fit(self, means: Tensor, weights: Tensor, strength: float) -> None:
        """Fit the directions to how subjects of the same class differ.

        A direction that holds the share s of the variance as differences between subjects is
        multiplied by (1 + strength · s)^-½.

        Parameters
        ----------
        means
            (G, F) mean features of each subject in each class, less the mean of the class, where
            the mean variance of a feature is one.
        weights
            (G,) shares of the groups; they sum to one.
        strength
            The larger, the more is removed.
        """
        n_features = means.shape[1]
        scaled = means.double() * weights.double().sqrt()[:, None]
        _, values, directions = torch.linalg.svd(scaled, full_matrices=False)
        shares = (values.square() / n_features)[: len(self.removed)]
        kept = (1 + strength * shares).rsqrt()
        rows = (1 - kept).sqrt()[:, None] * directions[: len(self.removed)]
        self.removed.zero_()
        self.removed[: len(rows)] = rows.to(self.removed)
