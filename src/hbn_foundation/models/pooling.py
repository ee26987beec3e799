"""Ways to make one vector out of the tokens of a window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST_VARIANCE = 1e-6  # the root of zero has no gradient


class Concat(nn.Module):
    """The tokens side by side: (B, N, D) to (B, N·D)."""

    def __init__(self, n_tokens: int, dim: int) -> None:
        super().__init__()
        self.n_features = n_tokens * dim

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (B, N·D)."""
        return tokens.flatten(1)


class Mean(nn.Module):
    """The mean over the tokens: (B, N, D) to (B, D)."""

    def __init__(self, n_tokens: int, dim: int) -> None:
        super().__init__()
        self.n_features = dim

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (B, D)."""
        return tokens.mean(1)


class MeanStd(nn.Module):
    """Mean and standard deviation over the tokens: (B, N, D) to (B, 2·D)."""

    def __init__(self, n_tokens: int, dim: int) -> None:
        super().__init__()
        self.n_features = 2 * dim

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (B, 2·D), the means first; of a single token the deviation is next to zero."""
        variance, mean = torch.var_mean(tokens, 1, correction=0)
        return torch.cat([mean, (variance + SMALLEST_VARIANCE).sqrt()], 1)


class Attention(nn.Module):
    """An average over the tokens whose weights one learned query gives; at first the mean."""

    def __init__(self, n_tokens: int, dim: int) -> None:
        super().__init__()
        self.n_features = dim
        self.query = nn.Parameter(torch.zeros(dim))

    def weights(self, tokens: Tensor) -> Tensor:
        """Weights (B, N), which sum to one over the tokens."""
        return (tokens @ self.query * self.n_features**-0.5).softmax(1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (B, D)."""
        return (self.weights(tokens)[:, :, None] * tokens).sum(1)


POOLINGS: dict[str, type[Concat | Mean | MeanStd | Attention]] = {
    "concat": Concat,
    "mean": Mean,
    "mean_std": MeanStd,
    "attention": Attention,
}
