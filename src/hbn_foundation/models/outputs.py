"""Last layers of a head: linear, with a margin, or as a distribution over time.

Each maps features (B, F) to outputs (B, K) and starts so that the first steps change little.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import HeadConfig
from .trunk import Dropout

LARGEST_COSINE = 1 - 1e-6  # the slope of the angle is infinite at 1
SMALLEST_SHARE = 1e-4  # of a bin in which no training value lies


def zero_linear(n_features: int, n_outputs: int) -> nn.Linear:
    """Make a linear map whose weights and biases are zero."""
    linear = nn.Linear(n_features, n_outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class LinearOutput(nn.Module):
    """Dropout and a linear map that starts at zero."""

    def __init__(self, config: HeadConfig, n_features: int) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.linear = zero_linear(n_features, config.n_outputs)

    def forward(
        self, features: Tensor, labels: Tensor | None = None, margin_share: float = 1.0
    ) -> Tensor:
        """Map features (B, F) to outputs (B, K); labels are not used."""
        return self.linear(self.dropout(features)).float()


class MarginOutput(nn.Module):
    """Logits from features by scaled cosines, with a margin in training.

    Features and weights are normalised, and one scale turns cosines into logits in training and
    evaluation alike. In training the true class has to win by a margin, taken from its cosine
    (CosFace: Wang et al. 2018) or added to its angle (ArcFace: Deng et al. 2019). Class weights
    and label smoothing belong to the loss, which takes these logits like any others.
    """

    def __init__(self, config: HeadConfig, n_features: int) -> None:
        super().__init__()
        self.kind = config.margin
        self.margin = config.margin_size
        self.scale = config.scale
        self.dropout = Dropout(config.dropout)
        self.weight = nn.Parameter(torch.randn(config.n_outputs, n_features) * n_features**-0.5)

    def cosines(self, features: Tensor) -> Tensor:
        """Cosines (B, K) between features (B, F) and the classes' weights, in single precision.

        Dropout comes after the normalisation: before it, it would make features longer, and
        cosines in training smaller than in evaluation.
        """
        with torch.autocast(features.device.type, enabled=False):
            directions = self.dropout(functional.normalize(features.float(), dim=1))
            return directions @ functional.normalize(self.weight.float(), dim=1).T

    def forward(
        self, features: Tensor, labels: Tensor | None = None, margin_share: float = 1.0
    ) -> Tensor:
        """Logits (B, K); the margin, or a share of it, only in training and with labels.

        Labels are (B,) classes, or (B, K) shares of the classes in mixed windows: a class that is
        half of a window has half of the margin.
        """
        cosines = self.cosines(features)
        if not self.training or labels is None:
            return self.scale * cosines
        if labels.ndim == 1:
            labels = functional.one_hot(labels, cosines.shape[1])
        margins = self.margin * margin_share * labels.to(cosines.dtype)
        if self.kind == "cosface":
            return self.scale * (cosines - margins)
        return self.scale * torch.where(margins > 0, add_to_angle(cosines, margins), cosines)


def add_to_angle(cosines: Tensor, margins: Tensor) -> Tensor:
    """Cosines of the angles after adding margins in radians, falling in the angle everywhere.

    Past half a turn the cosine would rise again; there a straight line takes its place, as in the
    authors' code.
    """
    angles = cosines.clamp(-LARGEST_COSINE, LARGEST_COSINE).acos() + margins
    return torch.where(angles <= math.pi, angles.cos(), cosines - margins * margins.sin())


class DistributionOutput(nn.Module):
    """Logits of the time bins of a window, from its time tokens.

    A token gives the logits of the bins in its stretch, by one map for all tokens, so that the
    pattern of a response is learned once for all times. A learned prior, first fitted to the
    training values, says how frequent each bin is. Bins that cannot be shared out among the
    `n_time` tokens of a window, `dim` wide, are a ValueError.
    """

    bins: Tensor

    def __init__(self, config: HeadConfig, n_time: int, dim: int) -> None:
        super().__init__()
        self.n_time = n_time
        n_bins = config.n_outputs
        if n_bins % n_time:
            raise ValueError(
                f"{n_bins} bins cannot be shared out among {n_time} time tokens; "
                f"expected a multiple of {n_time}"
            )
        self.dropout = Dropout(config.dropout)
        self.linear = zero_linear(dim, n_bins // n_time)
        width = (config.latest - config.earliest) / n_bins
        self.register_buffer("bins", config.earliest + width * (torch.arange(n_bins) + 0.5))
        self.prior = nn.Parameter(torch.zeros(n_bins))

    def forward(
        self, features: Tensor, labels: Tensor | None = None, margin_share: float = 1.0
    ) -> Tensor:
        """Logits (B, bins) from tokens side by side (B, P·D); labels are not used."""
        tokens = self.dropout(features.unflatten(1, (self.n_time, -1)))
        return self.linear(tokens).flatten(1).float() + self.prior

    def value(self, outputs: Tensor) -> Tensor:
        """Mean (B,) of the distributions (B, bins) in the unit of the label."""
        return (outputs.softmax(-1) * self.bins).sum(-1)  # a product of matrices may be in bf16

    @torch.no_grad()
    def fit_prior(self, values: Tensor, spread: float) -> None:
        """Set the prior to how frequent each bin is among training values (N,).

        Values in the unit of the label are spread by a Gaussian; outside the window they count at
        its edges.
        """
        self.prior.copy_((soft_bins(values, self.bins, spread).mean(0) + SMALLEST_SHARE).log())


def soft_bins(values: Tensor, bins: Tensor, spread: float) -> Tensor:
    """Shares (B, K) of bins under a Gaussian around each value (B,), which sum to one.

    Values beyond the bins count at the first or the last one.
    """
    distance = (values.clamp(bins[0], bins[-1])[:, None] - bins) / spread
    return (-0.5 * distance.square()).softmax(-1)
