"""The transformer that mixes the tokens: pre-norm blocks of plain linear layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Dropout(nn.Module):
    """Dropout that draws one random byte per number.

    torch draws a Bernoulli number each on one thread, which on a CPU takes a fifth of a training
    step. The probability is rounded to 1/256 and the rest scaled by what is really kept, so the
    expectation is exact.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.threshold = round(256 * p)

    def forward(self, values: Tensor) -> Tensor:
        """Zero a share p of the values in training, change nothing in evaluation."""
        if not self.training or self.threshold == 0:
            return values
        if values.device.type != "cpu":
            return functional.dropout(values, self.p)
        words = torch.empty((values.numel() + 7) // 8, dtype=torch.int64)
        words.random_(-(2**63), None)  # all 64 bits; without bounds the sign bit stays 0
        bytes_ = words.view(torch.uint8)[: values.numel()].view(values.shape)
        keep = (bytes_ >= self.threshold).to(values.dtype)
        return values * keep * (256 / (256 - self.threshold))


class SelfAttention(nn.Module):
    """Multi-head self-attention through `scaled_dot_product_attention`."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix tokens (B, N, D)."""
        parts = self.query_key_value(tokens).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, N, D / heads)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then a feed-forward part, each a scaled residual branch after a layer norm."""

    def __init__(
        self, dim: int, n_heads: int, feedforward_ratio: int, dropout: float, layer_scale: float
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, n_heads)
        self.attention_scale = nn.Parameter(torch.full((dim,), layer_scale))
        self.feedforward_norm = nn.LayerNorm(dim)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, feedforward_ratio * dim),
            nn.GELU(),
            nn.Linear(feedforward_ratio * dim, dim),
        )
        self.feedforward_scale = nn.Parameter(torch.full((dim,), layer_scale))
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) to tokens (B, N, D)."""
        branch = self.attention(self.attention_norm(tokens))
        tokens = tokens + self.attention_scale * self.dropout(branch)
        branch = self.feedforward(self.feedforward_norm(tokens))
        return tokens + self.feedforward_scale * self.dropout(branch)
