"""Heads: from the tokens of a window to logits of its classes, or to values; one or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hbn_foundation.models.attenuation import Attenuation
from hbn_foundation.models.config import MAIN, HeadConfig
from hbn_foundation.models.distribution import DistributionOutput, TimeTokensOnly
from hbn_foundation.models.margin import MarginOutput
from hbn_foundation.models.pooling import POOLINGS
from hbn_foundation.models.trunk import Dropout


class LinearOutput(nn.Module):
    """Dropout and a linear map that starts at zero, so that its first steps shake nothing."""

    def __init__(self, config: HeadConfig, n_features: int) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.linear = nn.Linear(n_features, config.n_outputs)
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
    config
        Outputs, pooling, kind, dropout and margin.
    n_tokens, dim
        How many tokens a window has, and their width.
    n_time
        How many of the tokens, the last ones, are time tokens; for a distribution.
    """

    centre: Tensor
    scale: Tensor
    unit: Tensor

    def __init__(self, config: HeadConfig, n_tokens: int, dim: int, n_time: int = 0) -> None:
        super().__init__()
        self.config = config
        is_distribution = config.kind == "distribution"
        self.pooling: nn.Module = (
            TimeTokensOnly(n_time, dim)
            if is_distribution
            else POOLINGS[config.pooling](n_tokens, dim)
        )
        n_features = self.pooling.n_features
        self.register_buffer("centre", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("unit", torch.tensor([0.0, 1.0]))
        self.attenuation: nn.Module = nn.Identity()
        if config.attenuation:
            self.attenuation = Attenuation(n_features, config.attenuated_directions)
        self.hidden: nn.Module = nn.Identity()
        if config.kind == "mlp":
            layer = nn.Linear(n_features, config.hidden_dim)
            self.hidden = nn.Sequential(Dropout(config.dropout), layer, nn.GELU())
            n_features = config.hidden_dim
        self.output: nn.Module
        if is_distribution:
            self.output = DistributionOutput(config, n_time, dim)
        elif config.margin == "none":
            self.output = LinearOutput(config, n_features)
        else:
            self.output = MarginOutput(config, n_features)

    @property
    def final_norm(self) -> bool:
        """Whether the head takes tokens after the encoder's final norm."""
        return self.config.final_norm

    @property
    def parts(self) -> dict[str, Head]:
        """The heads by target: this one."""
        return {MAIN: self}

    def share(self, step: int) -> float:
        """Share of the full margin at a step counted from 0: rises linearly to 1, then stays."""
        warmup = self.config.margin_warmup_steps
        return 1.0 if step >= warmup else step / warmup

    def features(self, tokens: Tensor) -> Tensor:
        """Features (B, F) that the output is made from: pooled, centred, after the hidden layer."""
        return self.hidden(self.attenuation(self.normalised(tokens)))

    def normalised(self, tokens: Tensor) -> Tensor:
        """Pooled tokens (B, F), centred and of mean variance one."""
        return (self.pooling(tokens) - self.centre) / self.scale

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
            Share of the full margin (`share` of the step).
        """
        return self.output(self.features(tokens), labels, margin_share)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits or values (B, K) of tokens (B, N, D), without a margin."""
        return self.logits(tokens)

    def value(self, outputs: Tensor) -> Tensor:
        """Values (B,) of outputs (B, K) of a head of numbers, in the unit of the label."""
        if isinstance(self.output, DistributionOutput):
            return self.output.value(outputs)
        return outputs.squeeze(-1) * self.unit[1] + self.unit[0]

    @torch.no_grad()
    def set_unit(self, mean: float, sd: float) -> None:
        """Say which mean and deviation standardised numbers have been given."""
        self.unit.copy_(torch.tensor([mean, sd]))


class Heads(nn.Module):
    """Several heads on the same tokens; what they put out lies side by side.

    Parameters
    ----------
    heads
        By target, the main one first. All take the tokens after the encoder's final norm, or none.
    """

    def __init__(self, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(heads)
        self.sizes = [head.config.n_outputs for head in heads.values()]
        self.n_features = [n_features_of(head) for head in heads.values()]

    @property
    def final_norm(self) -> bool:
        """Whether the heads take tokens after the encoder's final norm."""
        return next(iter(self.parts.values())).final_norm

    @property
    def parts(self) -> dict[str, Head]:
        """The heads by target."""
        return dict(self.heads.items())  # type: ignore[arg-type]

    def share(self, step: int) -> list[float]:
        """Shares of the full margins at a step."""
        return [head.share(step) for head in self.parts.values()]

    def features(self, tokens: Tensor) -> Tensor:
        """Features (B, F) of all heads, side by side."""
        return torch.cat([head.features(tokens) for head in self.parts.values()], 1)

    def output(
        self,
        features: Tensor,
        labels: Sequence[Tensor | None] | None = None,
        margin_share: Any = 1.0,
    ) -> Tensor:
        """Give outputs (B, K) of all heads, side by side.

        Parameters
        ----------
        features
            (B, F), as `features` gives them.
        labels, margin_share
            One for each head, as for `Head.logits`; none, or one share for all.
        """
        parts = features.split(self.n_features, 1)
        of_labels = labels or [None] * len(parts)
        shares = margin_share if isinstance(margin_share, list) else [margin_share] * len(parts)
        return torch.cat(
            [
                head.output(part, label, share)
                for head, part, label, share in zip(
                    self.parts.values(), parts, of_labels, shares, strict=True
                )
            ],
            1,
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Give outputs (B, K) of tokens (B, N, D), without margins."""
        return self.output(self.features(tokens))


def n_features_of(head: Head) -> int:
    """Length of a head's features, after its hidden layer where it has one."""
    return head.config.hidden_dim if head.config.kind == "mlp" else len(head.centre)
