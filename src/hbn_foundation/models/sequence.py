"""Windows in their recording: a transformer over the tokens of windows that follow each other.

Each token of a window looks at the same token of the windows around it. A batch may hold several
recordings, or pieces of them; a window sees nothing of another recording, whatever its place in
the batch, so that no window is padded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import SequenceConfig
from .trunk import Dropout

SPANS = (0.25, 4.0)  # of `seconds`: how fast the first and the last head of a new block fade
FAR = -1e9
EPSILON = 1e-3  # s


class SequenceBlock(nn.Module):
    """Attention that fades with the distance in time, then a feed-forward part.

    A new block replaces most of each window by an average of those around it, each head over
    another span of time: what training begins with is a moving average.
    """

    def __init__(self, config: SequenceConfig, dim: int) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.norm = nn.LayerNorm(dim)
        self.query_key = nn.Linear(dim, 2 * dim)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        low, high = (math.log(share * config.seconds) for share in SPANS)
        self.log_span = nn.Parameter(torch.linspace(low, high, config.n_heads))
        self.share = nn.Parameter(torch.full((dim,), config.share))
        self.feedforward_norm = nn.LayerNorm(dim)
        self.feedforward = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.feedforward_scale = nn.Parameter(torch.full((dim,), 0.1))
        self.dropout = Dropout(config.dropout)
        with torch.no_grad():
            self.query_key.weight.mul_(0.1)
            for layer in (self.value, self.out):  # what is averaged stays what it is
                layer.weight.copy_(torch.eye(dim))
                layer.bias.zero_()

    def forward(self, tokens: Tensor, distance: Tensor, visible: Tensor) -> Tensor:
        """Tokens (N, B, D), seconds between windows (B, B), and which of them a window sees."""
        parts = [*self.query_key(self.norm(tokens)).chunk(2, -1), self.value(tokens)]
        query, key, value = (p.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for p in parts)
        fading = -distance / self.log_span.exp()[:, None, None]
        bias = fading.masked_fill(~visible, FAR).to(query.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        around = self.out(mixed.transpose(1, 2).flatten(2))
        tokens = tokens + self.share * (self.dropout(around) - tokens)
        branch = self.feedforward(self.feedforward_norm(tokens))
        return tokens + self.feedforward_scale * self.dropout(branch)


class SequenceEncoder(nn.Module):
    """Tokens of windows relative to their recording, and in the light of the windows around.

    It does not join windows to one answer: each keeps its own tokens.
    """

    def __init__(self, config: SequenceConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        n_layers = config.n_layers if config.seconds else 0
        self.blocks = nn.ModuleList(SequenceBlock(config, dim) for _ in range(n_layers))

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Tokens (B, N, D) of windows at places (B, 4) to tokens (B, N, D).

        The columns of the places are numbers of the group whose mean is subtracted and of the
        recording, the onset in s, and 1 where the window is one that tiles its recording, else 0.
        A window sees itself and the tiles of its recording that begin within `seconds` of it;
        running, of those no later one.
        """
        _, recording, onset, _ = places.float().T
        distance = (onset[:, None] - onset).abs()
        alone = torch.eye(len(places), dtype=torch.bool, device=places.device)
        near = (recording[:, None] == recording) & (distance <= self.config.seconds + EPSILON)
        visible = alone | self.seen(places) & near
        sequence = self.recentred(tokens, places).transpose(0, 1)
        for block in self.blocks:
            sequence = block(sequence, distance, visible)
        return sequence.transpose(0, 1)

    def recentred(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Tokens (B, N, D) relative to the mean of their group, where the context says so."""
        if not self.config.recentre:
            return tokens
        group = places[:, 0]
        return tokens - _means(tokens, self.seen(places) & (group[:, None] == group))

    def seen(self, places: Tensor) -> Tensor:
        """Say which windows (B, B) count for each: tiles, running those no later than it."""
        _, recording, onset, tile = places.float().T
        seen = (tile > 0).expand(len(tile), -1)
        if not self.config.running:
            return seen
        same = recording[:, None] == recording
        return seen & (same & (onset[:, None] >= onset) | (recording[:, None] > recording))


def _means(tokens: Tensor, counted: Tensor) -> Tensor:
    """Means (B, N, D) of tokens (B, N, D) over the windows that count (B, B); 0 of none."""
    weights = counted.float() / counted.sum(1, keepdim=True).clamp_min(1)
    with torch.autocast(tokens.device.type, enabled=False):
        return (weights @ tokens.flatten(1).float()).view_as(tokens).to(tokens.dtype)
