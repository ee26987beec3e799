"""Leave tokens out of the trunk, and predict what they stand for from those that are there.

Leaving tokens out saves their cost, which a mask token would not; the prediction is one light layer
of cross-attention, whose queries are the positions left out (He et al. 2022; Fu et al. 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class LeftOutPredictor(nn.Module):
    """Predict values at positions whose tokens were left out: one cross-attention layer.

    Parameters
    ----------
    dim, n_heads
        Width of the tokens, attention heads.
    n_positions
        Positions that can be asked for.
    n_out
        Values at each position.
    """

    def __init__(self, dim: int, n_heads: int, n_positions: int, n_out: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.position = nn.Parameter(0.02 * torch.randn(n_positions, dim))
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.mix = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, n_out)

    def forward(self, tokens: Tensor, asked: Tensor) -> Tensor:
        """Values (B, M, n_out) at positions `asked` (B, M) from tokens (B, N, D)."""
        queries = self.query(self.position)[asked].unflatten(-1, (self.n_heads, -1))
        key_value = self.key_value(tokens).unflatten(-1, (2, self.n_heads, -1))
        key, value = key_value.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            queries.transpose(1, 2).to(key.dtype), key, value
        )
        mixed = self.mix(mixed.transpose(1, 2).flatten(2)) + self.position[asked]
        return self.out(functional.gelu(self.norm(mixed)))


def choose(
    n_windows: int, n_tokens: int, n_hidden: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw visible (B, V) and hidden (B, M) tokens of each window, in ascending order."""
    order = torch.rand(n_windows, n_tokens, device=device).argsort(1)
    hidden, visible = order[:, :n_hidden], order[:, n_hidden:]
    return visible.sort(1).values, hidden.sort(1).values


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (B, M) of values (B, P, D)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
