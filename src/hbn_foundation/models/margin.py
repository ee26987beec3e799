"""The last layer of a margin head: classes by cosine, with a margin in training.

Features and weights are normalised, and one scale turns cosines into logits in training and
evaluation alike. In training the true class has to win by a margin, taken from its cosine
(CosFace: Wang et al. 2018) or added to its angle (ArcFace: Deng et al. 2019). Class weights and
label smoothing belong to the loss, which takes these logits like any others.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from hbn_foundation.models.config import HeadConfig
from hbn_foundation.models.trunk import Dropout

LARGEST_COSINE = 1 - 1e-6  # the slope of the angle is infinite at 1


class MarginOutput(nn.Module):
    """Logits from features by scaled cosines.

    Parameters
    ----------
    config
        Classes, kind and size of the margin, scale, dropout.
    n_features
        Length of a feature vector.
    """

    def __init__(self, config: HeadConfig, n_features: int) -> None:
        super().__init__()
        self.kind = config.margin
        self.margin = config.margin_size
        self.scale = config.scale
        self.dropout = Dropout(config.dropout)
        self.weight = nn.Parameter(torch.randn(config.n_outputs, n_features) * n_features**-0.5)

    def cosines(self, features: Tensor) -> Tensor:
        """Cosines (B, K) between features (B, F) and the classes' weights, in single precision.

        Dropout comes after the normalisation: before it, it would make features longer, and
        cosines in training smaller than in evaluation.
        """
        with torch.autocast(features.device.type, enabled=False):
            directions = self.dropout(functional.normalize(features.float(), dim=1))
            return directions @ functional.normalize(self.weight.float(), dim=1).T

    def forward(
        self, features: Tensor, labels: Tensor | None = None, margin_share: float = 1.0
    ) -> Tensor:
        """Logits (B, K); the margin only in training and with labels.

        Parameters
        ----------
        features
            (B, F).
        labels
            (B,) classes, or (B, K) shares of the classes in mixed windows: a class that is half
            of a window has half of the margin.
        margin_share
            Share of the full margin, for its warm-up.
        """
        cosines = self.cosines(features)
        if not self.training or labels is None:
            return self.scale * cosines
        if labels.ndim == 1:
            labels = functional.one_hot(labels, cosines.shape[1])
        margins = self.margin * margin_share * labels.to(cosines.dtype)
        if self.kind == "cosface":
            return self.scale * (cosines - margins)
        return self.scale * torch.where(margins > 0, add_to_angle(cosines, margins), cosines)


def add_to_angle(cosines: Tensor, margins: Tensor) -> Tensor:
    """Cosines of the angles after adding margins in radians, falling in the angle everywhere.

    Past half a turn the cosine would rise again; there a straight line takes its place, as in the
    authors' code.
    """
    angles = cosines.clamp(-LARGEST_COSINE, LARGEST_COSINE).acos() + margins
    return torch.where(angles <= math.pi, angles.cos(), cosines - margins * margins.sin())
