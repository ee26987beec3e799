"""Losses of fine-tuning: classes, values, times, and the pull to the pretrained weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from hbn_foundation.models.heads import Head
from hbn_foundation.models.outputs import DistributionOutput, soft_bins
from hbn_foundation.training.finetuning.trainer_params import RegularisationParams
from hbn_foundation.training.model_params import HeadParams


class TargetLoss(nn.Module):
    """Cross-entropy of classes, or the error of standardised values.

    Parameters
    ----------
    params
        Weights, smoothing, which error.
    counts
        Training windows of each class; None for values.
    """

    weights: Tensor | None

    def __init__(self, params: RegularisationParams, counts: Tensor | None) -> None:
        super().__init__()
        self.params = params
        self.classification = counts is not None
        weights = None
        if counts is not None and params.class_weights:
            weights = counts.sum() / (len(counts) * counts.clamp_min(1))
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of outputs (B, K) for classes (B,), or of (B, 1) for values (B,)."""
        if self.classification:
            smoothing = self.params.label_smoothing if self.training else 0.0
            # outputs of a validation are not on the device of the training
            weights = None if self.weights is None else self.weights.to(outputs.device)
            return functional.cross_entropy(
                outputs.float(), targets.long(), weight=weights, label_smoothing=smoothing
            )
        values = self.answer(outputs)
        if self.params.regression_loss == "mse":
            return functional.mse_loss(values, targets)
        return functional.smooth_l1_loss(values, targets)

    def weight_of(self, targets: Tensor) -> Tensor:
        """By what the loss of these targets (B,) divides a sum: their weights', or their number."""
        if self.weights is None:
            return targets.new_tensor(float(len(targets)))
        return self.weights.to(targets.device)[targets.long()].sum()

    def answer(self, outputs: Tensor) -> Tensor:
        """Standardised values (B,) of outputs (B, 1) for numbers."""
        return outputs.float().squeeze(-1)


class DistributionLoss(nn.Module):
    """Cross-entropy of a time's shares to a Gaussian around the true one, and the mean's error.

    The cross-entropy is the Kullback-Leibler divergence but for the Gaussian's own entropy, which
    no weight can change. Times beyond the window count at its edge, where the answer ends too.

    Parameters
    ----------
    head
        A distribution head, with the unit of its label.
    params
        Width of the Gaussian, weights of both parts.
    """

    bins: Tensor

    def __init__(self, head: Head, params: HeadParams) -> None:
        super().__init__()
        self.params = params
        assert isinstance(head.output, DistributionOutput)
        mean, sd = head.unit.tolist()
        self.spread = params.sigma / sd
        self.register_buffer("bins", (head.output.bins - mean) / sd, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of logits (B, bins) for standardised times (B,)."""
        bins = self.bins.to(outputs.device)
        wanted = soft_bins(targets, bins, self.spread)
        shares = -(wanted * outputs.float().log_softmax(1)).sum(1).mean()
        error = functional.mse_loss(self.answer(outputs), targets.clamp(bins[0], bins[-1]))
        return self.params.shares_weight * shares + self.params.error_weight * error

    def weight_of(self, targets: Tensor) -> Tensor:
        """By what the loss of these targets (B,) divides a sum: their number."""
        return targets.new_tensor(float(len(targets)))

    def answer(self, outputs: Tensor) -> Tensor:
        """Standardised times (B,) of logits (B, bins): their mean."""
        shares = outputs.float().softmax(1)
        return (shares * self.bins.to(outputs.device)).sum(1)  # no product of matrices, as in bf16


class Anchor(nn.Module):
    """L2-SP: half the squared distance of the encoder's weights from where they began.

    Li, Grandvalet and Davoine 2018, Explicit inductive bias for transfer learning. Frozen weights
    do not move and add nothing.

    Parameters
    ----------
    parameters
        With names; their present values are the anchor.
    strength
        Factor of the penalty.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], strength: float) -> None:
        super().__init__()
        self.strength = strength
        named = list(parameters) if strength else []
        self.tied = [parameter for _, parameter in named]
        for number, (_, parameter) in enumerate(named):
            self.register_buffer(f"anchor_{number}", parameter.detach().clone(), persistent=False)

    def forward(self) -> Tensor | float:
        """Penalty to add to the loss."""
        moving = [
            (parameter, getattr(self, f"anchor_{number}"))
            for number, parameter in enumerate(self.tied)
            if parameter.requires_grad
        ]
        if not moving:
            return 0.0
        return 0.5 * self.strength * torch.stack([(p - a).square().sum() for p, a in moving]).sum()
