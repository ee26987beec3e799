"""A time within the window, as shares of its bins: each time token speaks for its own stretch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hbn_foundation.models.config import HeadConfig
from hbn_foundation.models.trunk import Dropout

LEAST_SHARE = 1e-4  # of a bin in which no training value lies


class TimeTokensOnly(nn.Module):
    """The last P tokens side by side: (B, N, D) to (B, P·D)."""

    def __init__(self, n_time: int, dim: int) -> None:
        super().__init__()
        self.n_time = n_time
        self.n_features = n_time * dim

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (B, P·D)."""
        return tokens[:, -self.n_time :].flatten(1)


class DistributionOutput(nn.Module):
    """Logits of bins from time tokens, beginning at the distribution of the training values.

    A token gives the logits of the bins in its stretch, by one map for all tokens, so that what a
    press looks like is learned once and not for each time anew. The prior says how frequent each
    bin is; it is learned further.

    Parameters
    ----------
    config
        Bins, first and last time, dropout.
    n_time, dim
        How many time tokens a window has, and their width.
    """

    bins: Tensor

    def __init__(self, config: HeadConfig, n_time: int, dim: int) -> None:
        super().__init__()
        self.n_time = n_time
        per_token = config.n_outputs // n_time
        if per_token * n_time != config.n_outputs:
            raise ValueError(
                f"{config.n_outputs} bins cannot be shared out among {n_time} time tokens; "
                f"expected a multiple of {n_time}"
            )
        self.dropout = Dropout(config.dropout)
        self.linear = nn.Linear(dim, per_token)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        width = (config.latest - config.earliest) / config.n_outputs
        self.width = width
        centres = config.earliest + width * (torch.arange(config.n_outputs) + 0.5)
        self.register_buffer("bins", centres)
        self.prior = nn.Parameter(torch.zeros(config.n_outputs))

    def forward(
        self, features: Tensor, labels: Tensor | None = None, margin_share: float = 1.0
    ) -> Tensor:
        """Logits (B, bins) from tokens side by side (B, P·D); labels do not matter."""
        tokens = self.dropout(features.unflatten(1, (self.n_time, -1)))
        return self.linear(tokens).flatten(1).float() + self.prior

    def value(self, outputs: Tensor) -> Tensor:
        """Mean (B,) of the distributions (B, bins) in the unit of the label."""
        return (outputs.softmax(-1) * self.bins).sum(-1)  # a product of matrices may be in bf16

    @torch.no_grad()
    def fit_prior(self, values: Tensor, spread: float) -> None:
        """Begin with how frequent each bin is among training values (N,).

        Parameters
        ----------
        values
            In the unit of the label; those outside the window count at its edges.
        spread
            Standard deviation of the Gaussian that each value is spread by.
        """
        self.prior.copy_((soft_bins(values, self.bins, spread).mean(0) + LEAST_SHARE).log())


def soft_bins(values: Tensor, bins: Tensor, spread: float) -> Tensor:
    """Shares (B, K) of bins under a Gaussian around each value (B,), which sum to one.

    Values beyond the bins count at the first or the last one.
    """
    distance = (values.clamp(bins[0], bins[-1])[:, None] - bins) / spread
    return (-0.5 * distance.square()).softmax(-1)
