"""Heads: from the tokens of a window to logits of its classes, or to values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hbn_foundation.errors import UserError
from hbn_foundation.models.margin import MarginOutput
from hbn_foundation.models.params import HeadParams
from hbn_foundation.models.pooling import POOLINGS
from hbn_foundation.models.trunk import Dropout


class LinearOutput(nn.Module):
    """Dropout and a linear map that starts at zero, so that its first steps shake nothing."""

    def __init__(self, params: HeadParams, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.dropout = Dropout(params.dropout)
        self.linear = nn.Linear(n_features, n_outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, features: Tensor, labels: Tensor | None = None, margin_share: float = 1.0
    ) -> Tensor:
        """Map features (B, F) to outputs (B, K); without a margin, labels do not matter."""
        return self.linear(self.dropout(features)).float()


class Head(nn.Module):
    """Pool, normalise, perhaps one hidden layer, and the output.

    Parameters
    ----------
    params
        Pooling, kind, dropout and margin.
    n_tokens, dim
        How many tokens a window has, and their width.
    n_outputs
        Classes, or values.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, params: HeadParams, n_tokens: int, dim: int, n_outputs: int) -> None:
        super().__init__()
        self.params = params
        self.n_outputs = n_outputs
        self.pooling = POOLINGS[params.pooling](n_tokens, dim)
        n_features = self.pooling.n_features
        self.register_buffer("centre", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(()))
        self.hidden: nn.Module = nn.Identity()
        if params.kind == "mlp":
            layer = nn.Linear(n_features, params.hidden_dim)
            self.hidden = nn.Sequential(Dropout(params.dropout), layer, nn.GELU())
            n_features = params.hidden_dim
        kind = LinearOutput if params.margin == "none" else MarginOutput
        self.output = kind(params, n_features, n_outputs)

    def features(self, tokens: Tensor) -> Tensor:
        """Features (B, F) that the output is made from: pooled, centred, after the hidden layer."""
        return self.hidden((self.pooling(tokens) - self.centre) / self.scale)

    def logits(
        self, tokens: Tensor, labels: Tensor | None = None, margin_share: float = 1.0
    ) -> Tensor:
        """Give outputs (B, K) in single precision, with the margin where there is one.

        Parameters
        ----------
        tokens
            (B, N, D).
        labels
            (B,) classes or (B, K) shares; a margin is added only with them, and only in training.
        margin_share
            Share of the full margin (`HeadParams.margin_share` of the step).
        """
        return self.output(self.features(tokens), labels, margin_share)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits or values (B, K) of tokens (B, N, D), without a margin."""
        return self.logits(tokens)


def make_head(
    params: HeadParams, n_tokens: int, dim: int, n_outputs: int, classification: bool
) -> Head:
    """Make a head for tokens (B, n_tokens, dim).

    Raises
    ------
    UserError
        When a margin is wanted of a regression.
    """
    if params.margin != "none" and not classification:
        raise UserError(
            f"head.margin={params.margin!r}: a margin is between classes; expected none for a "
            "regression"
        )
    return Head(params, n_tokens, dim, n_outputs)
