"""Heads: from the tokens of a window to logits of its classes, or to values; one or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hbn_foundation.errors import UserError
from hbn_foundation.models.attenuation import Attenuation
from hbn_foundation.models.distribution import DistributionOutput, TimeTokensOnly
from hbn_foundation.models.margin import MarginOutput
from hbn_foundation.models.params import MAIN, HeadParams
from hbn_foundation.models.pooling import POOLINGS
from hbn_foundation.models.trunk import Dropout

PRIOR_SPREAD = 2.0  # of the training values in a prior, in the sigma that is learned


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
        Classes, or values; a distribution has its bins.
    n_time
        How many of the tokens, the last ones, are time tokens; for a distribution.
    strength
        How strongly differences between subjects are scaled down; 0 for not at all.
    """

    centre: Tensor
    scale: Tensor
    unit: Tensor

    def __init__(
        self,
        params: HeadParams,
        n_tokens: int,
        dim: int,
        n_outputs: int,
        n_time: int = 0,
        strength: float = 0.0,
    ) -> None:
        super().__init__()
        self.params = params
        is_distribution = params.kind == "distribution"
        self.n_outputs = params.bins if is_distribution else n_outputs
        self.pooling: nn.Module = (
            TimeTokensOnly(n_time, dim)
            if is_distribution
            else POOLINGS[params.pooling](n_tokens, dim)
        )
        n_features = self.pooling.n_features
        self.register_buffer("centre", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("unit", torch.tensor([0.0, 1.0]))
        self.strength = strength
        self.attenuation: nn.Module = (
            Attenuation(n_features, params.attenuated_directions) if strength else nn.Identity()
        )
        self.hidden: nn.Module = nn.Identity()
        if params.kind == "mlp":
            layer = nn.Linear(n_features, params.hidden_dim)
            self.hidden = nn.Sequential(Dropout(params.dropout), layer, nn.GELU())
            n_features = params.hidden_dim
        self.output: nn.Module
        if is_distribution:
            self.output = DistributionOutput(params, n_time, dim)
        elif params.margin == "none":
            self.output = LinearOutput(params, n_features, n_outputs)
        else:
            self.output = MarginOutput(params, n_features, n_outputs)

    @property
    def final_norm(self) -> bool:
        """Whether the head takes tokens after the encoder's final norm."""
        return self.params.final_norm

    @property
    def parts(self) -> dict[str, Head]:
        """The heads by target: this one."""
        return {MAIN: self}

    def share(self, step: int) -> float:
        """Share of the full margin at a step."""
        return self.params.margin_share(step)

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
            Share of the full margin (`HeadParams.margin_share` of the step).
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

    def fit_prior(self, values: Tensor) -> None:
        """Let a distribution begin with how frequent standardised training values (N,) are."""
        assert isinstance(self.output, DistributionOutput)
        spread = PRIOR_SPREAD * self.params.sigma
        self.output.fit_prior(values * self.unit[1] + self.unit[0], spread)


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
        self.sizes = [head.n_outputs for head in heads.values()]
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
        return [head.params.margin_share(step) for head in self.parts.values()]

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
    return head.params.hidden_dim if head.params.kind == "mlp" else len(head.centre)


def make_head(
    params: HeadParams,
    n_tokens: int,
    dim: int,
    n_outputs: int,
    classification: bool,
    n_time: int = 0,
) -> Head:
    """Make a head for tokens (B, n_tokens, dim), of which the last `n_time` are time tokens.

    Raises
    ------
    UserError
        When a margin or an attenuation is wanted of a regression; when a distribution is wanted
        of classes, or of tokens among which there are no time tokens, or that do not share out
        its bins.
    """
    if params.margin != "none" and not classification:
        raise UserError(
            f"head.margin={params.margin!r}: a margin is between classes; expected none for a "
            "regression"
        )
    strength = params.attenuation(classification)
    if strength and not classification:
        raise UserError(
            f"head.subject_attenuation={strength:g}: differences between subjects may be what a "
            "number says; expected 0 or null for a regression"
        )
    if params.kind == "distribution":
        if classification:
            raise UserError("head.kind=distribution: a label of classes has no time; take linear")
        if not n_time:
            raise UserError("head.kind=distribution: it reads time tokens, and there are none; "
                            "add them by tokens.tokens: [time]")  # fmt: skip
        try:
            return Head(params, n_tokens, dim, n_outputs, n_time)
        except ValueError as error:
            raise UserError(f"head.bins: {error}") from None
    return Head(params, n_tokens, dim, n_outputs, strength=strength)
