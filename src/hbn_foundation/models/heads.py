"""Heads: from the tokens of a window to logits of its classes, or to values; one or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .attenuation import Attenuation
from .config import MAIN, HeadConfig
from .outputs import DistributionOutput, LinearOutput, MarginOutput
from .trunk import Dropout

SMALLEST_VARIANCE = 1e-6  # the root of zero has no gradient


class Pooling(nn.Module):
    """One vector (B, n_features) out of the tokens (B, N, D) of a window.

    Kinds: concat, the last `n_tokens` side by side; slow, the one token of slow outputs; mean;
    mean_std, mean and standard deviation; attention, an average whose weights one learned query
    gives, at first the mean.
    """

    def __init__(self, kind: str, n_tokens: int, dim: int) -> None:
        super().__init__()
        self.kind = "concat" if kind == "slow" else kind
        self.n_tokens = n_tokens
        self.n_features = {"concat": n_tokens * dim, "mean_std": 2 * dim}.get(kind, dim)
        if kind == "attention":
            self.query = nn.Parameter(torch.zeros(dim))

    def weights(self, tokens: Tensor) -> Tensor:
        """Weights (B, N) of the tokens for attention; they sum to one."""
        return (tokens @ self.query * self.n_features**-0.5).softmax(1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (B, n_features)."""
        if self.kind == "concat":
            return tokens[:, -self.n_tokens :].flatten(1)
        if self.kind == "attention":
            return (self.weights(tokens)[:, :, None] * tokens).sum(1)
        if self.kind == "mean":
            return tokens.mean(1)
        variance, mean = torch.var_mean(tokens, 1, correction=0)
        return torch.cat([mean, (variance + SMALLEST_VARIANCE).sqrt()], 1)


class Head(nn.Module):
    """Pool, normalise, perhaps one hidden layer, and the output.

    A window has `n_tokens` tokens, `dim` wide, of which the last `n_time` are time tokens.
    """

    centre: Tensor
    scale: Tensor
    unit: Tensor

    def __init__(self, config: HeadConfig, n_tokens: int, dim: int, n_time: int = 0) -> None:
        super().__init__()
        self.config = config
        is_distribution = config.kind == "distribution"
        pooled = ("concat", n_time) if is_distribution else (config.pooling, n_tokens)
        self.pooling = Pooling(*pooled, dim)
        n_pooled = self.n_features = self.pooling.n_features
        self.register_buffer("centre", torch.zeros(n_pooled))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("unit", torch.tensor([0.0, 1.0]))
        self.attenuation: nn.Module = nn.Identity()
        if config.attenuation:
            self.attenuation = Attenuation(n_pooled, config.attenuated_directions)
        self.hidden: nn.Module = nn.Identity()
        if config.kind == "mlp":
            self.n_features = config.hidden_dim
            layer = nn.Linear(n_pooled, self.n_features)
            self.hidden = nn.Sequential(Dropout(config.dropout), layer, nn.GELU())
        self.output: nn.Module
        if is_distribution:
            self.output = DistributionOutput(config, n_time, dim)
        elif config.margin == "none":
            self.output = LinearOutput(config, self.n_features)
        else:
            self.output = MarginOutput(config, self.n_features)

    @property
    def parts(self) -> dict[str, Head]:
        """The heads by target: this one."""
        return {MAIN: self}

    def margin_share(self, step: int) -> float:
        """Share of the full margin at a step counted from 0: rises linearly to 1, then stays."""
        warmup = self.config.margin_warmup_steps
        return 1.0 if step >= warmup else step / warmup

    def normalised(self, tokens: Tensor) -> Tensor:
        """Pooled tokens (B, F), centred and of mean variance one."""
        return (self.pooling(tokens) - self.centre) / self.scale

    def features(self, tokens: Tensor) -> Tensor:
        """Features (B, F) that the output is made from: pooled, centred, after the hidden layer."""
        return self.hidden(self.attenuation(self.normalised(tokens)))

    def forward(
        self, tokens: Tensor, labels: Tensor | None = None, margin_share: float = 1.0
    ) -> Tensor:
        """Logits or values (B, K) of tokens (B, N, D), in single precision.

        A share of the margin is added only with labels, (B,) classes or (B, K) shares, and only in
        training.
        """
        return self.output(self.features(tokens), labels, margin_share)

    def value(self, outputs: Tensor) -> Tensor:
        """Values (B,) of outputs (B, K) of a head of numbers, in the unit of the label."""
        if isinstance(self.output, DistributionOutput):
            return self.output.value(outputs)
        return outputs.squeeze(-1) * self.unit[1] + self.unit[0]

    @torch.no_grad()
    def set_unit(self, mean: float, sd: float) -> None:
        """Set the mean and deviation that standardised numbers were made with."""
        self.unit.copy_(torch.tensor([mean, sd]))


class Heads(nn.Module):
    """Several heads, the main one first, on the same tokens; their outputs lie side by side."""

    def __init__(self, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(heads)

    @property
    def config(self) -> HeadConfig:
        """Plain values of the main head."""
        return next(iter(self.parts.values())).config

    @property
    def parts(self) -> dict[str, Head]:
        """The heads by target."""
        return dict(self.heads.items())  # type: ignore[arg-type]

    @property
    def n_features(self) -> list[int]:
        """Length of each head's features."""
        return [head.n_features for head in self.parts.values()]

    def margin_share(self, step: int) -> list[float]:
        """Shares of the full margins at a step."""
        return [head.margin_share(step) for head in self.parts.values()]

    def features(self, tokens: Tensor) -> Tensor:
        """Features (B, F) of all heads, side by side."""
        return torch.cat([head.features(tokens) for head in self.parts.values()], 1)

    def output(
        self,
        features: Tensor,
        labels: Sequence[Tensor | None] | None = None,
        margin_share: Any = 1.0,
    ) -> Tensor:
        """Give outputs (B, K) of all heads from `features` (B, F).

        Labels and margin shares are as for `Head`, one for each head; none, or one share for all.
        """
        heads = list(self.parts.values())
        labels = labels or [None] * len(heads)
        shares = margin_share if isinstance(margin_share, list) else [margin_share] * len(heads)
        parts = features.split(self.n_features, 1)
        outputs = [
            head.output(part, label, share)
            for head, part, label, share in zip(heads, parts, labels, shares, strict=True)
        ]
        return torch.cat(outputs, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Give outputs (B, K) of tokens (B, N, D), without margins."""
        return self.output(self.features(tokens))
