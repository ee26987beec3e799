"""Losses of fine-tuning: classes with weights, values, and the pull to the pretrained weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from hbn_foundation.training.finetuning.trainer_params import RegularisationParams


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
                outputs.float(), targets, weight=weights, label_smoothing=smoothing
            )
        values = outputs.float().squeeze(-1)
        if self.params.regression_loss == "mse":
            return functional.mse_loss(values, targets)
        return functional.smooth_l1_loss(values, targets)


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
